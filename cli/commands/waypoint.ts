// waypoint generate|apply|list|status|delete, with istioctl's words and columns.
import { Command } from 'commander';
import { setTimeout as wait } from 'node:timers/promises';
import { MeshError } from '../../common/errors.ts';
import { KubeApiError, type KubeObject, type RestClient } from '../../common/kube/rest-client.ts';
import { clusterCommand, openCluster, type GlobalOptions } from '../context.ts';
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

/** The Gateway of a waypoint. */
export function buildWaypoint(options: WaypointOptions): KubeObject {
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

function gatewayPath(namespace: string | undefined, name?: string): string {
  const scope = namespace === undefined ? '' : `/namespaces/${namespace}`;
  return `/apis/gateway.networking.k8s.io/v1${scope}/gateways${name === undefined ? '' : `/${name}`}`;
}

async function listWaypoints(
  client: RestClient,
  namespace: string | undefined,
): Promise<Gateway[]> {
  const { items } = await client.json<{ items: Gateway[] }>({ path: gatewayPath(namespace) });
  return items.filter((gateway) => CLASSES.includes(gateway.spec?.gatewayClassName ?? ''));
}

const programmed = (gateway: Gateway): { status: string; reason: string; message: string } => {
  const found = gateway.status?.conditions?.find((each) => each.type === 'Programmed');
  return {
    status: found?.status ?? 'Unknown',
    reason: found?.reason ?? 'Pending',
    message: found?.message ?? '',
  };
};

async function waitProgrammed(client: RestClient, namespace: string, name: string): Promise<void> {
  const deadline = Date.now() + WAIT_MS;
  for (;;) {
    const state = programmed(await client.json<Gateway>({ path: gatewayPath(namespace, name) }));
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
  client: RestClient,
  namespace: string,
  options: ApplyOptions,
): Promise<void> {
  const path = `/api/v1/namespaces/${namespace}`;
  const labels = (await client.json({ path })).metadata?.labels ?? {};
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
  const body = { metadata: { labels: { 'istio.io/use-waypoint': options.name } } };
  await client.json({ method: 'PATCH', path, contentType: 'application/merge-patch+json', body });
  print(`✅ namespace ${namespace} labeled with "istio.io/use-waypoint: ${options.name}"`);
}

async function apply(client: RestClient, options: ApplyOptions): Promise<void> {
  const namespace = options.namespace ?? 'default';
  await client.json({
    method: 'PATCH',
    path: gatewayPath(namespace, options.name),
    query: { fieldManager: 'ambientctl', force: 'true' },
    contentType: 'application/apply-patch+yaml',
    body: buildWaypoint(options),
  });
  print(`✅ waypoint ${namespace}/${options.name} applied`);
  if (options.wait) {
    await waitProgrammed(client, namespace, options.name);
    print(`✅ waypoint ${namespace}/${options.name} is ready!`);
  }
  if (options.enrollNamespace) await enrollNamespace(client, namespace, options);
}

async function remove(
  client: RestClient,
  names: readonly string[],
  options: GlobalOptions & { all: boolean },
): Promise<void> {
  const namespace = options.namespace ?? 'default';
  if (names.length > 0 === options.all)
    throw new MeshError('usage', 'name the waypoints to delete, or give --all');
  const all = options.all
    ? (await listWaypoints(client, namespace)).map((each) => each.metadata?.name ?? '')
    : names;
  for (const name of all) {
    try {
      await client.json({ method: 'DELETE', path: gatewayPath(namespace, name) });
      print(`waypoint ${namespace}/${name} deleted`);
    } catch (err) {
      if (!(err instanceof KubeApiError) || err.status !== 404) throw err;
      process.stderr.write(`waypoint ${namespace}/${name} not found\n`);
      process.exitCode = 1;
    }
  }
}

/** Rows of `waypoint list`. */
export function listRows(gateways: readonly Gateway[], withNamespace: boolean): string[][] {
  return gateways.map((gateway) => [
    ...(withNamespace ? [gateway.metadata?.namespace ?? ''] : []),
    gateway.metadata?.name ?? '',
    gateway.metadata?.labels?.['istio.io/rev'] ?? 'default',
    gateway.metadata?.labels?.['istio.io/waypoint-for'] ?? 'service',
    programmed(gateway).status,
  ]);
}

async function withCluster(
  options: GlobalOptions,
  fn: (client: RestClient) => Promise<void>,
): Promise<void> {
  const client = openCluster(options);
  try {
    await fn(client);
  } finally {
    client.close();
  }
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
    .option('-o, --output <format>', 'json or yaml')
    .action((options: GlobalOptions & { allNamespaces: boolean; output?: 'json' | 'yaml' }) =>
      withCluster(options, async (client) => {
        const all = options.allNamespaces;
        const gateways = await listWaypoints(
          client,
          all ? undefined : (options.namespace ?? 'default'),
        );
        if (options.output !== undefined) print(formatValue(gateways, options.output));
        else if (gateways.length === 0) print('No waypoints found.');
        else {
          const head = ['NAME', 'REVISION', 'TRAFFIC TYPE', 'PROGRAMMED'];
          print(formatTable(all ? ['NAMESPACE', ...head] : head, listRows(gateways, all)));
        }
      }),
    );
  const applyWaypoint = shapeOptions(clusterCommand('apply', 'apply a waypoint to the cluster'))
    .option('--enroll-namespace', 'label the namespace to use it', false)
    .option('--overwrite', 'replace the waypoint the namespace uses', false)
    .option('--wait', 'wait until it is ready', false)
    .action((options: ApplyOptions) => withCluster(options, (client) => apply(client, options)));
  const generate = shapeOptions(clusterCommand('generate', 'print the YAML of a waypoint')).action(
    (options: WaypointOptions) => print(formatValue(buildWaypoint(options), 'yaml')),
  );
  const remove_ = clusterCommand('delete', 'delete waypoints')
    .argument('[names...]', 'waypoints')
    .option('--all', 'all of the namespace', false)
    .action((names: string[], options: GlobalOptions & { all: boolean }) =>
      withCluster(options, (client) => remove(client, names, options)),
    );
  return new Command('waypoint')
    .description('manage waypoints')
    .addCommand(list)
    .addCommand(applyWaypoint)
    .addCommand(generate)
    .addCommand(remove_);
}
