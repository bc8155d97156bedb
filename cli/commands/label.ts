// label: KEY=VALUE sets, KEY- removes; an existing value is kept unless --overwrite.
import type { Command } from 'commander';
import { MeshError } from '../../common/errors.ts';
import { clusterCommand, openCluster, type GlobalOptions } from '../context.ts';
import { print } from '../output.ts';
import { resourcePath, ResourceMapper } from '../resource-mapping.ts';

interface LabelOptions extends GlobalOptions {
  readonly overwrite: boolean;
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

/** The `label` command. */
export function labelCommand(): Command {
  return clusterCommand('label', 'set or remove labels: label TYPE NAME KEY=VALUE KEY-')
    .argument('<type>', 'resource type')
    .argument('<name>', 'object name')
    .argument('<changes...>', 'KEY=VALUE or KEY-')
    .option('--overwrite', 'change labels that are already set', false)
    .action(async (type: string, name: string, words: string[], options: LabelOptions) => {
      const changes = parseLabelChanges(words);
      const client = openCluster(options);
      try {
        const kind = (await ResourceMapper.discover(client)).find(type);
        const path = resourcePath(kind, options.namespace ?? 'default', name);
        const current = (await client.json({ path })).metadata?.labels ?? {};
        const conflicts = labelConflicts(current, changes);
        if (conflicts.length > 0 && !options.overwrite) {
          const first = conflicts[0] ?? '';
          throw new MeshError(
            'conflict',
            `'${first}' already has a value (${current[first] ?? ''}), and --overwrite is false`,
          );
        }
        await client.json({
          method: 'PATCH',
          path,
          contentType: 'application/merge-patch+json',
          body: { metadata: { labels: changes } },
        });
        print(
          `${kind.singular}/${name} ${Object.values(changes).every((value) => value === null) ? 'unlabeled' : 'labeled'}`,
        );
      } finally {
        client.close();
      }
    });
}
