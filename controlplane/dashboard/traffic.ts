// The traffic between workloads and services as a graph, from the proxies' own counters: L4 from the node proxies
// (as the source saw it), L7 from the waypoints, or observed by node proxies where there is none. Pure. Counts only grow; who shows them makes rates of them.
import {
  OBSERVED_DURATION,
  OBSERVED_REQUESTS,
  observedRequests,
} from '../../common/telemetry/observed-requests.ts';
import { quantile, type Sample } from '../../common/telemetry/samples.ts';

const SERVED = {
  requests: 'istio_requests_total',
  duration: 'istio_request_duration_milliseconds',
};
const OBSERVED = { requests: OBSERVED_REQUESTS, duration: OBSERVED_DURATION };
const NOTHING: ReadonlyMap<number, number> = new Map();

/** Counters of one pair at L4. */
export interface L4Edge {
  readonly source: string;
  readonly destination: string;
  connections: number;
  bytes: number;
  refused: number;
  /** Connections by how they were secured, as in the metrics: `mutual_tls`, `node_local`, `unknown`. */
  readonly security: Record<string, number>;
}

/** Counters of one pair at L7. */
export interface L7Edge {
  readonly source: string;
  readonly destination: string;
  /** Empty: observed on their way by node proxies. */
  readonly waypoint: string;
  requests: number;
  errors: number;
  refused: number;
  /** Undefined when nothing was served lately. */
  readonly p50Ms: number | undefined;
  readonly p99Ms: number | undefined;
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
    const fresh = { connections: 0, bytes: 0, refused: 0 };
    const edge: L4Edge = edges.get(key) ?? { source, destination, ...fresh, security: {} };
    edges.set(key, edge);
    if (isRefusal) edge.refused += value;
    else if (name === 'istio_tcp_connections_opened_total') {
      edge.connections += value;
      const security = labels['connection_security_policy'] ?? 'unknown';
      edge.security[security] = (edge.security[security] ?? 0) + value;
    } else if (name.endsWith('_bytes_total')) edge.bytes += value;
  }
  return [...edges.values()].filter(
    ({ connections, bytes, refused }) => connections + bytes + refused > 0,
  );
}

type Buckets = Map<number, number>;

const keyOf = (labels: Labels): string => `${sourceOf(labels)} ${destinationOf(labels)}`;

/** The histograms of the durations of each pair. */
function durationsOf(samples: readonly Sample[], metric: string): Map<string, Buckets> {
  const found = new Map<string, Buckets>();
  for (const { name, labels, value } of samples) {
    if (name !== `${metric}_bucket`) continue;
    const key = keyOf(labels);
    const buckets = found.get(key) ?? new Map<number, number>();
    found.set(key, buckets);
    const bound = labels['le'] === '+Inf' ? Infinity : Number(labels['le']);
    buckets.set(bound, (buckets.get(bound) ?? 0) + value);
  }
  return found;
}

/** What the waypoint named `waypoint` served; latencies are those since an earlier reading of the same waypoint. */
export function buildL7(
  samples: readonly Sample[],
  waypoint: string,
  earlier: readonly Sample[] = [],
): L7Edge[] {
  return edgesOf(SERVED, waypoint, samples, earlier);
}

/** What node proxies observed, all of them together. What a waypoint passed on is that waypoint's to tell. */
export function buildObservedL7(
  samples: readonly Sample[],
  waypoints: ReadonlySet<string>,
  earlier: readonly Sample[] = [],
): L7Edge[] {
  const own = (all: readonly Sample[]): Sample[] =>
    observedRequests(all).filter(({ labels }) => !waypoints.has(sourceOf(labels)));
  return edgesOf(OBSERVED, '', own(samples), own(earlier));
}

function edgesOf(
  metrics: typeof SERVED,
  waypoint: string,
  samples: readonly Sample[],
  earlier: readonly Sample[],
): L7Edge[] {
  const edges = new Map<string, L7Edge>();
  const now = durationsOf(samples, metrics.duration);
  const before = durationsOf(earlier, metrics.duration);
  for (const { name, labels, value } of samples) {
    if (name !== metrics.requests) continue;
    const key = keyOf(labels);
    const latency = (q: number): number | undefined =>
      quantile(q, now.get(key) ?? NOTHING, before.get(key) ?? NOTHING);
    const edge = edges.get(key) ?? {
      source: sourceOf(labels),
      destination: destinationOf(labels),
      waypoint,
      ...{ requests: 0, errors: 0, refused: 0 },
      ...{ p50Ms: latency(0.5), p99Ms: latency(0.99) },
    };
    edges.set(key, edge);
    edge.requests += value;
    const code = labels['response_code'] ?? labels['response_code_class'] ?? '';
    if (code.startsWith('5') || code === '0' || code === 'none') edge.errors += value;
    if (code === '403') edge.refused += value;
  }
  return [...edges.values()];
}
