// delete: by type and name, by selector, or what a file names.
import type { Command } from 'commander';
import { MeshError } from '../../common/errors.ts';
import { KubeApiError, type KubeObject, type RestClient } from '../../common/kube/rest-client.ts';
import { clusterCommand, openCluster, type GlobalOptions } from '../context.ts';
import { readManifest } from '../manifest.ts';
import { print } from '../output.ts';
import { resourcePath, ResourceMapper, type ResourceKind } from '../resource-mapping.ts';

interface DeleteOptions extends GlobalOptions {
  readonly filename?: string[];
  readonly selector?: string;
  readonly ignoreNotFound: boolean;
}

interface Target {
  readonly kind: ResourceKind;
  readonly namespace: string;
  readonly name: string;
}

async function targets(
  client: RestClient,
  mapper: ResourceMapper,
  words: readonly string[],
  options: DeleteOptions,
): Promise<Target[]> {
  const namespace = options.namespace ?? 'default';
  if (options.filename !== undefined) {
    return options.filename
      .flatMap(readManifest)
      .reverse()
      .map(({ object }) => ({
        kind: mapper.ofObject(object.apiVersion ?? '', object.kind ?? ''),
        namespace: object.metadata?.namespace ?? namespace,
        name: object.metadata?.name ?? '',
      }));
  }
  const [type, ...names] = words.flatMap((word) => word.split('/'));
  if (type === undefined)
    throw new MeshError('usage', 'name what to delete: TYPE NAME, or -f FILE');
  const kind = mapper.find(type);
  if (options.selector === undefined) {
    if (names.length === 0)
      throw new MeshError('usage', 'name the object, or give a selector (-l)');
    return names.map((name) => ({ kind, namespace, name }));
  }
  const list = await client.json<{ items: KubeObject[] }>({
    path: resourcePath(kind, namespace),
    query: { labelSelector: options.selector },
  });
  return list.items.map((item) => ({ kind, namespace, name: item.metadata?.name ?? '' }));
}

/** The `delete` command. */
export function deleteCommand(): Command {
  return clusterCommand('delete', 'delete objects: delete TYPE NAME..., or -f FILE')
    .argument('[words...]', 'TYPE NAME... or TYPE/NAME')
    .option('-f, --filename <path...>', 'delete what these files name')
    .option('-l, --selector <selector>', 'label selector')
    .option('--ignore-not-found', 'a missing object is no error', false)
    .action(async (words: string[], options: DeleteOptions) => {
      const client = openCluster(options);
      try {
        const mapper = await ResourceMapper.discover(client);
        for (const { kind, namespace, name } of await targets(client, mapper, words, options)) {
          try {
            await client.json({ method: 'DELETE', path: resourcePath(kind, namespace, name) });
            print(`${kind.singular} "${name}" deleted`);
          } catch (err) {
            const isMissing = err instanceof KubeApiError && err.status === 404;
            if (!isMissing || !options.ignoreNotFound) throw err;
          }
        }
      } finally {
        client.close();
      }
    });
}
