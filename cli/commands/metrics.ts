// metrics: L4 (from the node proxies) and L7 (from the waypoints) side by side, an edge of the service graph a line.
import type { Command } from 'commander';
import type { RestClient } from '../../common/kube/rest-client.ts';
import { parseSamples, type Sample } from '../../common/telemetry/samples.ts';
import { clusterCommand, openCluster, outputOption, type GlobalOptions } from '../context.ts';
import { formatTable, formatValue, print } from '../output.ts';
import { fetchInPod, isReady, listPods } from '../pods.ts';

/** Totals of one edge. */
export interface Edge {
  readonly layer: 'L4' | 'L7';
  readonly source: string;
  readonly destination: string;
  readonly total: number;
  readonly failed: number;
  readonly security: string;
}

const edgeName = (sample: Sample, side: 'source' | 'destination'): string =>
  `${sample.labels[`${side}_workload_namespace`] ?? 'unknown'}/${sample.labels[`${side}_workload`] ?? 'unknown'}`;

/** Sums samples into edges: connections as the source node proxy saw them, requests as the waypoint did. */
export function buildEdges(samples: readonly Sample[]): Edge[] {
  const edges = new Map<string, { -readonly [Key in keyof Edge]: Edge[Key] }>();
  for (const sample of samples) {
    const { name, labels, value } = sample;
    const isL7 = name === 'istio_requests_total';
    const isOpened =
      name === 'istio_tcp_connections_opened_total' && labels['reporter'] === 'source';
    const isFailed =
      name === 'istio_tcp_connections_failed_total' && labels['reporter'] === 'source';
    if (!isL7 && !isOpened && !isFailed) continue;
    const layer = isL7 ? 'L7' : 'L4';
    const [source, destination] = [edgeName(sample, 'source'), edgeName(sample, 'destination')];
    const key = `${layer}|${source}|${destination}`;
    const security = labels['connection_security_policy'] ?? 'unknown';
    const edge = edges.get(key) ?? { layer, source, destination, total: 0, failed: 0, security };
    if (!isFailed) edge.total += value;
    if (isFailed || (isL7 && Number(labels['response_code']) >= 400)) edge.failed += value;
    edges.set(key, edge);
  }
  return [...edges.values()].sort((x, y) => x.layer.localeCompare(y.layer) || y.total - x.total);
}

async function scrape(client: RestClient): Promise<Sample[]> {
  const ztunnels = await listPods(client, 'istio-system', 'app=ztunnel');
  const waypoints = await listPods(client, undefined, 'gateway.networking.k8s.io/gateway-name');
  const texts = await Promise.all(
    [...ztunnels, ...waypoints]
      .filter(isReady)
      .map((pod) => fetchInPod(client, pod, 'http://127.0.0.1:15020/metrics')),
  );
  return texts.flatMap(parseSamples);
}

/** The `metrics` command. */
export function metricsCommand(): Command {
  return clusterCommand('metrics', 'L4 connections and L7 requests, an edge a line')
    .addOption(outputOption(['json', 'yaml']))
    .action(async (options: GlobalOptions & { output?: 'json' | 'yaml' }) => {
      const client = openCluster(options);
      try {
        const edges = buildEdges(await scrape(client)).filter(
          (edge) =>
            options.namespace === undefined ||
            [edge.source, edge.destination].some((each) =>
              each.startsWith(`${options.namespace ?? ''}/`),
            ),
        );
        if (options.output !== undefined) {
          print(formatValue(edges, options.output));
          return;
        }
        const rows = edges.map((edge) => [
          edge.layer,
          edge.source,
          edge.destination,
          String(edge.total),
          String(edge.failed),
          edge.security,
        ]);
        print(formatTable(['LAYER', 'SOURCE', 'DESTINATION', 'TOTAL', 'FAILED', 'SECURITY'], rows));
      } finally {
        client.close();
      }
    });
}
