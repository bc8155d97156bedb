// The connections of a pod: registered before anything is decided, ended together, counted after their end. Istio
// ztunnel's test_connection_manager_* say the same.
import assert from 'node:assert/strict';
import { describe, it } from 'node:test';
import { SeriesTable } from '../../../../common/telemetry/series-table.ts';
import { ConnectionManager } from '../../../../ztunnel/proxy/connection-manager.ts';
import { ConnectionRecorder } from '../../../../ztunnel/proxy/connection-result.ts';
import type { OpenConnection } from '../../../../ztunnel/proxy/connection-result.ts';
import { TRAFFIC_FAMILIES } from '../../../../ztunnel/proxy/traffic-families.ts';
import { makeWorkload } from '../../../support/mesh-builders.ts';
import { quietLogger } from '../../../support/quiet-logger.ts';

const recorder = new ConnectionRecorder(
  new SeriesTable(TRAFFIC_FAMILIES, () => undefined),
  quietLogger(),
);

function setUp(): {
  manager: ConnectionManager;
  sizes: number[];
  aborted: string[];
  open: (
    direction: 'inbound' | 'outbound',
    src: string,
  ) => { record: OpenConnection; end: () => void };
} {
  const sizes: number[] = [];
  const aborted: string[] = [];
  const manager: ConnectionManager = new ConnectionManager(() => sizes.push(manager.size));
  const open = (direction: 'inbound' | 'outbound', src: string) => {
    const parties = {
      ...{ direction, source: makeWorkload('client', '10.0.0.1'), destination: undefined },
      ...{ sourceBaggage: undefined, sourceIdentity: undefined, destinationIdentity: undefined },
      service: undefined,
    };
    const record = recorder.open(parties, { src, dst: '10.0.0.2:80' }, 0);
    const dump = { src, originalDst: null, actualDst: '10.0.0.2:80', protocol: 'TCP' } as const;
    let end = (): void => undefined;
    end = manager.register({
      direction,
      dump: () => dump,
      record,
      facts: undefined,
      abort: (reason, detail) => {
        aborted.push(`${src} ${reason} ${detail}`);
        end();
      },
    });
    return { record, end };
  };
  return { manager, sizes, aborted, open };
}

describe('the connections of a pod', () => {
  it('are those that were registered and have not ended, by direction', () => {
    const { manager, sizes, open } = setUp();
    const first = open('inbound', '10.0.0.1:1');
    open('inbound', '10.0.0.1:2');
    open('outbound', '10.0.0.1:3');
    const shown = (direction: 'inbound' | 'outbound'): string[] =>
      manager.dumps(direction).map(({ src }) => src);
    assert.deepEqual(shown('inbound'), ['10.0.0.1:1', '10.0.0.1:2']);
    assert.deepEqual(shown('outbound'), ['10.0.0.1:3']);
    first.end();
    assert.deepEqual(shown('inbound'), ['10.0.0.1:2']);
    assert.deepEqual([manager.count('inbound'), manager.count('outbound')], [1, 1]);
    assert.deepEqual(sizes, [1, 2, 3, 2]);
    assert.equal(manager.openedTotal, 3);
  });

  it('all end with their pod, each told the reason once, also when that ends others', () => {
    const { manager, aborted, open } = setUp();
    open('inbound', '10.0.0.1:1');
    open('outbound', '10.0.0.1:2');
    manager.abortAll('pod_removed', 'gone');
    assert.deepEqual(aborted, ['10.0.0.1:1 pod_removed gone', '10.0.0.1:2 pod_removed gone']);
    assert.equal(manager.size, 0);
    manager.abortAll('pod_removed', 'again');
    assert.equal(aborted.length, 2);
  });

  it('end at once when they come after their pod has ended', () => {
    const { manager, aborted, open } = setUp();
    manager.abortAll('pod_removed', 'gone');
    open('inbound', '10.0.0.1:1');
    assert.deepEqual(aborted, ['10.0.0.1:1 pod_removed gone']);
  });

  it('leave their bytes to the pod when they end', () => {
    const { manager, open } = setUp();
    const { record, end } = open('inbound', '10.0.0.1:1');
    record.addForward(10);
    record.addBackward(300);
    assert.deepEqual(manager.bytes(), { received: 10, sent: 300 });
    end();
    assert.deepEqual(manager.bytes(), { received: 10, sent: 300 });
  });
});
