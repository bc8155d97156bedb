// proxy config-dump: what a node proxy or waypoint holds, from its admin port.
import { Command } from 'commander';
import { clusterCommand, openCluster, type GlobalOptions } from '../context.ts';
import { formatValue, print } from '../output.ts';
import { fetchInPod, findPod } from '../pods.ts';

interface DumpOptions extends GlobalOptions {
  readonly output?: 'json' | 'yaml';
}

/** The `proxy` command and its subcommands. */
export function proxyCommand(): Command {
  const dump = clusterCommand('config-dump', 'what a proxy holds: config-dump POD|ds/ztunnel')
    .argument('<pod>', 'POD, deploy/NAME or ds/NAME (ztunnel pods: -n istio-system)')
    .option('-o, --output <format>', 'json or yaml', 'json')
    .action(async (word: string, options: DumpOptions) => {
      const client = openCluster(options);
      try {
        const pod = await findPod(client, options.namespace ?? 'istio-system', word);
        const text = await fetchInPod(client, pod, 'http://127.0.0.1:15000/config_dump');
        print(options.output === 'yaml' ? formatValue(JSON.parse(text), 'yaml') : text.trimEnd());
      } finally {
        client.close();
      }
    });
  return new Command('proxy').description('look into a proxy').addCommand(dump);
}
