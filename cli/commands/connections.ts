// connections: the live connections of all node proxies with bytes and age; --top: which pods use what.
import type { Command } from 'commander';
import {
  CONNECTION_SORTS,
  type ConnectionsAnswer,
  type LiveConnection,
} from '../../common/admin/connections.ts';
import { MeshError } from '../../common/errors.ts';
import { clusterCommand, outputOption, withCluster, type GlobalOptions } from '../context.ts';
import { formatBytes, formatDuration, formatTable, formatValue, print } from '../output.ts';
import { fetchInPod } from '../pods.ts';
import { listZtunnels } from './ztunnel-config.ts';

const DEFAULT_LIMIT = 50;
const MAX_LIMIT = 10_000;

/** A report and the node it is of. */
export interface NodeReport {
  readonly node: string;
  readonly report: ConnectionsAnswer;
}

interface ConnectionsOptions extends GlobalOptions {
  readonly node?: string;
  readonly top: boolean;
  readonly limit: string;
  readonly sort: string;
  readonly output?: 'json' | 'yaml';
}

const CONNECTION_HEAD = 'POD,DIRECTION,SOURCE,DESTINATION,SERVICE,PROTOCOL,RECEIVED,SENT,AGE'.split(
  ',',
);
const USE_HEAD =
  'POD,NODE,INBOUND,OUTBOUND,OPENED,REFUSED,HANDSHAKES,RECEIVED,SENT,CPU,MEMORY'.split(',');

const RANKS: Readonly<Record<string, (one: LiveConnection) => number>> = {
  bytes: (one) => one.bytesReceived + one.bytesSent,
  age: (one) => one.ageMs,
  rate: (one) => (one.bytesReceived + one.bytesSent) / Math.max(1, one.ageMs),
};

/** Rows of the connections of all nodes, the biggest first. */
export function connectionRows(
  reports: readonly NodeReport[],
  sort: string,
  limit: number,
): string[][] {
  const rank = RANKS[sort] ?? (() => 0);
  return reports
    .flatMap(({ report }) => report.connections)
    .toSorted((a, b) => rank(b) - rank(a))
    .slice(0, limit)
    .map((one) => [
      one.pod,
      one.direction,
      one.source ?? one.src,
      one.destination ?? one.actualDst,
      one.service ?? one.originalDst ?? '-',
      one.protocol,
      formatBytes(one.bytesReceived),
      formatBytes(one.bytesSent),
      formatDuration(one.ageMs),
    ]);
}

/** Rows of what pods use, those with most connections first. */
export function useRows(reports: readonly NodeReport[], limit: number): string[][] {
  return reports
    .flatMap(({ node, report }) => report.pods.map((pod) => ({ node, pod })))
    .toSorted((a, b) => b.pod.inbound + b.pod.outbound - a.pod.inbound - a.pod.outbound)
    .slice(0, limit)
    .map(({ node, pod }) => [
      `${pod.namespace}/${pod.name}`,
      node,
      String(pod.inbound),
      String(pod.outbound),
      String(pod.openedTotal),
      String(pod.limitedTotal),
      String(pod.handshakesTotal),
      formatBytes(pod.bytesReceived),
      formatBytes(pod.bytesSent),
      formatDuration(pod.cpuMs),
      formatBytes(pod.memoryBytes),
    ]);
}

function ofNamespace(report: ConnectionsAnswer, namespace: string | undefined): ConnectionsAnswer {
  if (namespace === undefined) return report;
  const connections = report.connections.filter(({ pod }) => pod.startsWith(`${namespace}/`));
  const pods = report.pods.filter((pod) => pod.namespace === namespace);
  const connectionCount = pods.reduce((sum, pod) => sum + pod.inbound + pod.outbound, 0);
  return { ...report, connections, pods, connectionCount };
}

async function fetchReports(options: ConnectionsOptions, limit: number): Promise<NodeReport[]> {
  return await withCluster(options, async (cluster) => {
    const proxies = await listZtunnels(cluster, options.node);
    // A namespace is cut out of the answer, so the answer must not be cut before.
    const top = options.namespace === undefined ? limit : MAX_LIMIT;
    const url = `http://localhost:15000/connections?top=${top}&sort=${options.sort}`;
    return Promise.all(
      proxies.map(async (pod) => ({
        node: pod.spec?.nodeName ?? '',
        report: ofNamespace(
          JSON.parse(await fetchInPod(cluster, pod, { url })) as ConnectionsAnswer,
          options.namespace,
        ),
      })),
    );
  });
}

async function showConnections(options: ConnectionsOptions): Promise<void> {
  const limit = Number(options.limit);
  if (!(Number.isInteger(limit) && limit > 0 && limit <= MAX_LIMIT))
    throw new MeshError('usage', `--limit must be a number from 1 to ${MAX_LIMIT}`);
  if (!CONNECTION_SORTS.some((one) => one === options.sort))
    throw new MeshError('usage', `--sort must be one of ${CONNECTION_SORTS.join(', ')}`);
  const reports = await fetchReports(options, limit);
  if (options.output !== undefined) {
    print(formatValue(reports, options.output));
    return;
  }
  const rows = options.top ? useRows(reports, limit) : connectionRows(reports, options.sort, limit);
  print(formatTable(options.top ? USE_HEAD : CONNECTION_HEAD, rows));
  const total = reports.reduce((sum, { report }) => sum + report.connectionCount, 0);
  if (!options.top && total > rows.length)
    process.stderr.write(`${rows.length} of ${total} connections; --limit shows more\n`);
}

/** The `connections` command. */
export function connectionsCommand(): Command {
  return clusterCommand('connections', 'live connections of the node proxies, and who uses what')
    .option('--top', 'the pods instead, those with most connections first', false)
    .option('--node <node>', 'only at the node proxy of this node')
    .option('--limit <rows>', `how many rows, up to ${MAX_LIMIT}`, String(DEFAULT_LIMIT))
    .option('--sort <order>', `what comes first: ${CONNECTION_SORTS.join(', ')}`, 'bytes')
    .addOption(outputOption(['json', 'yaml']))
    .action(showConnections);
}
