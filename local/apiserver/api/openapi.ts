// OpenAPI v3, as much as kubectl needs: that writes take `fieldValidation` (so kubectl leaves validation to the server)
// and the schemas of kinds (`kubectl explain`). Strategic merge patches are left out on purpose: kubectl then uses the
// merge keys it has built in.
import { createHash } from 'node:crypto';
import { isDict } from '../objects.ts';
import type { Dict } from '../objects.ts';
import type { Registry } from '../registry/registry.ts';
import type { Resource } from '../registry/resource.ts';
import { unknownPath } from '../status-error.ts';
import type { Exchange } from './exchange.ts';
import { sendText } from './exchange.ts';

const QUERY_PARAMETERS = ['dryRun', 'fieldManager', 'fieldValidation', 'force'].map((name) => ({
  name,
  in: 'query',
  schema: { type: name === 'force' ? 'boolean' : 'string', uniqueItems: true },
}));

const documentPath = (resource: Resource): string =>
  resource.group === '' ? `api/${resource.version}` : `apis/${resource.group}/${resource.version}`;

/** `io.istio.networking.v1.VirtualService`. */
function schemaName(resource: Resource): string {
  const group = resource.group === '' ? 'core' : resource.group;
  const reversed = resource.isCustom
    ? group.split('.').reverse().join('.')
    : `io.k8s.api.${group.split('.')[0] ?? group}`;
  return `${reversed}.${resource.version}.${resource.kind}`;
}

const META = 'io.k8s.apimachinery.pkg.apis.meta.v1.ObjectMeta';

const META_SCHEMA = {
  description: 'ObjectMeta is metadata that all persisted resources must have.',
  type: 'object',
  properties: {
    name: { type: 'string', description: 'Name must be unique within a namespace.' },
    namespace: { type: 'string', description: 'The space within which each name is unique.' },
    labels: { type: 'object', additionalProperties: { type: 'string' } },
    annotations: { type: 'object', additionalProperties: { type: 'string' } },
    generateName: { type: 'string' },
    finalizers: { type: 'array', items: { type: 'string' } },
    creationTimestamp: { type: 'string', format: 'date-time' },
    deletionTimestamp: { type: 'string', format: 'date-time' },
    generation: { type: 'integer', format: 'int64' },
    resourceVersion: { type: 'string' },
    uid: { type: 'string' },
  },
};

/** A document must hold valid OpenAPI: `x-kubernetes-validations` and the like stay, `$ref`s are ours alone. */
function schemaOf(resource: Resource): Dict {
  const given = resource.schema;
  const base: Dict = isDict(given) ? { ...given } : { type: 'object' };
  base['properties'] = {
    ...given?.properties,
    apiVersion: { type: 'string', description: 'The versioned schema of this object.' },
    kind: { type: 'string', description: 'The REST resource this object represents.' },
    metadata: { allOf: [{ $ref: `#/components/schemas/${META}` }], default: {} },
  };
  const { group, version, kind } = resource;
  return { ...base, 'x-kubernetes-group-version-kind': [{ group, version, kind }] };
}

function pathItem(resource: Resource): Dict {
  const { group, version, kind } = resource;
  const type = { group, version, kind };
  const content = {
    'application/json': {
      schema: { $ref: `#/components/schemas/${schemaName(resource)}` },
    },
  };
  const responses = { '200': { description: 'OK', content } };
  const write = (action: string, types: readonly string[]): Dict => ({
    'x-kubernetes-action': action,
    'x-kubernetes-group-version-kind': type,
    parameters: QUERY_PARAMETERS,
    requestBody: {
      content: Object.fromEntries(types.map((name) => [name, { schema: { type: 'object' } }])),
    },
    responses,
  });
  return {
    get: { 'x-kubernetes-action': 'get', 'x-kubernetes-group-version-kind': type, responses },
    put: write('put', ['application/json']),
    patch: write('patch', [
      'application/apply-patch+yaml',
      'application/json-patch+json',
      'application/merge-patch+json',
    ]),
  };
}

function buildDocument(resources: readonly Resource[]): string {
  const paths: Dict = {};
  const schemas: Dict = { [META]: META_SCHEMA };
  for (const resource of resources) {
    const scope = resource.namespaced ? 'namespaces/{namespace}/' : '';
    paths[`/${documentPath(resource)}/${scope}${resource.resource}/{name}`] = pathItem(resource);
    schemas[schemaName(resource)] = schemaOf(resource);
  }
  return JSON.stringify({
    openapi: '3.0.0',
    info: { title: 'Kubernetes', version: 'v1.33.0' },
    paths,
    components: { schemas },
  });
}

/** Answers `/openapi/v3` and below. */
export class OpenApi {
  readonly #registry: Registry;
  readonly #documents = new Map<string, string>();
  #generation = -1;

  constructor(registry: Registry) {
    this.#registry = registry;
  }

  handle(exchange: Exchange): void {
    if (this.#generation !== this.#registry.generation) {
      this.#documents.clear();
      this.#generation = this.#registry.generation;
    }
    const path = exchange.url.pathname.replace(/^\/openapi\/v3\/?/, '');
    if (path === '') sendText(exchange, 200, this.#index());
    else sendText(exchange, 200, this.#document(path));
  }

  /** The documents with a hash each, by which kubectl caches them. */
  #index(): string {
    const paths: Dict = {};
    for (const path of new Set(this.#registry.all().map(documentPath))) {
      const names = this.#registry
        .all()
        .filter((resource) => documentPath(resource) === path)
        .map((resource) => `${resource.resource} ${this.#registry.generation}`);
      const hash = createHash('sha256').update(names.join()).digest('hex').toUpperCase();
      paths[path] = { serverRelativeURL: `/openapi/v3/${path}?hash=${hash}` };
    }
    return JSON.stringify({ paths });
  }

  #document(path: string): string {
    let json = this.#documents.get(path);
    if (json === undefined) {
      const resources = this.#registry.all().filter((item) => documentPath(item) === path);
      if (resources.length === 0) throw unknownPath();
      json = buildDocument(resources);
      this.#documents.set(path, json);
    }
    return json;
  }
}
