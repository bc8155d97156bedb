// apply -f: server-side apply of files, folders or standard input. Errors name file, object and field; what can be
// applied is applied.
import type { Command } from 'commander';
import { errorMessage } from '../../common/errors.ts';
import { isKubeStatus, KubeError, type KubeClient } from '../../common/kube/client.ts';
import type { KubeObject } from '../../common/kube/resource.ts';
import { clusterCommand, withCluster, type Cluster, type GlobalOptions } from '../context.ts';
import { readManifest, type ManifestObject } from '../../common/kube/manifest.ts';
import { print } from '../output.ts';
import { displayName, resourcePath, ResourceMapper } from '../resource-mapping.ts';

const FIELD_MANAGER = 'ambientctl';

interface ApplyOptions extends GlobalOptions {
  readonly filename: string[];
  readonly force: boolean;
}

/** Applies one object; says its name and what happened. The object's own namespace wins over the default. */
async function applyObject(
  client: KubeClient,
  mapper: ResourceMapper,
  object: KubeObject,
  options: { readonly namespace: string; readonly force: boolean },
): Promise<string> {
  const kind = mapper.ofObject(object.apiVersion ?? '', object.kind ?? '');
  const name = object.metadata?.name ?? '';
  const path = resourcePath(kind, object.metadata?.namespace ?? options.namespace, name);
  const before = await client.json<KubeObject>({ path }).catch((err: unknown) => {
    if (isKubeStatus(err, 404)) return undefined;
    throw err;
  });
  const after = await client.json<KubeObject>({
    method: 'PATCH',
    path,
    query: {
      fieldManager: FIELD_MANAGER,
      force: String(options.force),
      fieldValidation: 'Strict',
    },
    contentType: 'application/apply-patch+yaml',
    body: object,
  });
  const isSame = before?.metadata?.resourceVersion === after.metadata?.resourceVersion;
  const what = before === undefined ? 'created' : isSame ? 'unchanged' : 'configured';
  return `${displayName(kind, name)} ${what}`;
}

async function applyAll(
  { client, namespace }: Cluster,
  objects: readonly ManifestObject[],
  options: ApplyOptions,
): Promise<number> {
  let mapper = await ResourceMapper.discover(client);
  let failures = 0;
  for (const { source, object } of objects) {
    try {
      print(await applyObject(client, mapper, object, { namespace, force: options.force }));
      // What follows may be of the kind just defined.
      if (object.kind === 'CustomResourceDefinition')
        mapper = await ResourceMapper.discover(client);
    } catch (err) {
      if (err instanceof KubeError && err.status === 0) throw err;
      failures += 1;
      const what = `${object.kind ?? ''} ${object.metadata?.name ?? ''}`;
      const why = err instanceof KubeError ? err.answer : errorMessage(err);
      const hint = isKubeStatus(err, 409) ? ' (use --force to take the fields over)' : '';
      process.stderr.write(`error: ${source}: ${what}: ${why}${hint}\n`);
    }
  }
  return failures;
}

/** The `apply` command. */
export function applyCommand(): Command {
  return clusterCommand('apply', 'apply files, folders or standard input (-)')
    .requiredOption('-f, --filename <path...>', 'file, folder, or -')
    .option('--force', 'take over fields that another manager owns', false)
    .action(async (options: ApplyOptions) => {
      const objects = options.filename.flatMap((path) => readManifest(path));
      await withCluster(options, async (cluster) => {
        if ((await applyAll(cluster, objects, options)) > 0) process.exitCode = 1;
      });
    });
}
