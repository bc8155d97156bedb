// Metrics of HTTP that was only observed, under names of their own: a waypoint's `istio_requests_total` counts what it
// served. Every label has few values, and the series of workloads that went go.
import { renderLabels } from '../../common/telemetry/series-table.ts';
import type { FamilyDefinition, SeriesTable } from '../../common/telemetry/series-table.ts';
import type { HttpExchange } from '../../engine/observe/types.ts';
import { trafficLabels, withoutPeer } from './traffic-labels.ts';
import type { ConnectionParties } from './traffic-labels.ts';

const REQUESTS = 'ambient_mesh_l7_requests';
const DURATION = 'ambient_mesh_l7_request_duration_milliseconds';
const CONNECTIONS = 'ambient_mesh_l7_connections';

// Istio's, up to a minute: each series is that many lines of a scrape.
const BUCKETS: readonly number[] = [
  0.5, 1, 5, 10, 25, 50, 100, 250, 500, 1000, 2500, 5000, 10_000, 30_000, 60_000,
];

export const L7_SIGHT_FAMILIES: readonly FamilyDefinition[] = [
  {
    name: REQUESTS,
    help: 'HTTP requests that the node proxy observed on sampled connections, on their way.',
    type: 'counter',
  },
  {
    name: DURATION,
    help: 'From the head of a request that the node proxy observed to the end of its answer.',
    type: 'histogram',
    buckets: BUCKETS,
  },
  {
    name: CONNECTIONS,
    help: 'Connections of namespaces that ask for it, by how the observation ended or why there was none.',
    type: 'counter',
  },
];

const LABELS = new Set([
  'reporter',
  'source_workload',
  'source_canonical_service',
  'source_workload_namespace',
  'destination_service',
  'destination_service_namespace',
  'destination_service_name',
  'destination_workload',
  'destination_canonical_service',
  'destination_workload_namespace',
  'connection_security_policy',
]);
// RFC 9110, RFC 5789.
const METHODS = 'GET HEAD POST PUT DELETE CONNECT OPTIONS TRACE PATCH'.split(' ');
const METHOD_AT: ReadonlyMap<string, number> = new Map(METHODS.map((method, at) => [method, at]));

/** Label sets with requests; beyond, requests are counted without their peer's names. */
const MAX_SERIES = 2000;

interface Cells {
  readonly labels: string;
  readonly requests: number;
  readonly duration: number;
}

/** The series of one pair of workloads, while connections between them are observed. */
export class L7Group {
  readonly labels: string;
  /** Workloads (uid) it names. */
  readonly uids: readonly string[];
  readonly #cells = new Map<number | string, Cells>();
  readonly #table: SeriesTable;
  readonly #total: { series: number };
  openCount = 0;
  isStale = false;

  /** `total` is kept for all groups. */
  constructor(
    table: SeriesTable,
    total: { series: number },
    labels: string,
    uids: readonly string[],
  ) {
    this.#table = table;
    this.#total = total;
    this.labels = labels;
    this.uids = uids;
  }

  count(exchange: HttpExchange): void {
    const key = keyOf(exchange);
    const cells = this.#cells.get(key) ?? this.#open(key, exchange);
    this.#table.add(cells.requests, 1);
    this.#table.observe(cells.duration, BUCKETS, exchange.durationMs);
  }

  #open(key: number | string, exchange: HttpExchange): Cells {
    const labels = `${this.labels},${renderLabels(exchangeLabels(exchange))}`;
    const [requests = 0, duration = 0] = this.#table.cells([REQUESTS, DURATION], labels);
    const cells = { labels, requests, duration };
    this.#cells.set(key, cells);
    this.#total.series++;
    return cells;
  }

  /** Forgets its series. */
  remove(): void {
    this.#total.series -= this.#cells.size;
    for (const { labels } of this.#cells.values()) {
      this.#table.remove(REQUESTS, labels);
      this.#table.remove(DURATION, labels);
    }
  }
}

/** All of a thread. */
export class L7Series {
  readonly #table: SeriesTable;
  readonly #groups = new Map<string, L7Group>();
  readonly #total = { series: 0 };

  constructor(table: SeriesTable) {
    this.#table = table;
  }

  /** The group of a connection that is observed; give it back with `close`. */
  open(parties: ConnectionParties): L7Group {
    const shown = this.#total.series >= MAX_SERIES ? withoutPeer(parties) : parties;
    const labels = renderLabels(trafficLabels(shown, '-').filter(([name]) => LABELS.has(name)));
    let group = this.#groups.get(labels);
    if (group === undefined) {
      const uids = [shown.source?.uid, shown.destination?.uid].filter((uid) => uid !== undefined);
      group = new L7Group(this.#table, this.#total, labels, uids);
      this.#groups.set(labels, group);
    }
    group.isStale = false;
    group.openCount++;
    return group;
  }

  close(group: L7Group): void {
    group.openCount--;
  }

  /** A connection was not observed, or no more. */
  countConnection({ direction }: ConnectionParties, outcome: string): void {
    const reporter = direction === 'outbound' ? 'source' : 'destination';
    const labels = renderLabels([
      ['reporter', reporter],
      ['outcome', outcome],
    ]);
    this.#table.add(this.#table.cell(CONNECTIONS, labels), 1);
  }

  /** Workloads have gone: their series go at the next {@link sweep} after this one. */
  markStale(uids: readonly string[]): void {
    const gone = new Set(uids);
    for (const group of this.#groups.values()) {
      if (group.uids.some((uid) => gone.has(uid))) group.isStale = true;
    }
  }

  /** Removes stale series that nothing uses. A stranger's, named by nobody we know, go when they are idle. */
  sweep(): void {
    for (const group of this.#groups.values()) {
      if (group.openCount > 0) continue;
      if (!group.isStale) {
        group.isStale = group.uids.length < 2;
        continue;
      }
      group.remove();
      this.#groups.delete(group.labels);
    }
  }
}

/** What tells requests of a pair apart. Bounded: what a peer writes is one of few words, or `other`. */
export function exchangeLabels(exchange: HttpExchange): (readonly [string, string])[] {
  const { method, status, isGrpc, grpcStatus } = exchange;
  return [
    ['request_protocol', isGrpc ? 'grpc' : 'http'],
    ['request_method', METHOD_AT.has(method) ? method : 'other'],
    ['response_code_class', CODE_CLASSES[codeClass(status)] ?? 'other'],
    ['grpc_response_status', isGrpc ? grpcStatusOf(grpcStatus) : ''],
  ];
}

/** Tells the same apart as {@link exchangeLabels}, without their text, which would be made for each request. */
function keyOf({ method, status, isGrpc, grpcStatus }: HttpExchange): number | string {
  const key = (METHOD_AT.get(method) ?? METHODS.length) * CODE_CLASSES.length + codeClass(status);
  return isGrpc ? `${key} ${grpcStatusOf(grpcStatus)}` : key;
}

const CODE_CLASSES = ['other', '1xx', '2xx', '3xx', '4xx', '5xx', 'none'];

/** Index of its class in {@link CODE_CLASSES}. */
function codeClass(status: number): number {
  if (status === 0) return 6;
  return status >= 100 && status < 600 ? Math.floor(status / 100) : 0;
}

function grpcStatusOf(text: string | undefined): string {
  if (text === undefined) return 'none';
  return /^(?:\d|1[0-6])$/.test(text) ? text : 'other';
}
