// logs: a container's output, once or as it comes.
import type { Command } from 'commander';
import { pipeline } from 'node:stream/promises';
import { KubeApiError } from '../../common/kube/rest-client.ts';
import { clusterCommand, openCluster, type GlobalOptions } from '../context.ts';
import { findPod } from '../pods.ts';

interface LogsOptions extends GlobalOptions {
  readonly container?: string;
  readonly follow: boolean;
  readonly tail?: string;
  readonly previous: boolean;
}

/** The `logs` command. */
export function logsCommand(): Command {
  return clusterCommand('logs', "show a pod's output: logs POD|deploy/NAME")
    .argument('<pod>', 'POD, deploy/NAME or ds/NAME')
    .option('-c, --container <name>', 'container (default: the first)')
    .option('-f, --follow', 'go on as output comes', false)
    .option('--tail <lines>', 'only the last lines')
    .option('-p, --previous', 'of the container before the last restart', false)
    .action(async (word: string, options: LogsOptions) => {
      const client = openCluster(options);
      try {
        const namespace = options.namespace ?? 'default';
        const name = (await findPod(client, namespace, word)).metadata?.name ?? '';
        const query: Record<string, string> = {
          follow: String(options.follow),
          previous: String(options.previous),
        };
        if (options.container !== undefined) query['container'] = options.container;
        if (options.tail !== undefined) query['tailLines'] = options.tail;
        const response = await client.open({
          path: `/api/v1/namespaces/${namespace}/pods/${name}/log`,
          query,
        });
        if ((response.statusCode ?? 500) >= 400) {
          const text = (await response.toArray()).join('');
          throw new KubeApiError(response.statusCode ?? 500, '', text);
        }
        await pipeline(response, process.stdout, { end: false });
      } finally {
        client.close();
      }
    });
}
