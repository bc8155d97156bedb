// What each pod of the node uses of this proxy, as metrics: the same numbers as /connections, read at the scrape.
import type { PodUse } from '../../common/admin/connections.ts';
import { renderLabels } from '../../common/telemetry/series-table.ts';
import type { FamilyDefinition, SeriesTable } from '../../common/telemetry/series-table.ts';

/** A family with where its value comes from. */
interface PodFamily extends FamilyDefinition {
  readonly valueOf: (use: PodUse) => number;
}

const FAMILIES: readonly PodFamily[] = [
  {
    name: 'ambient_pod_connections',
    help: 'Connections that the proxy carries for a pod.',
    type: 'gauge',
    valueOf: ({ inbound, outbound }) => inbound + outbound,
  },
  {
    name: 'ambient_pod_connections_limited',
    help: 'Connections of a pod that were refused by a limit of the pod.',
    type: 'counter',
    valueOf: ({ limitedTotal }) => limitedTotal,
  },
  {
    name: 'ambient_pod_connections_delayed',
    help: 'Connections of a pod accepted while it was held to a rate, as processors were full and others had connections.',
    type: 'counter',
    valueOf: ({ delayedTotal }) => delayedTotal,
  },
  {
    name: 'ambient_pod_handshakes',
    help: 'TLS handshakes for a pod.',
    type: 'counter',
    valueOf: ({ handshakesTotal }) => handshakesTotal,
  },
  {
    name: 'ambient_pod_cpu_seconds',
    help: 'Processor time the proxy spent for a pod, estimated from connections, handshakes and bytes.',
    type: 'counter',
    valueOf: ({ cpuMs }) => cpuMs / 1000,
  },
  {
    name: 'ambient_pod_memory_bytes',
    help: 'Memory the proxy holds for a pod, estimated from connections, tunnels and handshakes.',
    type: 'gauge',
    valueOf: ({ memoryBytes }) => memoryBytes,
  },
];

export const POD_FAMILIES: readonly FamilyDefinition[] = FAMILIES.map(
  ({ name, help, type }): FamilyDefinition => ({ name, help, type }),
);

/** Keeps one series of each family for a pod, as long as the pod is there. */
export class PodMetrics {
  readonly #table: SeriesTable;
  /** Label texts shown now. */
  #shown = new Set<string>();

  constructor(table: SeriesTable) {
    this.#table = table;
  }

  /** Before a scrape: what the pods use now; those that have left are removed. */
  set(pods: readonly PodUse[]): void {
    const shown = new Set<string>();
    for (const use of pods) {
      const labels = renderLabels([
        ['pod', use.name],
        ['namespace', use.namespace],
      ]);
      shown.add(labels);
      for (const { name, valueOf } of FAMILIES) {
        this.#table.set(this.#table.cell(name, labels), valueOf(use));
      }
    }
    for (const labels of this.#shown) {
      if (shown.has(labels)) continue;
      for (const { name } of FAMILIES) this.#table.remove(name, labels);
    }
    this.#shown = shown;
  }
}
