// apply -f: server-side apply of files, folders or standard input.
import type { Command } from 'commander';
import { errorMessage } from '../../common/errors.ts';
import { KubeApiError, type KubeObject, type RestClient } from '../../common/kube/rest-client.ts';
import { clusterCommand, openCluster, type GlobalOptions } from '../context.ts';
import { readManifest, type ManifestObject } from '../manifest.ts';
import { print } from '../output.ts';
import { resourcePath, ResourceMapper } from '../resource-mapping.ts';

const FIELD_MANAGER = 'ambientctl';

interface ApplyOptions extends GlobalOptions {
  readonly filename: string[];
  readonly force: boolean;
}

/** Applies one object; returns `kind.group/name`. The object's own namespace wins over the default. */
export async function applyObject(
  client: RestClient,
  mapper: ResourceMapper,
  object: KubeObject,
  options: { readonly namespace: string; readonly force: boolean },
): Promise<string> {
  const kind = mapper.ofObject(object.apiVersion ?? '', object.kind ?? '');
  const name = object.metadata?.name ?? '';
  const query = {
    fieldManager: FIELD_MANAGER,
    force: String(options.force),
    fieldValidation: 'Strict',
  };
  await client.json({
    method: 'PATCH',
    path: resourcePath(kind, object.metadata?.namespace ?? options.namespace, name),
    query,
    contentType: 'application/apply-patch+yaml',
    body: object,
  });
  return `${kind.singular}${kind.group === '' ? '' : `.${kind.group}`}/${name}`;
}

async function applyAll(
  client: RestClient,
  objects: readonly ManifestObject[],
  options: ApplyOptions,
): Promise<number> {
  let mapper = await ResourceMapper.discover(client);
  let failures = 0;
  for (const { source, object } of objects) {
    try {
      const scope = { namespace: options.namespace ?? 'default', force: options.force };
      print(`${await applyObject(client, mapper, object, scope)} serverside-applied`);
      // What follows may be of the kind just defined.
      if (object.kind === 'CustomResourceDefinition')
        mapper = await ResourceMapper.discover(client);
    } catch (err) {
      failures += 1;
      const what = `${object.kind ?? ''} ${object.metadata?.name ?? ''}`;
      const hint =
        err instanceof KubeApiError && err.status === 409
          ? ' (use --force to take the fields over)'
          : '';
      process.stderr.write(`error: ${source}: ${what}: ${errorMessage(err)}${hint}\n`);
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
      const objects = options.filename.flatMap(readManifest);
      const client = openCluster(options);
      try {
        if ((await applyAll(client, objects, options)) > 0) process.exitCode = 1;
      } finally {
        client.close();
      }
    });
}
