// A pod's own record: a connection waits five seconds for it, no longer.
import assert from 'node:assert/strict';
import { after, describe, it } from 'node:test';
import { WorkloadStore } from '../../../common/workload/store.ts';
import { LocalWorkload } from '../../../ztunnel/proxy/local-workload.ts';
import { makeWorkload } from '../../support/mesh-builders.ts';
import { startReactor } from '../engine/support.ts';

const reactor = startReactor();
after(() => reactor.close());

describe('the record of a pod', () => {
  it('is waited for until it comes, by its name, namespace and account', async () => {
    const store = new WorkloadStore();
    const record = makeWorkload('pod', '10.0.0.1', { serviceAccount: 'new' });
    const { name, namespace, serviceAccount } = record;
    const local = new LocalWorkload(store, reactor, { name, namespace, serviceAccount });
    const waiting = local.wait();
    // The pod before it, under the same name.
    store.upsertWorkload({ ...record, uid: 'old', serviceAccount: 'old' });
    local.notify();
    assert.equal(local.current, undefined);
    store.upsertWorkload(record);
    local.notify();
    assert.equal(await waiting, record);
  });

  it('that does not come is given up after five seconds', async () => {
    const pod = { name: 'a', namespace: 'b', serviceAccount: 'c' };
    const local = new LocalWorkload(new WorkloadStore(), reactor, pod);
    const startedMs = performance.now();
    assert.equal(await local.wait(), undefined);
    const tookMs = performance.now() - startedMs;
    assert.ok(tookMs > 4900 && tookMs < 8000, `${tookMs} ms`);
  });
});
