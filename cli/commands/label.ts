// label: KEY=VALUE sets, KEY- removes; an existing value is kept unless --overwrite.
import type { Command } from 'commander';
import { MeshError } from '../../common/errors.ts';
import type { KubeList } from '../../common/kube/client.ts';
import type { KubeObject } from '../../common/kube/resource.ts';
import { clusterCommand, withCluster, type Cluster, type GlobalOptions } from '../context.ts';
import { print } from '../output.ts';
import { displayName, resourcePath, ResourceMapper, type ServedKind } from '../resource-mapping.ts';

interface LabelOptions extends GlobalOptions {
  readonly overwrite: boolean;
  readonly selector?: string;
  readonly all: boolean;
}

/** What to set (a value) and to remove (null). Throws for a word that is neither. */
export function parseLabelChanges(words: readonly string[]): Record<string, string | null> {
  const changes: Record<string, string | null> = {};
  for (const word of words) {
    const at = word.indexOf('=');
    if (at > 0) changes[word.slice(0, at)] = word.slice(at + 1);
    else if (at < 0 && word.length > 1 && word.endsWith('-')) changes[word.slice(0, -1)] = null;
    else throw new MeshError('usage', `"${word}" is neither KEY=VALUE nor KEY-`);
  }
  if (Object.keys(changes).length === 0) {
    throw new MeshError('usage', 'at least one label change (KEY=VALUE or KEY-) is needed');
  }
  return changes;
}

/** The labels whose value would change although one is set. */
export function labelConflicts(
  current: Readonly<Record<string, string>>,
  changes: Readonly<Record<string, string | null>>,
): string[] {
  return Object.entries(changes)
    .filter(
      ([key, value]) => value !== null && current[key] !== undefined && current[key] !== value,
    )
    .map(([key]) => key);
}

interface Target {
  readonly path: string;
  readonly name: string;
  readonly labels: Readonly<Record<string, string>>;
}

/** The objects named by TYPE NAME, TYPE/NAME or a selector, and the words that are left: the changes. */
async function findTargets(
  { client, namespace }: Cluster,
  words: readonly string[],
  options: LabelOptions,
): Promise<{ kind: ServedKind; targets: Target[]; changes: Record<string, string | null> }> {
  const [first = '', ...rest] = words;
  const [type = '', slashName] = first.split('/');
  const kind = (await ResourceMapper.discover(client)).find(type);
  const isMany = options.all || options.selector !== undefined;
  const name = slashName ?? (isMany ? undefined : rest.shift());
  const changes = parseLabelChanges(rest);
  const target = ({ metadata }: KubeObject): Target => ({
    path: resourcePath(kind, namespace, metadata?.name ?? ''),
    name: metadata?.name ?? '',
    labels: metadata?.labels ?? {},
  });
  if (name !== undefined) {
    const object = await client.json<KubeObject>({ path: resourcePath(kind, namespace, name) });
    return { kind, targets: [target(object)], changes };
  }
  const { items = [] } = await client.json<KubeList<KubeObject>>({
    path: resourcePath(kind, namespace),
    query: { labelSelector: options.selector },
  });
  return { kind, targets: items.map(target), changes };
}

/** The `label` command. */
export function labelCommand(): Command {
  return clusterCommand('label', 'set or remove labels: label TYPE NAME KEY=VALUE KEY-')
    .argument('<words...>', 'TYPE NAME or TYPE/NAME, then KEY=VALUE or KEY-')
    .option('--overwrite', 'change labels that are already set', false)
    .option('-l, --selector <selector>', 'all objects with these labels, instead of a name')
    .option('--all', 'all objects of the namespace, instead of a name', false)
    .action((words: string[], options: LabelOptions) =>
      withCluster(options, async (cluster) => {
        const { kind, targets, changes } = await findTargets(cluster, words, options);
        for (const { path, name, labels } of targets) {
          const [conflict] = labelConflicts(labels, changes);
          if (conflict !== undefined && !options.overwrite) {
            throw new MeshError(
              'conflict',
              `${name}: '${conflict}' already has a value (${labels[conflict] ?? ''}), and --overwrite is false`,
            );
          }
          await cluster.client.json({
            method: 'PATCH',
            path,
            contentType: 'application/merge-patch+json',
            body: { metadata: { labels: changes } },
          });
          const isRemoval = Object.values(changes).every((value) => value === null);
          print(`${displayName(kind, name)} ${isRemoval ? 'unlabeled' : 'labeled'}`);
        }
      }),
    );
}
