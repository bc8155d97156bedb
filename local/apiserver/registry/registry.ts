// Which resources are served now: the built-in ones and those of CustomResourceDefinitions. Custom ones are built
// from their definition when it changes; looking one up is a map access.
import type { KubeObject } from '../objects.ts';
import { BUILTIN_RESOURCES } from './builtin.ts';
import { resourcesOfDefinition } from './custom.ts';
import { apiVersionOf } from './resource.ts';
import type { Resource } from './resource.ts';

const key = (group: string, version: string, resource: string): string =>
  `${group}/${version}/${resource}`;

/** Group versions in the order discovery lists them: the core group's first, stable before beta. */
export class Registry {
  readonly #byPath = new Map<string, Resource>();
  readonly #custom = new Map<string, readonly Resource[]>();
  #generation = 0;

  constructor() {
    for (const resource of BUILTIN_RESOURCES) this.#add(resource);
  }

  /** Grows with every change of what is served; discovery documents are cached by it. */
  get generation(): number {
    return this.#generation;
  }

  find(group: string, version: string, resource: string): Resource | undefined {
    return this.#byPath.get(key(group, version, resource));
  }

  findKind(apiVersion: string, kind: string): Resource | undefined {
    for (const resource of this.#byPath.values()) {
      if (resource.kind === kind && apiVersionOf(resource) === apiVersion) return resource;
    }
    return undefined;
  }

  /** One served version of a stored resource. */
  findBucket(bucket: string): Resource | undefined {
    for (const resource of this.#byPath.values()) if (resource.bucket === bucket) return resource;
    return undefined;
  }

  all(): Resource[] {
    return [...this.#byPath.values()];
  }

  /** Serves what a definition describes, instead of what it described before. */
  define(definition: KubeObject): void {
    this.undefine(definition.metadata.name);
    const resources = resourcesOfDefinition(definition);
    this.#custom.set(definition.metadata.name, resources);
    for (const resource of resources) this.#add(resource);
    this.#generation += 1;
  }

  /** Stops serving a definition's resources. */
  undefine(name: string): void {
    for (const { group, version, resource } of this.#custom.get(name) ?? []) {
      this.#byPath.delete(key(group, version, resource));
    }
    if (this.#custom.delete(name)) this.#generation += 1;
  }

  #add(resource: Resource): void {
    this.#byPath.set(key(resource.group, resource.version, resource.resource), resource);
  }
}
