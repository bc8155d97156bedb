// Istio's request and TCP metrics at a waypoint. Label text is rendered once for each
// combination and its cells are cached; series go when one of their workloads does.
import type { FamilyDefinition, SeriesTable } from '../../common/telemetry/series-table.ts';
import { renderLabels } from '../../common/telemetry/series-table.ts';
import { workloadIdentity } from '../../common/workload/model.ts';
import type { Workload } from '../../common/workload/model.ts';
import type { ConnectionContext } from '../listener/connection-context.ts';
import type { ServiceConfig } from '../state/l7-config.ts';

// Istio's stats filter uses Envoy's default buckets.
const BUCKETS: readonly number[] = [
  0.5, 1, 5, 10, 25, 50, 100, 250, 500, 1000, 2500, 5000, 10_000, 30_000, 60_000, 300_000, 600_000,
  1_800_000, 3_600_000,
];

const REQUESTS = 'istio_requests';
const DURATION = 'istio_request_duration_milliseconds';
const REQUEST_BYTES = 'istio_request_bytes';
const RESPONSE_BYTES = 'istio_response_bytes';
const OPENED = 'istio_tcp_connections_opened';
const CLOSED = 'istio_tcp_connections_closed';
const SENT = 'istio_tcp_sent_bytes';
const RECEIVED = 'istio_tcp_received_bytes';
const REFUSED = 'ambient_mesh_waypoint_refused_connections';

const REVOKED = 'istio_crl_policy_rejections';

const counter = (name: string, help: string): FamilyDefinition => ({ name, help, type: 'counter' });
const histogram = (name: string, help: string): FamilyDefinition => ({
  name,
  help,
  type: 'histogram',
  buckets: BUCKETS,
});

export const WAYPOINT_FAMILIES: readonly FamilyDefinition[] = [
  counter(REQUESTS, 'Requests handled by the waypoint.'),
  histogram(DURATION, 'Duration of requests in milliseconds.'),
  histogram(REQUEST_BYTES, 'Size of request bodies.'),
  histogram(RESPONSE_BYTES, 'Size of response bodies.'),
  counter(OPENED, 'TCP connections opened.'),
  counter(CLOSED, 'TCP connections closed.'),
  counter(SENT, 'Bytes sent to clients of TCP connections.'),
  counter(RECEIVED, 'Bytes received from clients of TCP connections.'),
  counter(REFUSED, 'Connections that ended before a request, by reason.'),
  counter(
    REVOKED,
    'Connections rejected or closed because the certificate of the peer is revoked (unstable).',
  ),
];

/** What a request or connection is counted under. */
export interface TrafficKey {
  readonly context: ConnectionContext;
  readonly service: ServiceConfig | undefined;
  readonly destination: Workload | undefined;
  readonly protocol: 'http' | 'grpc' | 'tcp';
  readonly flags: string;
  /** HTTP only. */
  readonly code: number;
  readonly grpcStatus: number | undefined;
}

interface RequestCells {
  readonly requests: number;
  readonly duration: number;
  readonly requestBytes: number;
  readonly responseBytes: number;
}

/** Cells of a TCP connection. */
export interface TcpCells {
  readonly opened: number;
  readonly closed: number;
  readonly sent: number;
  readonly received: number;
}

/** Writes to the thread's series table. */
export class WaypointMetrics {
  readonly #table: SeriesTable;
  readonly #requests = new Map<string, RequestCells>();
  readonly #tcp = new Map<string, TcpCells>();
  /** Workload uid to the series that name it: family and labels. */
  readonly #byWorkload = new Map<string, Map<string, () => void>>();

  constructor(table: SeriesTable) {
    this.#table = table;
  }

  /** Counts a finished request. */
  addRequest(key: TrafficKey, durationMs: number, received: number, sent: number): void {
    const text = keyText(key);
    const cells = this.#requests.get(text) ?? this.#createRequest(key, text);
    const table = this.#table;
    table.add(cells.requests, 1);
    table.observe(cells.duration, BUCKETS, durationMs);
    table.observe(cells.requestBytes, BUCKETS, received);
    table.observe(cells.responseBytes, BUCKETS, sent);
  }

  /** The cells of a TCP connection; `opened` is counted here. */
  openTcp(key: TrafficKey): TcpCells {
    const text = keyText(key);
    const cells = this.#tcp.get(text) ?? this.#createTcp(key, text);
    this.#table.add(cells.opened, 1);
    return cells;
  }

  add(cell: number, amount: number): void {
    this.#table.add(cell, amount);
  }

