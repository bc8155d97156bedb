// exec: runs a command in a pod; its exit code is ours.
import type { Command } from 'commander';
import { clusterCommand, openCluster, type GlobalOptions } from '../context.ts';
import { findPod } from '../pods.ts';

interface ExecOptions extends GlobalOptions {
  readonly container?: string;
  readonly stdin: boolean;
  readonly tty: boolean;
}

/** The `exec` command. */
export function execCommand(): Command {
  return clusterCommand('exec', 'run a command in a pod: exec POD|deploy/NAME -- COMMAND')
    .passThroughOptions()
    .argument('<pod>', 'POD, deploy/NAME or ds/NAME')
    .argument('<command...>', 'the command and its arguments, after --')
    .option('-c, --container <name>', 'container (default: the first)')
    .option('-i, --stdin', 'pass standard input on', false)
    .option('-t, --tty', 'standard input is a terminal', false)
    .action(async (word: string, command: string[], options: ExecOptions) => {
      const client = openCluster(options);
      try {
        const namespace = options.namespace ?? 'default';
        const pod = await findPod(client, namespace, word);
        const target = {
          namespace,
          pod: pod.metadata?.name ?? '',
          container: options.container ?? pod.spec?.containers?.[0]?.name ?? '',
          // commander leaves the separator in when options are passed through.
          command: command[0] === '--' ? command.slice(1) : command,
        };
        process.exitCode = await client.exec(target, {
          stdout: process.stdout,
          stderr: process.stderr,
          stdin: options.stdin ? process.stdin : null,
          tty: options.tty,
        });
      } finally {
        client.close();
        // A pipe or terminal that was read from keeps the process alive.
        if (options.stdin) process.stdin.destroy();
      }
    });
}
