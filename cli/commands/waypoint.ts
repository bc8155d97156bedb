// waypoint apply|list|status|generate|delete, with istioctl's words and columns.
import { Command } from 'commander';
import { setTimeout as wait } from 'node:timers/promises';
import { MeshError } from '../../common/errors.ts';
import type { KubeClient, KubeList } from '../../common/kube/client.ts';
import { collectionPath, KINDS, objectPath, type KubeObject } from '../../common/kube/resource.ts';
import {
  clusterCommand,
  outputOption,
  withCluster,
  type Cluster,
  type GlobalOptions,
} from '../context.ts';
import { formatTable, formatValue, print } from '../output.ts';

const CLASSES = ['istio-waypoint', 'ambient-waypoint'];
const WAIT_MS = 90_000;
const POLL_MS = 250;
const TRAFFIC_TYPES = ['service', 'workload', 'all', 'none'];

interface WaypointOptions extends GlobalOptions {
  readonly name: string;
  readonly for?: string;
  readonly revision?: string;
  readonly class: string;
}

interface ApplyOptions extends WaypointOptions {
  readonly enrollNamespace: boolean;
  readonly overwrite: boolean;
  readonly wait: boolean;
}

interface ListOptions extends GlobalOptions {
  readonly allNamespaces: boolean;
  readonly output?: 'json' | 'yaml';
}

interface Gateway extends KubeObject {
  readonly spec?: { readonly gatewayClassName?: string };
  readonly status?: {
    readonly conditions?: readonly {
      type: string;
      status: string;
      reason?: string;
      message?: string;
    }[];
  };
}

type WaypointGateway = KubeObject & { readonly spec: object };

/** The Gateway of a waypoint. */
export function buildWaypoint(options: WaypointOptions): WaypointGateway {
  if (options.name === 'none')
    throw new MeshError('usage', 'a waypoint cannot be named "none": that word means no waypoint');
  const labels: Record<string, string> = {};
  if (options.for !== undefined) {
    if (!TRAFFIC_TYPES.includes(options.for)) {
      throw new MeshError(
        'usage',
        `--for must be one of ${TRAFFIC_TYPES.join(', ')}, not "${options.for}"`,
      );
    }
    labels['istio.io/waypoint-for'] = options.for;
  }
  if (options.revision !== undefined) labels['istio.io/rev'] = options.revision;
  return {
    apiVersion: 'gateway.networking.k8s.io/v1',
    kind: 'Gateway',
    metadata: {
      name: options.name,
      namespace: options.namespace ?? 'default',
      ...(Object.keys(labels).length > 0 ? { labels } : {}),
    },
    spec: {
      gatewayClassName: options.class,
      listeners: [{ name: 'mesh', port: 15008, protocol: 'HBONE' }],
    },
  };
}

async function listWaypoints(
  client: KubeClient,
  namespace: string | undefined,
): Promise<Gateway[]> {
  const path = collectionPath(KINDS.gateways, namespace);
  const { items = [] } = await client.json<KubeList<Gateway>>({ path });
  return items.filter((gateway) => CLASSES.includes(gateway.spec?.gatewayClassName ?? ''));
}

function programmed(gateway: Gateway): { status: string; reason: string; message: string } {
  const found = gateway.status?.conditions?.find((each) => each.type === 'Programmed');
  return {
    status: found?.status ?? 'Unknown',
    reason: found?.reason ?? 'Pending',
    message: found?.message ?? '',
  };
}

async function waitProgrammed({ client, namespace }: Cluster, name: string): Promise<void> {
  const deadline = Date.now() + WAIT_MS;
  const path = objectPath(KINDS.gateways, namespace, name);
  for (;;) {
    const state = programmed(await client.json<Gateway>({ path }));
    if (state.status === 'True') return;
    if (Date.now() > deadline) {
      throw new MeshError(
        'timeout',
        `waypoint ${namespace}/${name} is not ready after ${WAIT_MS / 1000} s: ${state.reason} ${state.message}`,
      );
    }
    await wait(POLL_MS);
  }
}

async function enrollNamespace(
  { client, namespace }: Cluster,
  options: ApplyOptions,
): Promise<void> {
  const target = { kind: KINDS.namespaces, name: namespace };
  const path = objectPath(KINDS.namespaces, undefined, namespace);
  const labels = (await client.json<KubeObject>({ path })).metadata?.labels ?? {};
  const current = labels['istio.io/use-waypoint'];
  if (current !== undefined && current !== options.name && !options.overwrite) {
    throw new MeshError(
      'conflict',
      `namespace ${namespace} already uses waypoint ${current}; use --overwrite to change it`,
    );
  }
  if (labels['istio.io/dataplane-mode'] !== 'ambient') {
    process.stderr.write(
      `warning: namespace ${namespace} is not in the mesh; label it istio.io/dataplane-mode=ambient\n`,
    );
  }
  await client.mergePatch(target, {
    metadata: { labels: { 'istio.io/use-waypoint': options.name } },
  });
  print(`✅ namespace ${namespace} labeled with "istio.io/use-waypoint: ${options.name}"`);
}

