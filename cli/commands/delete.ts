// delete: by type and name, by selector, or what a file names. Waits until the objects are gone, as kubectl does.
import type { Command } from 'commander';
import { setTimeout as wait } from 'node:timers/promises';
import { MeshError } from '../../common/errors.ts';
import { isKubeStatus, type KubeClient, type KubeList } from '../../common/kube/client.ts';
import type { KubeObject } from '../../common/kube/resource.ts';
import { clusterCommand, withCluster, type Cluster, type GlobalOptions } from '../context.ts';
import { readManifest } from '../../common/kube/manifest.ts';
import { print } from '../output.ts';
import { displayName, resourcePath, ResourceMapper, type ServedKind } from '../resource-mapping.ts';

const POLL_MS = 200;
const WAIT_MS = 60_000;

interface DeleteOptions extends GlobalOptions {
  readonly filename?: string[];
  readonly selector?: string;
  readonly ignoreNotFound: boolean;
  readonly wait: boolean;
}

interface Target {
  readonly kind: ServedKind;
  readonly namespace: string;
  readonly name: string;
}

async function targets(
  { client, namespace }: Cluster,
  mapper: ResourceMapper,
  words: readonly string[],
  options: DeleteOptions,
): Promise<Target[]> {
  if (options.filename !== undefined) {
    return options.filename
      .flatMap((path) => readManifest(path))
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
  const { items = [] } = await client.json<KubeList<KubeObject>>({
    path: resourcePath(kind, namespace),
    query: { labelSelector: options.selector },
  });
  return items.map((item) => ({ kind, namespace, name: item.metadata?.name ?? '' }));
}

/** Deletes one object; its uid, or undefined when there was none and that is no error. */
async function remove(
  client: KubeClient,
  path: string,
  ignoreNotFound: boolean,
): Promise<string | undefined> {
  try {
    const object = await client.json<KubeObject>({ path });
    await client.json({ method: 'DELETE', path });
    return object.metadata?.uid ?? '';
  } catch (err) {
    if (isKubeStatus(err, 404) && ignoreNotFound) return undefined;
    throw err;
  }
}

/** Until the object is gone or another has taken its name. */
async function waitGone(client: KubeClient, path: string, uid: string): Promise<void> {
  const deadline = Date.now() + WAIT_MS;
  for (;;) {
    try {
      if ((await client.json<KubeObject>({ path })).metadata?.uid !== uid) return;
    } catch (err) {
      if (isKubeStatus(err, 404)) return;
      throw err;
    }
    if (Date.now() > deadline)
      throw new MeshError('timeout', `${path} is not gone after ${WAIT_MS / 1000} s`);
    await wait(POLL_MS);
  }
}

/** The `delete` command. */
export function deleteCommand(): Command {
  return clusterCommand('delete', 'delete objects: delete TYPE NAME..., or -f FILE')
    .argument('[words...]', 'TYPE NAME... or TYPE/NAME')
    .option('-f, --filename <path...>', 'delete what these files name')
    .option('-l, --selector <selector>', 'label selector')
    .option('--ignore-not-found', 'a missing object is no error', false)
    .option('--no-wait', 'do not wait until the objects are gone')
    .action((words: string[], options: DeleteOptions) =>
      withCluster(options, async (cluster) => {
        const { client } = cluster;
        const mapper = await ResourceMapper.discover(client);
        const found = await targets(cluster, mapper, words, options);
        if (found.length === 0) print('No resources found');
        const gone: [string, string][] = [];
        for (const { kind, namespace, name } of found) {
          const path = resourcePath(kind, namespace, name);
          const uid = await remove(client, path, options.ignoreNotFound);
          if (uid === undefined) continue;
          print(`${displayName(kind)} "${name}" deleted`);
          gone.push([path, uid]);
        }
        if (options.wait) for (const [path, uid] of gone) await waitGone(client, path, uid);
      }),
    );
}
