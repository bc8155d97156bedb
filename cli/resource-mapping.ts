// From a word a person types (pod, po, deploy, vs, pods.v1.core) to the API path, by the server's discovery.
import { MeshError } from '../common/errors.ts';
import type { KubeClient } from '../common/kube/client.ts';
import { collectionPath, objectPath, type ResourceKind } from '../common/kube/resource.ts';

/** One kind as the server serves it. */
export interface ServedKind extends ResourceKind {
  readonly singular: string;
  readonly shortNames: readonly string[];
}

interface ApiResourceList {
  readonly resources: readonly {
    readonly name: string;
    readonly singularName: string;
    readonly namespaced: boolean;
    readonly kind: string;
    readonly shortNames?: readonly string[];
  }[];
}

interface ApiGroupList {
  readonly groups: readonly {
    readonly name: string;
    readonly preferredVersion: { readonly version: string };
    readonly versions: readonly { readonly version: string }[];
  }[];
}

/** API path of a kind's collection or object. */
export function resourcePath(
  kind: ResourceKind,
  namespace: string | undefined,
  name?: string,
): string {
  return name === undefined ? collectionPath(kind, namespace) : objectPath(kind, namespace, name);
}

/** How kubectl names a kind, `kind.group`, or an object, `kind.group/name`. */
export function displayName(kind: ServedKind, name?: string): string {
  const kindName = kind.group === '' ? kind.singular : `${kind.singular}.${kind.group}`;
  return name === undefined ? kindName : `${kindName}/${name}`;
}

/** The kinds of a server. */
export class ResourceMapper {
  readonly #kinds: readonly ServedKind[];

  private constructor(kinds: readonly ServedKind[]) {
    this.#kinds = kinds;
  }

  /** Reads the server's discovery. */
  static async discover(client: KubeClient): Promise<ResourceMapper> {
    const { groups } = await client.json<ApiGroupList>({ path: '/apis' });
    const wanted = groups.flatMap(({ name, preferredVersion, versions }) =>
      [preferredVersion.version, ...versions.map((each) => each.version)]
        .filter((version, index, all) => all.indexOf(version) === index)
        .map((version) => ({ group: name, version, path: `/apis/${name}/${version}` })),
    );
    const core = { group: '', version: 'v1', path: '/api/v1' };
    const lists = await Promise.all([core, ...wanted].map((entry) => listKinds(client, entry)));
    return new ResourceMapper(lists.flat());
  }

  /** Finds a kind by the word typed; throws kubectl's error when there is none. */
  find(word: string): ServedKind {
    const [name = '', ...rest] = word.toLowerCase().split('.');
    const group = rest.join('.');
    const found = this.#kinds.find(
      (kind) =>
        (kind.plural === name ||
          kind.singular === name ||
          kind.shortNames.includes(name) ||
          kind.kind.toLowerCase() === name) &&
        (group === '' || kind.group === group || `${kind.version}.${kind.group}` === group),
    );
    if (found === undefined) {
      throw new MeshError('unknown_resource', `the server doesn't have a resource type "${word}"`);
    }
    return found;
  }

  /** The kind of an object's apiVersion and kind. */
  ofObject(apiVersion: string, kind: string): ServedKind {
    const [group, version] = apiVersion.includes('/') ? apiVersion.split('/') : ['', apiVersion];
    const found = this.#kinds.find(
      (each) => each.kind === kind && each.group === group && each.version === version,
    );
    if (found === undefined) {
      throw new MeshError(
        'unknown_resource',
        `no matches for kind "${kind}" in version "${apiVersion}"`,
      );
    }
    return found;
  }
}

async function listKinds(
  client: KubeClient,
  entry: { readonly group: string; readonly version: string; readonly path: string },
): Promise<ServedKind[]> {
  const { resources } = await client.json<ApiResourceList>({ path: entry.path });
  return resources
    .filter((resource) => !resource.name.includes('/'))
    .map((resource) => ({
      group: entry.group,
      version: entry.version,
      kind: resource.kind,
      plural: resource.name,
      singular: resource.singularName === '' ? resource.kind.toLowerCase() : resource.singularName,
      shortNames: resource.shortNames ?? [],
      isNamespaced: resource.namespaced,
    }));
}
