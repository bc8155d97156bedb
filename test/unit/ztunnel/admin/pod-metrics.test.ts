// What pods use, as metrics: the values of a scrape, and no series of pods that have left.
import assert from 'node:assert/strict';
import { it } from 'node:test';
import type { PodUse } from '../../../../common/admin/connections.ts';
import { renderSeries } from '../../../../common/telemetry/exposition.ts';
import { SeriesReader, SeriesTable } from '../../../../common/telemetry/series-table.ts';
import { POD_FAMILIES, PodMetrics } from '../../../../ztunnel/admin/pod-metrics.ts';

const use = (name: string, more: Partial<PodUse>): PodUse => ({
  ...{ uid: name, name, namespace: 'ns', serviceAccount: 'sa', inbound: 0, outbound: 0 },
  ...{
    openedTotal: 0,
    limitedTotal: 0,
    delayedTotal: 0,
    handshakes: 0,
    handshakesTotal: 0,
    tunnels: 0,
    waiting: 0,
  },
  ...{ cpuMs: 0, memoryBytes: 0, bytesReceived: 0, bytesSent: 0, ...more },
});

it('shows connections, refusals, handshakes, processor time and memory of each pod that is there', () => {
  const reader = new SeriesReader();
  const metrics = new PodMetrics(new SeriesTable(POD_FAMILIES, (message) => reader.apply(message)));
  const lines = (): string[] =>
    renderSeries([reader])
      .split('\n')
      .filter((line) => line !== '' && !line.startsWith('#'));
  const busy = { inbound: 2, outbound: 3, limitedTotal: 4, delayedTotal: 6, handshakesTotal: 5 };
  metrics.set([use('a', { ...busy, cpuMs: 1500, memoryBytes: 4096 }), use('b', { inbound: 1 })]);
  assert.deepEqual(
    lines().filter((line) => line.includes('pod="a"')),
    [
      'ambient_pod_connections{pod="a",namespace="ns"} 5',
      'ambient_pod_connections_limited_total{pod="a",namespace="ns"} 4',
      'ambient_pod_connections_delayed_total{pod="a",namespace="ns"} 6',
      'ambient_pod_handshakes_total{pod="a",namespace="ns"} 5',
      'ambient_pod_cpu_seconds_total{pod="a",namespace="ns"} 1.5',
      'ambient_pod_memory_bytes{pod="a",namespace="ns"} 4096',
    ],
  );
  assert.equal(lines().length, 12);
  metrics.set([use('b', { inbound: 7 })]);
  assert.equal(lines().length, 6);
  assert.equal(lines()[0], 'ambient_pod_connections{pod="b",namespace="ns"} 7');
});
