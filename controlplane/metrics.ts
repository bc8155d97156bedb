// Metrics of the control plane, with Istio's names where Istio has them. Built on the series table of
// common/telemetry, one writer and one reader in the same thread.
import { collectProcessMetrics, renderSeries } from '../common/telemetry/exposition.ts';
import { SeriesReader, SeriesTable, renderLabels } from '../common/telemetry/series-table.ts';
import type { FamilyDefinition } from '../common/telemetry/series-table.ts';

const FAMILIES = [
  { name: 'pilot_xds_pushes', type: 'counter', help: 'Pushes sent to proxies.' },
  { name: 'pilot_total_xds_rejects', type: 'counter', help: 'Pushes rejected by proxies.' },
  { name: 'pilot_xds', type: 'gauge', help: 'Proxies connected.' },
  { name: 'citadel_server_csr_count', type: 'counter', help: 'Certificate requests received.' },
  {
    name: 'citadel_server_authentication_failure_count',
    type: 'counter',
    help: 'Calls refused because of their identity.',
  },
  {
    name: 'citadel_server_success_cert_issuance_count',
    type: 'counter',
    help: 'Certificates issued.',
  },
  {
    name: 'citadel_server_root_cert_expiry_timestamp',
    type: 'gauge',
    help: 'When the signing certificate or one above it expires, seconds since the epoch.',
  },
  { name: 'ambient_compiles', type: 'counter', help: 'Compilations of the mesh.' },
  { name: 'ambient_compile_failures', type: 'counter', help: 'Compilations that failed.' },
  { name: 'ambient_compile_milliseconds', type: 'gauge', help: 'Time of the last compilation.' },
  { name: 'ambient_resources', type: 'gauge', help: 'Resources served, by type.' },
] as const satisfies readonly FamilyDefinition[];

/** Name of a family. */
export type FamilyName = (typeof FAMILIES)[number]['name'];

/** The counters and gauges. */
export class Counters {
  readonly #reader = new SeriesReader();
  readonly #table: SeriesTable;
  readonly #processMetrics = collectProcessMetrics();

  constructor() {
    this.#table = new SeriesTable(FAMILIES, (message) => this.#reader.apply(message));
  }

  /** Adds to a counter. */
  add(family: FamilyName, labels: Readonly<Record<string, string>> = {}, amount = 1): void {
    const text = renderLabels(Object.entries(labels));
    this.#table.add(this.#table.cell(family, text), amount);
  }

  /** Sets a gauge. */
  set(family: FamilyName, value: number, labels: Readonly<Record<string, string>> = {}): void {
    this.#table.set(this.#table.cell(family, renderLabels(Object.entries(labels))), value);
  }

  /** Prometheus text. */
  async render(): Promise<string> {
    return `${renderSeries([this.#reader])}${await this.#processMetrics()}`;
  }
}