async function apply(cluster: Cluster, options: ApplyOptions): Promise<void> {
  const { client, namespace } = cluster;
  const gateway = buildWaypoint({ ...options, namespace });
  // The namespace first: the API would answer a missing one with the Gateway's name.
  await client.json({ path: objectPath(KINDS.namespaces, undefined, namespace) });
  await client.apply(KINDS.gateways, gateway, 'ambientctl');
  print(`✅ waypoint ${namespace}/${options.name} applied`);
  if (options.enrollNamespace) await enrollNamespace(cluster, options);
  if (options.wait) {
    await waitProgrammed(cluster, options.name);
    print(`✅ waypoint ${namespace}/${options.name} is ready!`);
  }
}

async function remove(
  { client, namespace }: Cluster,
  names: readonly string[],
  isAll: boolean,
): Promise<void> {
  if (names.length > 0 === isAll)
    throw new MeshError('usage', 'name the waypoints to delete, or give --all');
  const all = isAll
    ? (await listWaypoints(client, namespace)).map((each) => each.metadata?.name ?? '')
    : names;
  for (const name of all) {
    if (await client.delete({ kind: KINDS.gateways, namespace, name })) {
      print(`waypoint ${namespace}/${name} deleted`);
    } else {
      process.stderr.write(`waypoint ${namespace}/${name} not found\n`);
      process.exitCode = 1;
    }
  }
}

const trafficType = (gateway: Gateway): string =>
  gateway.metadata?.labels?.['istio.io/waypoint-for'] ?? 'service';

/** Rows of `waypoint list`. */
export function listRows(gateways: readonly Gateway[], withNamespace: boolean): string[][] {
  return gateways.map((gateway) => [
    ...(withNamespace ? [gateway.metadata?.namespace ?? ''] : []),
    gateway.metadata?.name ?? '',
    gateway.metadata?.labels?.['istio.io/rev'] ?? 'default',
    trafficType(gateway),
    programmed(gateway).status,
  ]);
}

async function printList({ client, namespace }: Cluster, options: ListOptions): Promise<void> {
  const all = options.allNamespaces;
  const gateways = await listWaypoints(client, all ? undefined : namespace);
  if (options.output !== undefined) print(formatValue(gateways, options.output));
  else if (gateways.length === 0) print('No waypoints found.');
  else {
    const head = ['NAME', 'REVISION', 'TRAFFIC TYPE', 'PROGRAMMED'];
    print(formatTable(all ? ['NAMESPACE', ...head] : head, listRows(gateways, all)));
  }
}

/** Rows of `waypoint status`. */
export function statusRows(gateways: readonly Gateway[]): string[][] {
  return gateways.map((gateway) => {
    const { status, reason, message } = programmed(gateway);
    const { namespace = '', name = '' } = gateway.metadata ?? {};
    return [namespace, name, status, trafficType(gateway), reason, message];
  });
}

async function printStatus({ client, namespace }: Cluster, name?: string): Promise<void> {
  const gateways =
    name === undefined
      ? await listWaypoints(client, namespace)
      : [await client.json<Gateway>({ path: objectPath(KINDS.gateways, namespace, name) })];
  if (gateways.length === 0) {
    process.stderr.write(`No waypoints found in ${namespace} namespace.\n`);
    return;
  }
  print(
    formatTable(['NAMESPACE', 'NAME', 'STATUS', 'TYPE', 'REASON', 'MESSAGE'], statusRows(gateways)),
  );
  if (gateways.some((gateway) => programmed(gateway).status !== 'True')) process.exitCode = 1;
}

function shapeOptions(command: Command): Command {
  return command
    .option('--name <name>', 'name of the waypoint', 'waypoint')
    .option('--for <type>', `traffic it serves: ${TRAFFIC_TYPES.join(', ')}`)
    .option('--class <name>', 'gateway class', 'istio-waypoint')
    .option('-r, --revision <revision>', 'revision that should act on it');
}

/** The `waypoint` command and its subcommands. */
export function waypointCommand(): Command {
  const list = clusterCommand('list', 'list waypoints')
    .alias('ls')
    .option('-A, --all-namespaces', 'in all namespaces', false)
    .addOption(outputOption(['json', 'yaml']))
    .action((options: ListOptions) => withCluster(options, (each) => printList(each, options)));
  const status = clusterCommand('status', 'are the waypoints of a namespace ready; exit 1 if not')
    .argument('[name]', 'one waypoint')
    .action((name: string | undefined, options: GlobalOptions) =>
      withCluster(options, (each) => printStatus(each, name)),
    );
  const applyWaypoint = shapeOptions(clusterCommand('apply', 'apply a waypoint to the cluster'))
    .option('--enroll-namespace', 'label the namespace to use it', false)
    .option('--overwrite', 'replace the waypoint the namespace uses', false)
    .option('-w, --wait', 'wait until it is ready', false)
    .action((options: ApplyOptions) => withCluster(options, (each) => apply(each, options)));
  const generate = shapeOptions(
    new Command('generate')
      .description('print the YAML of a waypoint')
      .option('-n, --namespace <namespace>', 'namespace', 'default'),
  ).action((options: WaypointOptions) => print(formatValue(buildWaypoint(options), 'yaml')));
  const remove_ = clusterCommand('delete', 'delete waypoints')
    .argument('[names...]', 'waypoints')
    .option('--all', 'all of the namespace', false)
    .action((names: string[], options: GlobalOptions & { all: boolean }) =>
      withCluster(options, (each) => remove(each, names, options.all)),
    );
  return new Command('waypoint')
    .description('manage waypoints')
    .addCommand(list)
    .addCommand(status)
    .addCommand(applyWaypoint)
    .addCommand(generate)
    .addCommand(remove_);
}
