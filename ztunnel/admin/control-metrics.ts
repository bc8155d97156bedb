// Metrics of the control thread: xDS, build, pods. The data thread counts traffic.
import {
  CERTIFICATE_FAMILIES,
  CertificateMetrics,
} from '../../common/identity/certificate-metrics.ts';
import { renderLabels } from '../../common/telemetry/series-table.ts';
import type { FamilyDefinition, SeriesTable } from '../../common/telemetry/series-table.ts';
import type { PodConnections } from '../holder/messages.ts';

export const CONTROL_FAMILIES: readonly FamilyDefinition[] = [
  {
    name: 'istio_xds_connection_terminations',
    help: 'The total number of completed connections to xds server (unstable).',
    type: 'counter',
  },
  {
    name: 'istio_xds_message',
    help: 'Total number of messages received (unstable).',
    type: 'counter',
  },
  {
    name: 'istio_xds_message_bytes',
    help: 'Total number of bytes received (unstable).',
    type: 'counter',
  },
  { name: 'istio_build', help: 'Istio component build info.', type: 'gauge' },
  {
    name: 'workload_manager_active_proxy_count',
    help: 'The total number current workloads with active proxies (unstable).',
    type: 'gauge',
  },
  {
    name: 'workload_manager_pending_proxy_count',
    help: 'The total number current workloads with pending proxies (unstable).',
    type: 'gauge',
  },
  {
    name: 'workload_manager_proxies_started',
    help: 'The total number of proxies that were started (unstable).',
    type: 'counter',
  },
  {
    name: 'workload_manager_proxies_stopped',
    help: 'The total number of proxies that were stopped (unstable).',
    type: 'counter',
  },
  {
    name: 'ambient_log_lines_dropped',
    help: 'Log lines that were not written because the reader of the log stalled.',
    type: 'counter',
  },
  {
    name: 'ambient_draining_connections',
    help: 'Connections of a pod that a draining proxy process still carries.',
    type: 'gauge',
  },
  {
    name: 'ambient_proxy_crashes',
    help: 'Proxy processes that died and were started again since the container started.',
    type: 'counter',
  },
  ...CERTIFICATE_FAMILIES,
];

/** Numbers of the pod registry. */
export interface PodCounts {
  readonly activeCount: number;
  readonly pendingCount: number;
  readonly startedCount: number;
  readonly stoppedCount: number;
}

/** Counts on the control thread's table. */
export class ControlMetrics {
  readonly #table: SeriesTable;
  readonly certificates: CertificateMetrics;
  /** Label texts of the draining connections shown now, by process. */
  readonly #draining = new Map<number, string[]>();

  constructor(table: SeriesTable, version: string) {
    this.#table = table;
    this.certificates = new CertificateMetrics(table);
    const labels = renderLabels([
      ['component', 'ztunnel'],
      ['tag', version],
    ]);
    table.set(table.cell('istio_build', labels), 1);
  }

  countStreamEnd(reason: string): void {
    const labels = renderLabels([['reason', reason]]);
    this.#table.add(this.#table.cell('istio_xds_connection_terminations', labels), 1);
  }

  countMessage(url: string, bytes: number): void {
    const labels = renderLabels([['url', url]]);
    this.#table.add(this.#table.cell('istio_xds_message', labels), 1);
    this.#table.add(this.#table.cell('istio_xds_message_bytes', labels), bytes);
  }

  setCrashes(count: number): void {
    this.#table.set(this.#table.cell('ambient_proxy_crashes', ''), count);
  }

  /** Replaces what is shown of a draining process; pods without connections are left out. */
  setDraining(process: number, pods: readonly PodConnections[]): void {
    const family = 'ambient_draining_connections';
    for (const labels of this.#draining.get(process) ?? []) this.#table.remove(family, labels);
    this.#draining.delete(process);
    const shown: string[] = [];
    for (const { name, namespace, connections } of pods) {
      if (connections === 0) continue;
      const labels = renderLabels([
        ['pod', name],
        ['namespace', namespace],
        ['process', String(process)],
      ]);
      this.#table.set(this.#table.cell(family, labels), connections);
      shown.push(labels);
    }
    if (shown.length > 0) this.#draining.set(process, shown);
  }

  /** Before a scrape: what others count. */
  collect(counts: PodCounts, droppedLogLines: number): void {
    const cell = (name: string): number => this.#table.cell(name, '');
    this.#table.set(cell('workload_manager_active_proxy_count'), counts.activeCount);
    this.#table.set(cell('workload_manager_pending_proxy_count'), counts.pendingCount);
    this.#table.set(cell('workload_manager_proxies_started'), counts.startedCount);
    this.#table.set(cell('workload_manager_proxies_stopped'), counts.stoppedCount);
    this.#table.set(cell('ambient_log_lines_dropped'), droppedLogLines);
  }
}