  /** Counts a connection that never became a request. Reasons are a closed set of words. */
  addRefused(reason: string): void {
    this.#table.add(this.#table.cell(REFUSED, renderLabels([['reason', reason]])), 1);
  }

  /** Counts connections ended by a revocation list: of callers (`destination`) or to endpoints (`source`). */
  addRevoked(reporter: 'source' | 'destination', count: number): void {
    this.#table.add(this.#table.cell(REVOKED, renderLabels([['reporter', reporter]])), count);
  }

  /** Drops the series that name a workload which is gone. */
  forgetWorkload(uid: string): void {
    for (const drop of this.#byWorkload.get(uid)?.values() ?? []) drop();
    this.#byWorkload.delete(uid);
  }

  #createRequest(key: TrafficKey, text: string): RequestCells {
    const labels = renderLabels(labelsOf(key));
    const cell = (family: string): number => this.#table.cell(family, labels);
    const cells = {
      requests: cell(REQUESTS),
      duration: cell(DURATION),
      requestBytes: cell(REQUEST_BYTES),
      responseBytes: cell(RESPONSE_BYTES),
    };
    this.#requests.set(text, cells);
    this.#own(key, text, () => {
      this.#requests.delete(text);
      for (const family of [REQUESTS, DURATION, REQUEST_BYTES, RESPONSE_BYTES]) {
        this.#table.remove(family, labels);
      }
    });
    return cells;
  }

  #createTcp(key: TrafficKey, text: string): TcpCells {
    const labels = renderLabels(labelsOf(key));
    const cell = (family: string): number => this.#table.cell(family, labels);
    const cells = {
      opened: cell(OPENED),
      closed: cell(CLOSED),
      sent: cell(SENT),
      received: cell(RECEIVED),
    };
    // Open connections hold their cells, so TCP series stay until the process ends.
    this.#tcp.set(text, cells);
    return cells;
  }

  #own(key: TrafficKey, text: string, drop: () => void): void {
    for (const workload of [key.context.sourceWorkload, key.destination]) {
      if (workload === undefined) continue;
      const known = this.#byWorkload.get(workload.uid) ?? new Map<string, () => void>();
      known.set(text, drop);
      this.#byWorkload.set(workload.uid, known);
    }
  }
}

function keyText(key: TrafficKey): string {
  const { context, service, destination, protocol, flags, code, grpcStatus } = key;
  return `${context.sourceWorkload?.uid ?? ''}|${context.peerIdentity ?? ''}|${destination?.uid ?? ''}|${service?.key ?? ''}|${protocol}|${code}|${grpcStatus ?? ''}|${flags}`;
}

const UNKNOWN = 'unknown';

function labelsOf(key: TrafficKey): [string, string][] {
  const { context, service, destination, protocol, flags, code, grpcStatus } = key;
  const source = context.sourceWorkload;
  const labels: [string, string][] = [
    ['reporter', 'waypoint'],
    ...workloadLabels('source', source, context.peerIdentity ?? UNKNOWN),
    ...workloadLabels(
      'destination',
      destination,
      destination === undefined ? UNKNOWN : workloadIdentity(destination),
    ),
    ['destination_service', service?.hostname ?? UNKNOWN],
    ['destination_service_name', service?.name ?? UNKNOWN],
    ['destination_service_namespace', service?.namespace ?? destination?.namespace ?? UNKNOWN],
    ['request_protocol', protocol],
  ];
  if (protocol !== 'tcp') {
    labels.push(['response_code', String(code)]);
    labels.push(['grpc_response_status', grpcStatus === undefined ? '' : String(grpcStatus)]);
  }
  labels.push(['response_flags', flags], ['connection_security_policy', 'mutual_tls']);
  return labels;
}

function workloadLabels(
  side: 'source' | 'destination',
  workload: Workload | undefined,
  principal: string,
): [string, string][] {
  const or = (value: string | undefined): string =>
    value === undefined || value === '' ? UNKNOWN : value;
  return [
    [`${side}_workload`, or(workload?.workloadName)],
    [`${side}_workload_namespace`, or(workload?.namespace)],
    [`${side}_principal`, principal],
    [`${side}_app`, or(workload?.canonicalName)],
    [`${side}_version`, or(workload?.canonicalRevision)],
    [`${side}_cluster`, or(workload?.clusterId)],
    [`${side}_canonical_service`, or(workload?.canonicalName)],
    [`${side}_canonical_revision`, or(workload?.canonicalRevision)],
  ];
}
