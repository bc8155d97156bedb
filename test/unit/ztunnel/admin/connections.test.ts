// The query of /connections, and the report behind it: order, bound, what a pod has used.
import assert from 'node:assert/strict';
import { describe, it } from 'node:test';
import { SeriesTable } from '../../../../common/telemetry/series-table.ts';
import { parseConnectionQuery } from '../../../../ztunnel/admin/connections.ts';
import { ConnectionManager } from '../../../../ztunnel/proxy/connection-manager.ts';
import { mergeReports, reportConnections } from '../../../../ztunnel/proxy/connection-report.ts';
import type { ReportedPod } from '../../../../ztunnel/proxy/connection-report.ts';
import { ConnectionRecorder } from '../../../../ztunnel/proxy/connection-result.ts';
import { TRAFFIC_FAMILIES } from '../../../../ztunnel/proxy/traffic-families.ts';
import { makeWorkload } from '../../../support/mesh-builders.ts';
import { quietLogger } from '../../../support/quiet-logger.ts';

const NOW_MS = 100_000;
const recorder = new ConnectionRecorder(
  new SeriesTable(TRAFFIC_FAMILIES, () => undefined),
  quietLogger(),
);

function makePod(name: string): ReportedPod {
  const pod = { name, namespace: 'default', serviceAccount: name };
  const use = {
    handshakes: 0,
    handshakesTotal: 2,
    tunnels: 1,
    waiting: 0,
    limitedTotal: 0,
    delayedTotal: 0,
  };
  return { uid: `uid-${name}`, local: { pod }, connections: new ConnectionManager(), use };
}

/** Opens a connection; the returned function ends it. */
function open(pod: ReportedPod, bytes: number, ageMs: number): () => void {
  const record = recorder.open(
    {
      direction: 'outbound',
      source: makeWorkload(pod.local.pod.name, '10.0.0.1'),
      sourceBaggage: undefined,
      sourceIdentity: undefined,
      destination: undefined,
      destinationIdentity: undefined,
      service: undefined,
    },
    { src: '10.0.0.1:1', dst: '10.0.0.2:2' },
    NOW_MS - ageMs,
  );
  record.addForward(bytes);
  return pod.connections.register({
    direction: 'outbound',
    dump: () => ({
      src: '10.0.0.1:1',
      originalDst: null,
      actualDst: '10.0.0.2:2',
      protocol: 'TCP',
    }),
    record,
    facts: undefined,
    abort: () => undefined,
  });
}

describe('the query of /connections', () => {
  const parse = (text: string): ReturnType<typeof parseConnectionQuery> =>
    parseConnectionQuery(new URLSearchParams(text));

  const problem = (text: string): string => {
    const found = parse(text);
    return typeof found === 'string' ? found : 'none';
  };

  it('has defaults', () => {
    assert.deepEqual(parse(''), { top: 1000, sort: 'bytes', pod: undefined });
    assert.deepEqual(parse('top=5&sort=rate&pod=a/b'), { top: 5, sort: 'rate', pod: 'a/b' });
  });

  it('is refused with a reason', () => {
    assert.match(problem('top=10001'), /^top must be/);
    assert.match(problem('top=-1'), /^top must be/);
    assert.match(problem('sort=colour'), /^sort must be one of bytes, age, rate/);
    assert.match(problem('pod=nameonly'), /^pod must be/);
  });
});

describe('reportConnections', () => {
  it('orders by what was asked, and cuts', () => {
    const pod = makePod('a');
    for (const [bytes, ageMs] of [
      [10, 1],
      [500, 1000],
      [100, 2000],
    ] as const) {
      open(pod, bytes, ageMs);
    }
    const order = (sort: 'bytes' | 'age' | 'rate', top = 3): number[] =>
      reportConnections([pod], { top, sort, pod: undefined }, NOW_MS).connections.map(
        ({ bytesReceived }) => bytesReceived,
      );
    assert.deepEqual(order('bytes'), [500, 100, 10]);
    assert.deepEqual(order('age'), [100, 500, 10]);
    assert.deepEqual(order('rate'), [10, 500, 100]);
    assert.deepEqual(order('bytes', 1), [500]);
  });

  it('finds the largest among many without keeping all', () => {
    const pod = makePod('a');
    for (let i = 0; i < 1000; i++) open(pod, (i * 7919) % 1000, 1);
    const report = reportConnections([pod], { top: 3, sort: 'bytes', pod: undefined }, NOW_MS);
    assert.deepEqual(
      report.connections.map(({ bytesReceived }) => bytesReceived),
      [999, 998, 997],
    );
    assert.equal(report.connectionCount, 1000);
    const { connections, connectionCount } = reportConnections(
      [pod],
      { top: 0, sort: 'bytes', pod: undefined },
      NOW_MS,
    );
    assert.deepEqual([connections, connectionCount], [[], 1000]);
  });

  it('a pod keeps account of connections that have ended', () => {
    const busy = makePod('busy');
    const quiet = makePod('quiet');
    open(quiet, 1, 1);
    const end = open(busy, 40, 1);
    end();
    open(busy, 2, 1);
    open(busy, 3, 1);
    const query = { top: 10, sort: 'bytes', pod: undefined } as const;
    const { pods } = reportConnections([quiet, busy], query, NOW_MS);
    assert.deepEqual(
      pods.map(({ name, outbound, openedTotal, bytesReceived }) => [
        name,
        outbound,
        openedTotal,
        bytesReceived,
      ]),
      [
        ['busy', 2, 3, 45],
        ['quiet', 1, 1, 1],
      ],
    );
    const narrowed = reportConnections([quiet, busy], { ...query, pod: 'default/quiet' }, NOW_MS);
    assert.deepEqual([narrowed.pods.length, narrowed.connectionCount], [1, 1]);
    assert.equal(narrowed.connections[0]?.source, 'default/quiet');
  });

  it('reports of several threads are put together: sums by pod, the first of all connections', () => {
    const query = { top: 2, sort: 'bytes', pod: undefined } as const;
    const threads = [1, 2].map((thread) => {
      const pod = makePod('a');
      for (const bytes of [thread, 10 * thread]) open(pod, bytes, 1);
      return reportConnections([pod, makePod(`idle`)], query, NOW_MS);
    });
    const merged = mergeReports(threads, query);
    assert.equal(merged.connectionCount, 4);
    assert.deepEqual(
      merged.connections.map(({ bytesReceived }) => bytesReceived),
      [20, 10],
    );
    assert.equal(merged.pods.length, 2);
    assert.partialDeepStrictEqual(merged.pods[0], {
      name: 'a',
      outbound: 4,
      openedTotal: 4,
      bytesReceived: 33,
      handshakesTotal: 4,
      tunnels: 2,
    });
    assert.deepEqual(mergeReports(threads.slice(1), query), threads[1]);
  });
});
