// proxy config-dump|log-level|drain: looks into one node proxy or waypoint by its admin port, and tells it things.
import { Command } from 'commander';
import { MeshError } from '../../common/errors.ts';
import {
  clusterCommand,
  outputOption,
  SYSTEM_NAMESPACE,
  withCluster,
  type Cluster,
  type GlobalOptions,
} from '../context.ts';
import { formatValue, print } from '../output.ts';
import { fetchInPod, findPod, type PodView } from '../pods.ts';

const ADMIN = 'http://localhost:15000';
const POD = 'POD, deploy/NAME or ds/NAME (node proxies: ds/ztunnel)';

interface DumpOptions extends GlobalOptions {
  readonly output: 'json' | 'yaml';
}

interface LogOptions extends GlobalOptions {
  readonly level?: string;
  readonly reset: boolean;
}

interface DrainOptions extends GlobalOptions {
  readonly deadline?: string;
}

/** The proxy meant; without -n node proxies are looked for where they are. */
function findProxy(cluster: Cluster, options: GlobalOptions, word: string): Promise<PodView> {
  return findPod(cluster.client, options.namespace ?? SYSTEM_NAMESPACE, word);
}

/** Path of a request that sets levels: `debug`, or `xds=debug,app=info`. Throws for other words. */
export function loggingPath(level: string | undefined, isReset: boolean): string {
  if (isReset) return '/logging?reset';
  if (level === undefined) return '/logging';
  const isLevel = /^(\w+=)?(trace|debug|info|warn|error|off)$/;
  if (!level.split(',').every((word) => isLevel.test(word))) {
    throw new MeshError(
      'usage',
      `"${level}" is no level: use trace, debug, info, warn, error or off, or SCOPE=LEVEL by commas`,
    );
  }
  return `/logging?level=${encodeURIComponent(level)}`;
}

async function logLevel(word: string, options: LogOptions): Promise<void> {
  const path = loggingPath(options.level, options.reset);
  await withCluster(options, async (cluster) => {
    const pod = await findProxy(cluster, options, word);
    const text = await fetchInPod(cluster, pod, { url: `${ADMIN}${path}`, method: 'POST' });
    print(text.trimEnd());
  });
}

async function drain(word: string, options: DrainOptions): Promise<void> {
  const query = options.deadline === undefined ? '' : `?deadline=${options.deadline}`;
  await withCluster(options, async (cluster) => {
    const pod = await findProxy(cluster, options, word);
    const text = await fetchInPod(cluster, pod, {
      url: `${ADMIN}/drain${query}`,
      method: 'POST',
    });
    const { connections, deadlineMs } = JSON.parse(text) as {
      connections: number;
      deadlineMs: number;
    };
    print(
      `${pod.metadata?.name ?? ''} is draining: ${connections} connections have up to ${deadlineMs / 1000} s`,
    );
  });
}

async function configDump(word: string, options: DumpOptions): Promise<void> {
  await withCluster(options, async (cluster) => {
    const pod = await findProxy(cluster, options, word);
    const text = await fetchInPod(cluster, pod, { url: `${ADMIN}/config_dump` });
    print(formatValue(JSON.parse(text), options.output));
  });
}

/** The `proxy` command and its subcommands. */
export function proxyCommand(): Command {
  const dump = clusterCommand('config-dump', 'what a proxy holds: config-dump ds/ztunnel')
    .argument('<pod>', POD)
    .addOption(outputOption(['json', 'yaml']).default('json'))
    .action(configDump);
  const log = clusterCommand('log-level', 'show or set what a proxy logs: log-level ds/ztunnel')
    .argument('<pod>', POD)
    .option('--level <level>', 'debug, or by scope: xds=debug,app=info')
    .option('-r, --reset', 'back to the level it was started with', false)
    .action(logLevel);
  const drainCommand = clusterCommand(
    'drain',
    'tell a proxy to take no new connections and to end when its connections have',
  )
    .argument('<pod>', POD)
    .option('--deadline <duration>', 'how long connections may go on: 30s, 5m')
    .action(drain);
  return new Command('proxy')
    .description('look into a proxy')
    .addCommand(dump)
    .addCommand(log)
    .addCommand(drainCommand);
}
