// What every command needs: the cluster and the namespace. The kubeconfig is the one named by --kubeconfig or
// KUBECONFIG, that of a local cluster running in this folder, ~/.kube/config, or the pod's service account.
import { existsSync } from 'node:fs';
import { homedir } from 'node:os';
import { delimiter, join } from 'node:path';
import { Command, Option } from 'commander';
import { MeshError } from '../common/errors.ts';
import { KubeClient, KubeError } from '../common/kube/client.ts';
import { loadConnection, type KubeConnection } from '../common/kube/connection.ts';
import { localKubeconfig } from '../common/kube/local-state.ts';

export const SYSTEM_NAMESPACE = 'istio-system';

/** Options of every command that talks to a cluster. */
export interface GlobalOptions {
  readonly kubeconfig?: string;
  readonly context?: string;
  readonly namespace?: string;
}

/** The cluster a command talks to. */
export interface Cluster {
  readonly client: KubeClient;
  readonly connection: KubeConnection;
  /** That of -n, otherwise that of the kubeconfig's context. */
  readonly namespace: string;
}

/** The kubeconfig to use; undefined: none, try the pod's service account. */
function kubeconfigPath(options: GlobalOptions): string | undefined {
  if (options.kubeconfig !== undefined) return options.kubeconfig;
  const listed = (process.env['KUBECONFIG'] ?? '').split(delimiter).filter((path) => path !== '');
  if (listed.length > 0) return listed.find((path) => existsSync(path)) ?? listed[0];
  const own = join(homedir(), '.kube', 'config');
  return localKubeconfig('', process.getuid?.() ?? 0) ?? (existsSync(own) ? own : undefined);
}

async function openCluster(options: GlobalOptions): Promise<Cluster> {
  const kubeconfig = kubeconfigPath(options);
  const serviceHost = process.env['KUBERNETES_SERVICE_HOST'];
  const servicePort = process.env['KUBERNETES_SERVICE_PORT'];
  if (kubeconfig === undefined && serviceHost === undefined) {
    throw new MeshError(
      'no_cluster',
      'no cluster: start one here with `npm start`, or name one with --kubeconfig or KUBECONFIG',
    );
  }
  const connection = await loadConnection({
    ...(kubeconfig === undefined ? {} : { kubeconfig }),
    ...(options.context === undefined ? {} : { context: options.context }),
    ...(serviceHost === undefined ? {} : { serviceHost }),
    ...(servicePort === undefined ? {} : { servicePort }),
  });
  const client = new KubeClient(connection, 'ambientctl');
  return { client, connection, namespace: options.namespace ?? connection.namespace };
}

/** Runs a command's work with its cluster, and closes the connections afterwards. */
export async function withCluster<T>(
  options: GlobalOptions,
  work: (cluster: Cluster) => Promise<T>,
): Promise<T> {
  const cluster = await openCluster(options);
  try {
    return await work(cluster);
  } catch (err) {
    if (!(err instanceof KubeError) || err.status !== 0) throw err;
    const server = cluster.connection.server.origin;
    throw new MeshError(
      'unreachable',
      `cannot reach the API server at ${server}: ${err.answer} (is the cluster running?)`,
      { cause: err },
    );
  } finally {
    cluster.client.close();
  }
}

/** Starts a command that talks to a cluster. */
export function clusterCommand(name: string, description: string): Command {
  return new Command(name)
    .description(description)
    .option(
      '--kubeconfig <file>',
      'kubeconfig (default: $KUBECONFIG, a local cluster here, ~/.kube/config)',
    )
    .option('--context <name>', "context of the kubeconfig (default: the file's current one)")
    .option('-n, --namespace <namespace>', "namespace (default: the context's)");
}

/** The `-o` option with the given formats. */
export function outputOption(formats: readonly string[]): Option {
  return new Option('-o, --output <format>', 'output format').choices([...formats]);
}
