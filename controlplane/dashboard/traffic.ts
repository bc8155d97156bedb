// The traffic between workloads and services as a graph, from the proxies' own counters: L4 from the node proxies
// (as the source saw it), L7 from the waypoints. Pure. Counts only grow; who shows them makes rates of them.
import { quantile, type Sample } from '../../common/telemetry/samples.ts';

const DURATION = 'istio_request_duration_milliseconds';
const NOTHING: ReadonlyMap<number, number> = new Map();

/** Counters of one pair at L4. */
export interface L4Edge {
  readonly source: string;
  readonly destination: string;
  connections: number;
  bytes: number;
  refused: number;
  isMutualTls: boolean;
}

/** Counters of one pair at L7. */
export interface L7Edge {
  readonly source: string;
  readonly destination: string;
  readonly waypoint: string;
  requests: number;
  errors: number;
  refused: number;
  p50Ms: number | undefined;
  p99Ms: number | undefined;
}

type Labels = Readonly<Record<string, string>>;

const known = (value: string | undefined): value is string =>
  value !== undefined && value !== '' && value !== 'unknown';

function sourceOf(labels: Labels): string {
  const { source_workload: name, source_workload_namespace: namespace } = labels;
  return known(name) && known(namespace) ? `${namespace}/${name}` : 'outside the mesh';
}

function destinationOf(labels: Labels): string {
  const { destination_service_name: service, destination_service_namespace: namespace } = labels;
  if (known(service) && known(namespace)) return `${namespace}/${service}`;
  const { destination_workload: workload, destination_workload_namespace: space } = labels;
  return known(workload) && known(space) ? `${space}/${workload}` : 'outside the mesh';
}

/** What the node proxies carried. Both ends count; the source's count is taken, refusals are the destination's. */
export function buildL4(samples: readonly Sample[]): L4Edge[] {
  const edges = new Map<string, L4Edge>();
  for (const { name, labels, value } of samples) {
    if (!name.startsWith('istio_tcp_')) continue;
    const isRefusal = name === 'istio_tcp_connections_failed_total';
    if ((labels['reporter'] === 'source') === isRefusal) continue;
    const source = sourceOf(labels);
    const destination = destinationOf(labels);
    const key = `${source} ${destination}`;
    const fresh = { connections: 0, bytes: 0, refused: 0, isMutualTls: false };
    const edge: L4Edge = edges.get(key) ?? { source, destination, ...fresh };
    edges.set(key, edge);
    if (isRefusal) edge.refused += value;
    else if (name === 'istio_tcp_connections_opened_total') edge.connections += value;
    else if (name.endsWith('_bytes_total')) edge.bytes += value;
    if (labels['connection_security_policy'] === 'mutual_tls') edge.isMutualTls = true;
  }
  return [...edges.values()].filter(
    ({ connections, bytes, refused }) => connections + bytes + refused > 0,
  );
}

/** What the waypoint named `waypoint` served. */
export function buildL7(samples: readonly Sample[], waypoint: string): L7Edge[] {
  const edges = new Map<string, { edge: L7Edge; buckets: Map<number, number> }>();
  for (const { name, labels, value } of samples) {
    if (name !== 'istio_requests_total' && name !== `${DURATION}_bucket`) continue;
    const source = sourceOf(labels);
    const destination = destinationOf(labels);
    const key = `${source} ${destination}`;
    const counts = { requests: 0, errors: 0, refused: 0, p50Ms: undefined, p99Ms: undefined };
    const known = edges.get(key) ?? {
      edge: { source, destination, waypoint, ...counts },
      buckets: new Map<number, number>(),
    };
    edges.set(key, known);
    const code = labels['response_code'] ?? '';
    if (name === 'istio_requests_total') {
      known.edge.requests += value;
      if (code.startsWith('5') || code === '0') known.edge.errors += value;
      if (code === '403') known.edge.refused += value;
    } else {
      const bound = labels['le'] === '+Inf' ? Infinity : Number(labels['le']);
      known.buckets.set(bound, (known.buckets.get(bound) ?? 0) + value);
    }
  }
  return [...edges.values()].map(({ edge, buckets }) => ({
    ...edge,
    p50Ms: quantile(0.5, buckets, NOTHING),
    p99Ms: quantile(0.99, buckets, NOTHING),
  }));
}
