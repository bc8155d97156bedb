// exec: runs a command in a pod; its exit code is ours.
import type { Command } from 'commander';
import { MeshError } from '../../common/errors.ts';
import { clusterCommand, withCluster, type GlobalOptions } from '../context.ts';
import { defaultContainer, findPod, type PodView } from '../pods.ts';

interface ExecOptions extends GlobalOptions {
  readonly container?: string;
  readonly stdin: boolean;
  readonly tty: boolean;
}

/** The container to use: the one named, which must exist, or the default. */
export function chooseContainer(pod: PodView, named: string | undefined): string {
  if (named === undefined) return defaultContainer(pod);
  const names = (pod.spec?.containers ?? []).map(({ name }) => name);
  if (names.includes(named)) return named;
  const podName = pod.metadata?.name ?? '';
  throw new MeshError(
    'no_container',
    `container ${named} is not valid for pod ${podName}; it has: ${names.join(', ')}`,
  );
}

/** The `exec` command. */
export function execCommand(): Command {
  return clusterCommand('exec', 'run a command in a pod: exec POD|deploy/NAME -- COMMAND')
    .argument('<pod>', 'POD, deploy/NAME or ds/NAME')
    .argument('<command...>', 'the command and its arguments, after --')
    .option('-c, --container <name>', 'container (default: the first)')
    .option('-i, --stdin', 'pass standard input on', false)
    .option('-t, --tty', 'standard input is a terminal', false)
    .action((word: string, command: string[], options: ExecOptions) =>
      withCluster(options, async ({ client, connection, namespace }) => {
        const pod = await findPod(client, namespace, word);
        const target = {
          namespace,
          pod: pod.metadata?.name ?? '',
          container: chooseContainer(pod, options.container),
          command,
        };
        const { execInPod } = await import('../../common/kube/exec.ts');
        const isRaw = options.tty && options.stdin && process.stdin.isTTY;
        if (isRaw) process.stdin.setRawMode(true);
        try {
          process.exitCode = await execInPod(connection, target, {
            stdout: process.stdout,
            stderr: process.stderr,
            stdin: options.stdin ? process.stdin : null,
            isTty: options.tty,
          });
        } finally {
          if (isRaw) process.stdin.setRawMode(false);
          // A pipe or terminal that was read from keeps the process alive.
          if (options.stdin) process.stdin.destroy();
        }
      }),
    );
}
