// proxy config-dump|log-level|drain|replace: looks into one node proxy or waypoint by its admin port, and tells it things.
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
import { formatTable, formatValue, print } from '../output.ts';
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
  readonly show: boolean;
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

interface DrainState {
  readonly state: string;
  readonly connections: number;
  readonly deadlineMs: number;
  readonly pods?: readonly {
    readonly pod: string;
    readonly inbound: number;
    readonly outbound: number;
  }[];
}

async function drain(word: string, options: DrainOptions): Promise<void> {
  await withCluster(options, async (cluster) => {
    const pod = await findProxy(cluster, options, word);
    const text = await fetchInPod(cluster, pod, {
      url: `${ADMIN}/drain`,
      method: options.show ? 'GET' : 'POST',
    });
    const { state, connections, deadlineMs, pods = [] } = JSON.parse(text) as DrainState;
    const limit = state === 'draining' ? `, which have up to ${deadlineMs / 1000} s` : '';
    print(`${pod.metadata?.name ?? ''} is ${state}: ${connections} connections${limit}`);
    if (pods.length === 0) return;
    const rows = pods.map((each) => [each.pod, String(each.inbound), String(each.outbound)]);
    print(formatTable(['POD', 'INBOUND', 'OUTBOUND'], rows));
  });
}

async function replace(word: string, options: GlobalOptions): Promise<void> {
  await withCluster(options, async (cluster) => {
    const pod = await findProxy(cluster, options, word);
    await fetchInPod(cluster, pod, { url: `${ADMIN}/replace`, method: 'POST' });
    print(`${pod.metadata?.name ?? ''}: a successor is started and takes over when it is ready`);
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
    'let a successor take new connections of a node, and the proxy end when its own have',
  )
    .argument('<pod>', POD)
    .option('--show', 'only show whether it drains and whose connections are left', false)
    .action(drain);
  const replaceCommand = clusterCommand(
    'replace',
    'start a successor of a node proxy, which takes over without losing a connection',
  )
    .argument('<pod>', POD)
    .action(replace);
  return new Command('proxy')
    .description('look into a proxy')
    .addCommand(dump)
    .addCommand(log)
    .addCommand(drainCommand)
    .addCommand(replaceCommand);
}
