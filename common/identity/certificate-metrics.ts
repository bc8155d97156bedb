// Metrics of a proxy's certificates and revocation lists, on the control thread's table. Labels are bounded by the
// identities that the proxy has certificates for; those of identities that are gone are removed.
import { renderLabels } from '../telemetry/series-table.ts';
import type { FamilyDefinition, SeriesTable } from '../telemetry/series-table.ts';
import type { ProxySecrets } from './proxy-secrets.ts';

const EXPIRY = 'ambient_certificate_expiry_seconds';
const FAILURES = 'ambient_certificate_request_failures';
const UNTRACKED = 'istio_crl_untracked_connections';

export const CERTIFICATE_FAMILIES: readonly FamilyDefinition[] = [
  {
    name: EXPIRY,
    help: 'Seconds until the certificate of an identity expires; 0 or less without a valid one.',
    type: 'gauge',
  },
  { name: FAILURES, help: 'Certificate requests to the CA that failed.', type: 'counter' },
  {
    name: UNTRACKED,
    help: 'Connections that later revocations would not reach (unstable): none, all are looked at.',
    type: 'counter',
  },
];

/** Writes them. */
export class CertificateMetrics {
  readonly #table: SeriesTable;
  /** Label texts of the certificates shown now. */
  #shown = new Set<string>();

  constructor(table: SeriesTable) {
    this.#table = table;
    for (const reporter of ['source', 'destination']) {
      table.set(table.cell(UNTRACKED, renderLabels([['reporter', reporter]])), 0);
    }
  }

  /** Before a scrape: the certificates of now. */
  update({ health, failures }: Pick<ProxySecrets, 'health' | 'failures'>): void {
    const table = this.#table;
    table.set(table.cell(FAILURES, ''), failures());
    const shown = new Set<string>();
    for (const { identity, secondsLeft } of health()) {
      const labels = renderLabels([['identity', identity]]);
      shown.add(labels);
      // One that there never was has no time left.
      table.set(table.cell(EXPIRY, labels), secondsLeft ?? 0);
    }
    for (const labels of this.#shown) {
      if (!shown.has(labels)) table.remove(EXPIRY, labels);
    }
    this.#shown = shown;
  }
}
