// What every command needs: the cluster and the namespace. Without --kubeconfig and KUBECONFIG, a local cluster
// running in this folder is used.
import { existsSync } from 'node:fs';
import { homedir } from 'node:os';
import { join } from 'node:path';
import { Command, Option } from 'commander';
import { MeshError } from '../common/errors.ts';
import { localKubeconfig } from '../common/kube/local-state.ts';
import { RestClient } from '../common/kube/rest-client.ts';

export interface GlobalOptions {
  readonly kubeconfig?: string;
  readonly namespace?: string;
}

/** The kubeconfig to use; undefined leaves the choice to kubectl's rules. */
export function kubeconfigPath(options: GlobalOptions): string | undefined {
  if (options.kubeconfig !== undefined) return options.kubeconfig;
  if (process.env['KUBECONFIG'] !== undefined) return undefined;
  return localKubeconfig('', process.getuid?.() ?? 0);
}

/** Opens the cluster of the command's options. */
export function openCluster(options: GlobalOptions): RestClient {
  const path = kubeconfigPath(options);
  const hasDefault =
    process.env['KUBECONFIG'] !== undefined ||
    process.env['KUBERNETES_SERVICE_HOST'] !== undefined ||
    existsSync(join(homedir(), '.kube', 'config'));
  if (path === undefined && !hasDefault) {
    throw new MeshError(
      'no_cluster',
      'no cluster: start one here with `npm start`, or name one with --kubeconfig or KUBECONFIG',
    );
  }
  return RestClient.load(path);
}

/** Starts a command that talks to a cluster. */
export function clusterCommand(name: string, description: string): Command {
  return new Command(name)
    .description(description)
    .option(
      '--kubeconfig <file>',
      'kubeconfig (default: $KUBECONFIG, a local cluster here, ~/.kube/config)',
    )
    .option('-n, --namespace <namespace>', 'namespace (default: "default")');
}

/** The `-o` option with the given formats. */
export function outputOption(formats: readonly string[]): Option {
  return new Option('-o, --output <format>', 'output format').choices([...formats]);
}
