// why SRC DST: what the node proxy would do with a connection, step by step, without making it.
import type { Command } from 'commander';
import { isIP } from 'node:net';
import type { Explanation } from '../../common/admin/explanation.ts';
import { MeshError } from '../../common/errors.ts';
import { isKubeStatus } from '../../common/kube/client.ts';
import {
  clusterCommand,
  outputOption,
  withCluster,
  type Cluster,
  type GlobalOptions,
} from '../context.ts';
import { formatTable, formatValue, print } from '../output.ts';
import { fetchInPod, findPod } from '../pods.ts';
import { listZtunnels } from './ztunnel-config.ts';

interface WhyOptions extends GlobalOptions {
  readonly output?: 'json' | 'yaml';
}

interface Source {
  /** As the node proxy reads it: an address or `namespace/name`. */
  readonly text: string;
  readonly namespace: string;
  /** Undefined: any proxy will do. */
  readonly node: string | undefined;
}

async function findSource({ client, namespace }: Cluster, word: string): Promise<Source> {
  if (isIP(word) !== 0) return { text: word, namespace, node: undefined };
  const [first = '', second] = word.split('/');
  const isNamespaced =
    second !== undefined && !/^(po|pod|pods|deploy|deployment|ds|sts)$/.test(first);
  const scope = isNamespaced ? first : namespace;
  const named = isNamespaced ? second : word;
  try {
    const pod = await findPod(client, scope, named);
    const name = pod.metadata?.name ?? '';
    return { text: `${scope}/${name}`, namespace: scope, node: pod.spec?.nodeName };
  } catch (err) {
    // The node proxies know workloads by the names of their owners too.
    if (!isKubeStatus(err, 404) || named.includes('/')) throw err;
    return { text: `${scope}/${named}`, namespace: scope, node: undefined };
  }
}

/** `reviews:9080` means the service of the source's namespace; everything else is taken as it is. */
export function expandDestination(word: string, namespace: string): string {
  const [, host, port] = /^([^:/]+):(\d+)$/.exec(word) ?? [];
  if (host === undefined || port === undefined) {
    if (/:\d+$/.test(word)) return word;
    throw new MeshError('usage', `"${word}" has no port: write HOST:PORT or NAMESPACE/POD:PORT`);
  }
  return host.includes('.') ? word : `${host}.${namespace}.svc.cluster.local:${port}`;
}

/** The answer for a reader: verdict, steps, endpoints, policies. */
export function describeExplanation(explanation: Explanation): string {
  const { isAllowed, reason, summary, steps, candidates, policies } = explanation;
  const verdict = isAllowed ? 'ALLOWED' : `REFUSED (${reason ?? 'no reason given'})`;
  const marks: Readonly<Record<string, string>> = { ok: '+', info: ' ', refuse: 'x' };
  const lines = [
    `${verdict}: ${summary}`,
    '',
    ...steps.map(({ step, outcome, detail }) => `${marks[outcome] ?? ' '} ${step}: ${detail}`),
  ];
  if (candidates.length > 0) {
    const rows = candidates.map((each) => [
      each.workload,
      each.isChosen ? 'yes' : each.isEligible ? 'could be' : 'no',
      each.detail,
    ]);
    lines.push('', formatTable(['ENDPOINT', 'CHOSEN', 'WHY'], rows));
  }
  if (policies.length > 0) {
    const rows = policies.map((each) => [
      each.policy,
      `${each.action}${each.isDryRun ? ' (dry run)' : ''}`,
      each.isMatch ? 'yes' : 'no',
      each.isDeciding ? 'yes' : '-',
      each.detail,
    ]);
    lines.push('', formatTable(['POLICY', 'ACTION', 'MATCHES', 'DECIDES', 'WHY'], rows));
  }
  return lines.join('\n');
}

async function explain(src: string, dst: string, options: WhyOptions): Promise<void> {
  await withCluster(options, async (cluster) => {
    const source = await findSource(cluster, src);
    const destination = expandDestination(dst, source.namespace);
    const [proxy] = await listZtunnels(cluster, source.node);
    if (proxy === undefined) throw new MeshError('no_pod', 'no node proxy is ready');
    const query = new URLSearchParams({ src: source.text, dst: destination });
    const url = `http://localhost:15000/debug/why?${query.toString()}`;
    const explanation = JSON.parse(await fetchInPod(cluster, proxy, { url })) as Explanation;
    print(
      options.output === undefined
        ? describeExplanation(explanation)
        : formatValue(explanation, options.output),
    );
    if (!explanation.isAllowed) process.exitCode = 1;
  });
}

/** The `why` command. */
export function whyCommand(): Command {
  return clusterCommand(
    'why',
    'what a node proxy would do with a connection, without making it; exit 1 when refused',
  )
    .argument('<src>', 'POD, deploy/NAME, NAMESPACE/POD or an address')
    .argument('<dst>', 'HOST:PORT (a service), NAMESPACE/POD:PORT or ADDRESS:PORT')
    .addOption(outputOption(['json', 'yaml']))
    .action(explain);
}
