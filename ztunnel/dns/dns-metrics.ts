// Metrics of the DNS proxy, with Istio's names and labels. That a name does not exist is an
// answer, not an upstream failure.
import { renderLabels } from '../../common/telemetry/series-table.ts';
import type { FamilyDefinition, SeriesTable } from '../../common/telemetry/series-table.ts';
import type { Workload } from '../../common/workload/model.ts';
import type { DnsTransport } from './upstream-attempt.ts';

const DURATION_BUCKETS = [0.0005, 0.001, 0.01, 0.1, 1, 5];

export const DNS_FAMILIES: readonly FamilyDefinition[] = [
  {
    name: 'istio_dns_requests',
    help: 'Total number of DNS requests (unstable).',
    type: 'counter',
  },
  {
    name: 'istio_dns_upstream_requests',
    help: 'Total number of DNS requests forwarded to upstream (unstable).',
    type: 'counter',
  },
  {
    name: 'istio_dns_upstream_failures',
    help: 'Total number of DNS requests forwarded to upstream which were not answered (unstable).',
    type: 'counter',
  },
  {
    name: 'istio_dns_upstream_request_duration_seconds',
    help: 'Total time in seconds Istio takes to get DNS response from upstream (unstable).',
    type: 'histogram',
    buckets: DURATION_BUCKETS,
  },
  {
    name: 'ambient_dns_refused',
    help: 'DNS queries not served because their pod was over a limit.',
    type: 'counter',
  },
];

/** Types a series is made for; a pod could ask for 65,536. */
const KNOWN_TYPES = new Set(
  'A AAAA ANY AXFR CAA CNAME DNSKEY DS HTTPS IXFR MX NAPTR NS PTR SOA SRV SVCB TXT'.split(' '),
);

/** Label sets that are kept; the one that was not used for longest goes first. */
const MAX_LABEL_SETS = 2000;

/** Counts on the control thread's table. */
export class DnsMetrics {
  readonly #table: SeriesTable;
  /** In the order of their last use. */
  readonly #used = new Set<string>();

  constructor(table: SeriesTable) {
    this.#table = table;
  }

  countRequest(labels: string): void {
    this.#add('istio_dns_requests', labels);
  }

  countRefused(labels: string): void {
    this.#add('ambient_dns_refused', labels);
  }

  /** A question was forwarded and answered, or not, after `seconds`. */
  countUpstream(labels: string, seconds: number, isFailure: boolean): void {
    this.#add('istio_dns_upstream_requests', labels);
    if (isFailure) this.#add('istio_dns_upstream_failures', labels);
    const cell = this.#table.cell('istio_dns_upstream_request_duration_seconds', labels);
    this.#table.observe(cell, DURATION_BUCKETS, seconds);
  }

  #add(family: string, labels: string): void {
    this.#used.delete(labels);
    this.#used.add(labels);
    if (this.#used.size > MAX_LABEL_SETS) this.#dropOldest();
    this.#table.add(this.#table.cell(family, labels), 1);
  }

  #dropOldest(): void {
    for (const oldest of this.#used) {
      this.#used.delete(oldest);
      for (const { name } of DNS_FAMILIES) this.#table.remove(name, oldest);
      return;
    }
  }
}

/** The label text of a query. Types without a series of their own are `other`. */
export function dnsLabels(
  type: string,
  transport: DnsTransport,
  client: Pick<Workload, 'canonicalName' | 'canonicalRevision'> | undefined,
): string {
  return renderLabels([
    ['request_query_type', KNOWN_TYPES.has(type) ? type.toLowerCase() : 'other'],
    ['request_protocol', transport],
    ['source_canonical_service', client?.canonicalName || 'unknown'],
    ['source_canonical_revision', client?.canonicalRevision || 'unknown'],
  ]);
}
