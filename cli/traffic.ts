// The service graph from the proxies' metrics: connections as the node proxies saw them (L4), requests as the
// waypoints served them (L7) or as node proxies observed them on their way, never mixed.
import {
  OBSERVED_DURATION,
  OBSERVED_REQUESTS,
  observedRequests,
} from '../common/telemetry/observed-requests.ts';
import type { Sample } from '../common/telemetry/samples.ts';
import { buckets, quantile } from '../common/telemetry/samples.ts';

/** Connections from one workload to another. */
export interface ConnectionEdge {
  readonly source: string;
  readonly destination: string;
  readonly security: string;
  readonly opened: number;
  readonly closed: number;
  readonly failed: number;
  readonly sentBytes: number;
  readonly receivedBytes: number;
}

/** Requests from one workload to a service. Durations are milliseconds. */
export interface RequestEdge {
  readonly source: string;
  readonly destination: string;
  readonly service: string;
  readonly protocol: string;
  readonly total: number;
  /** By class: `2xx`. Gateway-made ones included; `0xx` had no answer. */
  readonly codes: Readonly<Record<string, number>>;
  readonly p50: number | undefined;
  readonly p99: number | undefined;
}

const CONNECTION_METRIC = /^istio_tcp_(connections_|sent_|received_)/;

type Labels = Sample['labels'];

function workload(labels: Labels, side: 'source' | 'destination'): string {
  const namespace = labels[`${side}_workload_namespace`] ?? 'unknown';
  return `${namespace}/${labels[`${side}_workload`] ?? 'unknown'}`;
}

function grouped(samples: readonly Sample[], key: (labels: Labels) => string): Sample[][] {
  const groups = new Map<string, Sample[]>();
  for (const sample of samples) {
    const group = key(sample.labels);
    groups.set(group, [...(groups.get(group) ?? []), sample]);
  }
  return [...groups.values()];
}

function total(samples: readonly Sample[], name: string): number {
  return samples.reduce((sum, each) => (each.name === name ? sum + each.value : sum), 0);
}

/** Connections as the source's node proxy counted them; where the source is outside the mesh, the destination's. */
export function connectionEdges(samples: readonly Sample[]): ConnectionEdge[] {
  const tcp = samples.filter(({ name }) => CONNECTION_METRIC.test(name));
  const key = (labels: Labels): string =>
    [
      workload(labels, 'source'),
      workload(labels, 'destination'),
      labels['connection_security_policy'],
    ].join('|');
  const pair = (labels: Labels): string =>
    [workload(labels, 'source'), workload(labels, 'destination')].join('|');
  const bySource = tcp.filter(({ labels }) => labels['reporter'] === 'source');
  const seen = new Set(bySource.map(({ labels }) => pair(labels)));
  const others = tcp.filter(
    ({ labels }) => labels['reporter'] === 'destination' && !seen.has(pair(labels)),
  );
  return grouped([...bySource, ...others], key)
    .map((group) => {
      const labels = group[0]?.labels ?? {};
      return {
        source: workload(labels, 'source'),
        destination: workload(labels, 'destination'),
        security: labels['connection_security_policy'] ?? 'unknown',
        opened: total(group, 'istio_tcp_connections_opened_total'),
        closed: total(group, 'istio_tcp_connections_closed_total'),
        failed: total(group, 'istio_tcp_connections_failed_total'),
        sentBytes: total(group, 'istio_tcp_sent_bytes_total'),
        receivedBytes: total(group, 'istio_tcp_received_bytes_total'),
      };
    })
    .toSorted((a, b) => b.opened - a.opened);
}

/** Requests as the waypoints counted them. */
export function requestEdges(samples: readonly Sample[]): RequestEdge[] {
  const requests = samples.filter(({ name }) => name.startsWith('istio_request'));
  const names = { total: 'istio_requests_total', duration: 'istio_request_duration_milliseconds' };
  return edgesOf(requests, names);
}

/** Requests as the node proxies observed them, without a waypoint. */
export function observedEdges(samples: readonly Sample[]): RequestEdge[] {
  const names = { total: OBSERVED_REQUESTS, duration: OBSERVED_DURATION };
  return edgesOf(observedRequests(samples), names);
}

interface RequestMetrics {
  readonly total: string;
  readonly duration: string;
}

function edgesOf(requests: readonly Sample[], names: RequestMetrics): RequestEdge[] {
  const key = (labels: Labels): string =>
    [
      workload(labels, 'source'),
      workload(labels, 'destination'),
      labels['destination_service'],
      labels['request_protocol'],
    ].join('|');
  return grouped(requests, key)
    .map((group) => {
      const labels = group[0]?.labels ?? {};
      const durations = buckets(group, names.duration);
      return {
        source: workload(labels, 'source'),
        destination: workload(labels, 'destination'),
        service: labels['destination_service'] ?? 'unknown',
        protocol: labels['request_protocol'] ?? 'unknown',
        total: total(group, names.total),
        codes: codeClasses(group, names.total),
        p50: quantile(0.5, durations, new Map()),
        p99: quantile(0.99, durations, new Map()),
      };
    })
    .toSorted((a, b) => b.total - a.total);
}

function codeClasses(group: readonly Sample[], metric: string): Record<string, number> {
  const classes: Record<string, number> = {};
  for (const { name, labels, value } of group) {
    if (name !== metric) continue;
    const code = labels['response_code'] ?? labels['response_code_class'] ?? '';
    const word = /^[1-5]/.test(code) ? `${code.charAt(0)}xx` : '0xx';
    classes[word] = (classes[word] ?? 0) + value;
  }
  return classes;
}
