// metrics: L4 (from the node proxies) and L7 (from the waypoints, and what node proxies observed without one) as tables, an
// edge of the service graph a line.
import type { Command } from 'commander';
import { parseSamples, type Sample } from '../../common/telemetry/samples.ts';
import {
  clusterCommand,
  outputOption,
  SYSTEM_NAMESPACE,
  withCluster,
  type Cluster,
  type GlobalOptions,
} from '../context.ts';
import { formatBytes, formatTable, formatValue, print } from '../output.ts';
import { fetchInPod, isReady, listPods } from '../pods.ts';
import {
  connectionEdges,
  observedEdges,
  requestEdges,
  type ConnectionEdge,
  type RequestEdge,
} from '../traffic.ts';

const METRICS_URL = 'http://localhost:15020/metrics';

interface MetricsOptions extends GlobalOptions {
  readonly output?: 'json' | 'yaml';
  readonly layer?: 'l4' | 'l7';
}

async function scrape(cluster: Cluster): Promise<Sample[]> {
  const { client } = cluster;
  const [ztunnels, waypoints] = await Promise.all([
    listPods(client, SYSTEM_NAMESPACE, 'app=ztunnel'),
    listPods(client, undefined, 'gateway.networking.k8s.io/gateway-name'),
  ]);
  const texts = await Promise.all(
    [...ztunnels, ...waypoints]
      .filter(isReady)
      .map((pod) => fetchInPod(cluster, pod, { url: METRICS_URL })),
  );
  return texts.flatMap(parseSamples);
}

/** Rows of the L4 table. */
function connectionRows(edges: readonly ConnectionEdge[]): string[][] {
  return edges.map((edge) => [
    edge.source,
    edge.destination,
    edge.security,
    String(edge.opened),
    String(edge.opened - edge.closed),
    String(edge.failed),
    formatBytes(edge.sentBytes),
    formatBytes(edge.receivedBytes),
  ]);
}

function requestRows(edges: readonly RequestEdge[]): string[][] {
  const ms = (value: number | undefined): string =>
    value === undefined ? '-' : value.toFixed(value < 10 ? 1 : 0);
  return edges.map((edge) => [
    edge.source,
    edge.destination,
    edge.service.split('.')[0] ?? '',
    edge.protocol,
    String(edge.total),
    ...['2xx', '3xx', '4xx', '5xx'].map((word) => String(edge.codes[word] ?? 0)),
    ms(edge.p50),
    ms(edge.p99),
  ]);
}

const L4_HEAD = 'SOURCE,DESTINATION,SECURITY,OPENED,OPEN,FAILED,SENT,RECEIVED'.split(',');
const L7_HEAD = 'SOURCE,DESTINATION,SERVICE,PROTOCOL,REQUESTS,2XX,3XX,4XX,5XX,P50 MS,P99 MS'.split(
  ',',
);

interface Edges {
  readonly l4: readonly ConnectionEdge[];
  readonly l7: readonly RequestEdge[];
  /** By node proxies, on their way. */
  readonly l7Observed: readonly RequestEdge[];
}

function printTables({ l4, l7, l7Observed }: Edges, layer: 'l4' | 'l7' | undefined): void {
  if (layer !== 'l7') {
    print('L4: connections, at the node proxies');
    print(l4.length === 0 ? 'none yet' : formatTable(L4_HEAD, connectionRows(l4)));
  }
  if (layer === undefined) print('');
  if (layer !== 'l4') {
    print('L7: requests, at the waypoints');
    print(l7.length === 0 ? 'none yet' : formatTable(L7_HEAD, requestRows(l7)));
    if (l7Observed.length === 0) return;
    print('');
    print('L7 without a waypoint: requests observed on their way, at the node proxies');
    print(formatTable(L7_HEAD, requestRows(l7Observed)));
  }
}

/** The `metrics` command. */
export function metricsCommand(): Command {
  return clusterCommand('metrics', 'connections (L4) and requests (L7) between workloads')
    .option('--l4', 'only connections', false)
    .option('--l7', 'only requests', false)
    .addOption(outputOption(['json', 'yaml']))
    .action((options: MetricsOptions & { l4: boolean; l7: boolean }) =>
      withCluster(options, async (cluster) => {
        const samples = await scrape(cluster);
        const { namespace } = options;
        const isShown = (edge: { source: string; destination: string }): boolean =>
          namespace === undefined ||
          [edge.source, edge.destination].some((each) => each.startsWith(`${namespace}/`));
        const l4 = connectionEdges(samples).filter(isShown);
        const l7 = requestEdges(samples).filter(isShown);
        const l7Observed = observedEdges(samples).filter(isShown);
        const layer = options.l4 === options.l7 ? undefined : options.l4 ? 'l4' : 'l7';
        if (options.output === undefined) {
          printTables({ l4, l7, l7Observed }, layer);
          return;
        }
        const value = {
          ...(layer === 'l7' ? {} : { l4 }),
          ...(layer === 'l4' ? {} : { l7, l7Observed }),
        };
        print(formatValue(value, options.output));
      }),
    );
}
