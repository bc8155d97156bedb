// L4 metrics at the node proxies and L7 metrics at the waypoint, with Istio's names and labels, growing with the
// traffic. Control: the counts before the requests.
import { sum, type Sample } from '../../common/telemetry/samples.ts';
import type { ProxyMetrics } from '../scrape.ts';
import { require } from './bench.ts';
import type { Statement } from './statement.ts';

const PARTIES = ['source', 'destination'].flatMap((side) =>
  [
    'workload',
    'workload_namespace',
    'principal',
    'app',
    'version',
    'cluster',
    'canonical_service',
    'canonical_revision',
  ].map((name) => `${side}_${name}`),
);
const COMMON = [
  ...PARTIES,
  ...['reporter', 'destination_service', 'destination_service_name'],
  ...['destination_service_namespace', 'request_protocol', 'response_flags'],
  'connection_security_policy',
];
const L4 = ['opened', 'closed']
  .map((what) => `istio_tcp_connections_${what}_total`)
  .concat('istio_tcp_sent_bytes_total', 'istio_tcp_received_bytes_total');
const L7 = [
  'istio_requests_total',
  ...['bucket', 'sum', 'count'].map((part) => `istio_request_duration_milliseconds_${part}`),
];

function requireLabels(samples: readonly Sample[], name: string, labels: readonly string[]): void {
  const found = samples.filter((sample) => sample.name === name);
  require(found.length > 0, `${name} is missing`);
  const lacking = labels.filter((label) => !found.some((sample) => label in sample.labels));
  require(lacking.length === 0, `${name} lacks ${lacking.join()}`);
}

const requests = ({ waypoints }: ProxyMetrics): number =>
  sum(
    waypoints,
    'istio_requests_total',
    (labels) =>
      labels['reporter'] === 'waypoint' &&
      labels['source_principal'] === 'spiffe://cluster.local/ns/bookinfo/sa/curl' &&
      labels['destination_service'] === 'reviews.bookinfo.svc.cluster.local' &&
      labels['response_code'] === '200' &&
      labels['request_protocol'] === 'http' &&
      labels['connection_security_policy'] === 'mutual_tls',
  );
const opened = ({ ztunnels }: ProxyMetrics, reporter: string): number =>
  sum(
    ztunnels,
    'istio_tcp_connections_opened_total',
    (labels) =>
      labels['reporter'] === reporter &&
      labels['destination_service_name'] === 'ratings' &&
      labels['source_workload'] === 'curl',
  );

export const metrics: Statement = {
  name: "metrics: istio_tcp_* at the node proxies, istio_requests_total at the waypoint, Istio's labels",
  async verify(bench) {
    const curl = await bench.pod('bookinfo', 'curl');
    const before = await bench.metrics();
    for (let count = 0; count < 5; count++) {
      await bench.get(curl, 'http://reviews:9080/reviews/0');
      await bench.get(curl, 'http://ratings:9080/ratings/0');
    }
    const after = await bench.until('the counts of five requests', async () => {
      const now = await bench.metrics();
      const isCounted =
        requests(now) - requests(before) === 5 &&
        opened(now, 'source') - opened(before, 'source') === 5 &&
        opened(now, 'destination') - opened(before, 'destination') === 5;
      return isCounted ? now : undefined;
    });
    for (const name of L4) requireLabels(after.ztunnels, name, COMMON);
    for (const name of L7) requireLabels(after.waypoints, name, [...COMMON, 'response_code']);
    return `5 requests counted at L7, 5 connections at L4 on both sides, ${COMMON.length} labels each`;
  },
};
