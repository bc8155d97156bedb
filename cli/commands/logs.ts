// logs: a container's output, once or as it comes.
import type { Command } from 'commander';
import { pipeline } from 'node:stream/promises';
import { MeshError } from '../../common/errors.ts';
import { readText, toError } from '../../common/kube/client.ts';
import { KINDS, objectPath } from '../../common/kube/resource.ts';
import { clusterCommand, withCluster, type GlobalOptions } from '../context.ts';
import { findPod } from '../pods.ts';
import { chooseContainer } from './exec.ts';

const HEADERS_TIMEOUT_MS = 30_000;
/** A followed log may be silent for long. */
const FOLLOW_TIMEOUT_MS = 86_400_000;

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
    .action((word: string, options: LogsOptions) =>
      withCluster(options, async ({ client, namespace }) => {
        if (options.tail !== undefined && !/^\d+$/.test(options.tail))
          throw new MeshError('usage', `--tail must be a number, not "${options.tail}"`);
        const pod = await findPod(client, namespace, word);
        const request = {
          path: objectPath(KINDS.pods, namespace, pod.metadata?.name ?? '', 'log'),
          query: {
            follow: String(options.follow),
            previous: String(options.previous),
            container: chooseContainer(pod, options.container),
            tailLines: options.tail,
          },
        };
        const timeoutMs = options.follow ? FOLLOW_TIMEOUT_MS : HEADERS_TIMEOUT_MS;
        const { message } = await client.open(request, timeoutMs);
        const status = message.statusCode ?? 0;
        if (status !== 200) throw toError(request, status, await readText(message));
        await pipeline(message, process.stdout, { end: false });
      }),
    );
}
