// ztunnel-config workloads|services|policies|certificates|connections|all: a node proxy's state as tables, with the
// words and columns of istioctl.
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
import { fetchInPod, findPod, isReady, listPods, type PodView } from '../pods.ts';
import { DUMP_VIEWS, type DumpView, type ViewOptions, type ZtunnelDump } from '../ztunnel-views.ts';

interface ConfigOptions extends GlobalOptions {
  readonly node?: string;
  readonly workloadNamespace?: string;
  readonly raw?: boolean;
  readonly output?: 'json' | 'yaml';
}

const ALIASES: Readonly<Record<string, readonly string[]>> = {
  workloads: ['workload', 'w'],
  services: ['service', 's', 'svc'],
  policies: ['policy', 'p', 'pol'],
  certificates: ['certificate', 'certs', 'cert'],
  connections: ['connection'],
};

/** The node proxies: of one node, or all. */
export async function listZtunnels(
  { client }: Cluster,
  node: string | undefined,
): Promise<PodView[]> {
  const pods = await listPods(client, SYSTEM_NAMESPACE, 'app=ztunnel');
  const found = pods.filter(
    (pod) => isReady(pod) && (node === undefined || pod.spec?.nodeName === node),
  );
  if (found.length > 0) return found;
  throw new MeshError(
    'no_pod',
    node === undefined ? 'no node proxy is ready' : `no node proxy is ready on node ${node}`,
  );
}

/** The proxy named, that of --node, or any: all hold the same workloads, services and policies. */
async function chooseZtunnel(
  cluster: Cluster,
  word: string | undefined,
  options: ConfigOptions,
): Promise<PodView> {
  if (word !== undefined)
    return findPod(cluster.client, options.namespace ?? SYSTEM_NAMESPACE, word);
  const [first] = await listZtunnels(cluster, options.node);
  if (first === undefined) throw new MeshError('no_pod', 'no node proxy is ready');
  return first;
}

async function show(
  views: readonly DumpView[],
  word: string | undefined,
  options: ConfigOptions,
): Promise<void> {
  await withCluster(options, async (cluster) => {
    const pod = await chooseZtunnel(cluster, word, options);
    const text = await fetchInPod(cluster, pod, { url: 'http://localhost:15000/config_dump' });
    const dump = JSON.parse(text) as ZtunnelDump;
    const viewOptions: ViewOptions = {
      namespace: options.workloadNamespace,
      isRaw: options.raw === true,
      nowMs: Date.now(),
    };
    if (options.output !== undefined) {
      const [only] = views;
      const value = views.length === 1 ? only?.part(dump, viewOptions) : dump;
      print(formatValue(value, options.output));
      return;
    }
    print(views.map((view) => formatTable(view.head, view.rows(dump, viewOptions))).join('\n\n'));
  });
}

function viewCommand(name: string, description: string, views: readonly DumpView[]): Command {
  return clusterCommand(name, description)
    .aliases(ALIASES[name] ?? [])
    .argument('[pod]', 'the node proxy (default: that of --node, or any)')
    .option('--node <node>', 'the node proxy of this node')
    .option('--workload-namespace <namespace>', 'only what belongs to this namespace')
    .addOption(outputOption(['json', 'yaml']))
    .action((word: string | undefined, options: ConfigOptions) => show(views, word, options));
}

/** The `ztunnel-config` command and its subcommands. */
export function ztunnelConfigCommand(): Command {
  const command = new Command('ztunnel-config')
    .aliases(['zc'])
    .description('tables of what a node proxy holds');
  for (const [name, view] of Object.entries(DUMP_VIEWS)) {
    const each = viewCommand(name, `${name} of a node proxy`, [view]);
    if (name === 'connections') each.option('--raw', 'addresses, not names', false);
    command.addCommand(each);
  }
  return command.addCommand(viewCommand('all', 'all of these tables', Object.values(DUMP_VIEWS)));
}
