// What a data thread is told: local pods always, addresses once asked for, and everything a decision can touch.
import assert from 'node:assert/strict';
import { describe, it } from 'node:test';
import type { AddressResource, Service, Workload } from '../../../../common/workload/model.ts';
import { WorkloadStore } from '../../../../common/workload/store.ts';
import { StatePublisher } from '../../../../ztunnel/state/publisher.ts';
import type { Publication } from '../../../../ztunnel/state/publisher.ts';
import { makeService, makeWorkload, memberOf } from '../../../support/mesh-builders.ts';

const asResource = (value: Workload | Service): AddressResource =>
  'uid' in value ? { kind: 'workload', workload: value } : { kind: 'service', service: value };
const namesOf = (publication: Publication | undefined): string[] =>
  (publication?.upserts ?? [])
    .map((one) => (one.kind === 'workload' ? one.workload.name : `service ${one.service.name}`))
    .sort();

function setUp(max?: number): {
  publisher: StatePublisher;
  put: (...values: (Workload | Service)[]) => Publication | undefined;
  remove: (name: string) => Publication | undefined;
} {
  const store = new WorkloadStore();
  const publisher = new StatePublisher(store, ({ node }) => node === 'here', max);
  return {
    publisher,
    put: (...values) => {
      const resources = values.map(asResource);
      for (const resource of resources) store.upsert(resource);
      return publisher.publish(resources, []);
    },
    remove: (name) => {
      store.remove(name);
      return publisher.publish([], [name]);
    },
  };
}

const local = makeWorkload('local', '10.0.0.1', { node: 'here', services: memberOf('own') });
const web = makeService('web', '10.96.0.1', {
  waypoint: {
    kind: 'hostname',
    namespace: 'default',
    hostname: 'gate.default.svc.cluster.local',
    port: 15008,
  },
});
const gate = makeService('gate', '10.96.0.9');
const backend = makeWorkload('backend', '10.0.0.2', { services: memberOf('web') });
const gatePod = makeWorkload('gate-pod', '10.0.0.9', { services: memberOf('gate') });
const other = makeWorkload('other', '10.0.0.7', { services: memberOf('unrelated') });

describe('StatePublisher', () => {
  it('pushes local workloads with the records of their services', () => {
    const { put } = setUp();
    assert.deepEqual(namesOf(put(makeService('own', '10.96.0.3'), local, other)), [
      'local',
      'service own',
    ]);
  });

  it('answers a service with endpoints and waypoint, and nothing else', () => {
    const { publisher, put } = setUp();
    put(web, gate, backend, gatePod, other);
    const answer = publisher.lookup('/10.96.0.1');
    assert.deepEqual(namesOf(answer), ['backend', 'gate-pod', 'service gate', 'service web']);
    assert.deepEqual(answer.answers, ['/10.96.0.1']);
  });

  it('pushes later changes of what was asked for', () => {
    const { publisher, put, remove } = setUp();
    put(web, backend);
    publisher.lookup('/10.96.0.1');
    assert.deepEqual(
      namesOf(put(makeWorkload('second', '10.0.0.3', { services: memberOf('web') }))),
      ['second'],
    );
    assert.deepEqual(namesOf(put(gate, gatePod)), ['gate-pod', 'service gate']);
    assert.deepEqual(remove(backend.uid)?.removed, [backend.uid]);
    assert.equal(put(other), undefined);
    assert.equal(remove(other.uid), undefined);
  });

  it('pushes what appears at an address that was empty', () => {
    const { publisher, put } = setUp();
    assert.deepEqual(namesOf(publisher.lookup('/10.96.0.1')), []);
    assert.deepEqual(namesOf(put(backend, web)), ['backend', 'service web']);
  });

  it('pushes a service waypoint that is added later', () => {
    const { publisher, put } = setUp();
    put({ ...web, waypoint: undefined }, backend, gate, gatePod);
    publisher.lookup('/10.96.0.1');
    assert.deepEqual(namesOf(put(web)), ['gate-pod', 'service gate', 'service web']);
  });

  it('pushes a waypoint that is known by a name of its own, here or later, and the one that replaces it', () => {
    const hostname = 'gate.default.svc.cluster.local';
    const first = makeWorkload('gate-1', '10.0.0.8', { hostname });
    const second = makeWorkload('gate-2', '10.0.0.9', { hostname });
    const elsewhere = makeWorkload('gate-3', '10.0.0.6', { hostname, namespace: 'elsewhere' });
    const known = setUp();
    known.put(web, backend, first);
    assert.deepEqual(namesOf(known.publisher.lookup('/10.96.0.1')), [
      'backend',
      'gate-1',
      'service web',
    ]);
    const { publisher, put, remove } = setUp();
    put(web, backend);
    publisher.lookup('/10.96.0.1');
    assert.deepEqual(namesOf(put(first)), ['gate-1']);
    assert.deepEqual(remove(first.uid)?.removed, [first.uid]);
    assert.deepEqual(namesOf(put(second)), ['gate-2']);
    assert.equal(put(elsewhere), undefined);
  });

  it('starts over when too many addresses were asked for', () => {
    const { publisher, put } = setUp(2);
    put(local, web, backend);
    publisher.lookup('/10.96.0.1');
    publisher.lookup('/1.1.1.1');
    const answer = publisher.lookup('/2.2.2.2');
    assert.equal(answer.isReset, true);
    assert.deepEqual(namesOf(answer), ['local']);
    assert.equal(put(backend), undefined);
  });
});
