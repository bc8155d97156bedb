// Discovery: /api, /apis and below, in the plain form and the aggregated one (apidiscovery.k8s.io/v2) that kubectl asks
// for first. Documents are built from the registry and kept until it changes.
import { apiVersionOf } from '../registry/resource.ts';
import type { Resource } from '../registry/resource.ts';
import type { Registry } from '../registry/registry.ts';
import type { Exchange } from './exchange.ts';
import { sendJson, sendText } from './exchange.ts';
import { unknownPath } from '../status-error.ts';

const VERBS = ['create', 'delete', 'deletecollection', 'get', 'list', 'patch', 'update', 'watch'];
const PART_VERBS = ['get', 'patch', 'update'];

interface Extra {
  readonly name: string;
  readonly kind: string;
  readonly group?: string;
  readonly version?: string;
  readonly verbs: readonly string[];
}

/** Subresources and requests that are not stored objects. */
const POD_PARTS: readonly Extra[] = [
  { name: 'attach', kind: 'PodAttachOptions', verbs: ['create', 'get'] },
  { name: 'binding', kind: 'Binding', verbs: ['create'] },
  { name: 'ephemeralcontainers', kind: 'Pod', verbs: PART_VERBS },
  { name: 'eviction', kind: 'Eviction', group: 'policy', version: 'v1', verbs: ['create'] },
  { name: 'exec', kind: 'PodExecOptions', verbs: ['create', 'get'] },
  { name: 'log', kind: 'Pod', verbs: ['get'] },
  { name: 'portforward', kind: 'PodPortForwardOptions', verbs: ['create', 'get'] },
];
const TOKEN: Extra = {
  name: 'token',
  kind: 'TokenRequest',
  group: 'authentication.k8s.io',
  version: 'v1',
  verbs: ['create'],
};

/** Kinds that are only asked, never stored: group, version, plural, kind, scope. */
export const REVIEWS: readonly [string, string, string, string, boolean][] = [
  ['authentication.k8s.io', 'v1', 'tokenreviews', 'TokenReview', false],
  ['authentication.k8s.io', 'v1', 'selfsubjectreviews', 'SelfSubjectReview', false],
  ['authorization.k8s.io', 'v1', 'selfsubjectaccessreviews', 'SelfSubjectAccessReview', false],
  ['authorization.k8s.io', 'v1', 'selfsubjectrulesreviews', 'SelfSubjectRulesReview', false],
  ['authorization.k8s.io', 'v1', 'subjectaccessreviews', 'SubjectAccessReview', false],
  ['authorization.k8s.io', 'v1', 'localsubjectaccessreviews', 'LocalSubjectAccessReview', true],
];

function partsOf(resource: Resource): Extra[] {
  const parts: Extra[] = [];
  if (resource.subresources.includes('status')) {
    parts.push({ name: 'status', kind: resource.kind, verbs: PART_VERBS });
  }
  if (resource.scale !== undefined) {
    parts.push({
      name: 'scale',
      kind: 'Scale',
      group: 'autoscaling',
      version: 'v1',
      verbs: PART_VERBS,
    });
  }
  if (resource.bucket === '/pods') parts.push(...POD_PARTS);
  if (resource.bucket === '/serviceaccounts') parts.push(TOKEN);
  return parts;
}

interface Group {
  readonly name: string;
  readonly versions: Map<string, Resource[]>;
}

const STABILITY = (version: string): string => {
  const [, major = '0', level = 'stable', minor = '0'] =
    /^v(\d+)(alpha|beta)?(\d*)$/.exec(version) ?? [];
  const rank = level === 'stable' ? 2 : level === 'beta' ? 1 : 0;
  return `${rank}.${major.padStart(3, '0')}.${minor.padStart(3, '0')}`;
};

function groupsOf(registry: Registry): Group[] {
  const groups = new Map<string, Group>();
  const versionsOf = (name: string): Map<string, Resource[]> => {
    let group = groups.get(name);
    if (group === undefined) groups.set(name, (group = { name, versions: new Map() }));
    return group.versions;
  };
  for (const resource of registry.all()) {
    const versions = versionsOf(resource.group);
    versions.set(resource.version, [...(versions.get(resource.version) ?? []), resource]);
  }
  for (const [group, version] of REVIEWS) {
    const versions = versionsOf(group);
    if (!versions.has(version)) versions.set(version, []);
  }
  return [...groups.values()].map(({ name, versions }) => ({
    name,
    versions: new Map([...versions].sort(([a], [b]) => STABILITY(b).localeCompare(STABILITY(a)))),
  }));
}

const kindOf = (group: string, version: string, kind: string): object => ({ group, version, kind });

function aggregatedResource(resource: Resource): object {
  const { group, version, kind } = resource;
  return {
    resource: resource.resource,
    responseKind: kindOf(group, version, kind),
    scope: resource.namespaced ? 'Namespaced' : 'Cluster',
    singularResource: resource.singular,
    verbs: VERBS,
    ...(resource.shortNames.length === 0 ? {} : { shortNames: resource.shortNames }),
    ...(resource.categories.length === 0 ? {} : { categories: resource.categories }),
    subresources: partsOf(resource).map((part) => ({
      subresource: part.name,
      responseKind: kindOf(part.group ?? group, part.version ?? version, part.kind),
      verbs: part.verbs,
    })),
  };
}

function aggregated(groups: readonly Group[], form: string): object {
  return {
    kind: 'APIGroupDiscoveryList',
    apiVersion: `apidiscovery.k8s.io/${form}`,
    metadata: {},
    items: groups.map((group) => ({
      metadata: { name: group.name, creationTimestamp: null },
      versions: [...group.versions].map(([version, resources]) => ({
        version,
        freshness: 'Current',
        resources: [
          ...resources.map(aggregatedResource),
          ...reviewsOf(group.name, version).map(([, , resource, kind, namespaced]) => ({
            resource,
            responseKind: kindOf(group.name, version, kind),
            scope: namespaced ? 'Namespaced' : 'Cluster',
            singularResource: kind.toLowerCase(),
            verbs: ['create'],
          })),
        ],
      })),
    })),
  };
}

const reviewsOf = (group: string, version: string): (typeof REVIEWS)[number][] =>
  REVIEWS.filter((review) => review[0] === group && review[1] === version);

function plainGroup(group: Group): object {
  const versions = [...group.versions.keys()].map((version) => ({
    groupVersion: apiVersionOf({ group: group.name, version }),
    version,
  }));
  return { name: group.name, versions, preferredVersion: versions[0] };
}

function plainResources(group: string, version: string, resources: readonly Resource[]): object {
  const entries = resources.flatMap((resource) => [
    {
      name: resource.resource,
      singularName: resource.singular,
      namespaced: resource.namespaced,
      kind: resource.kind,
      verbs: VERBS,
      ...(resource.shortNames.length === 0 ? {} : { shortNames: resource.shortNames }),
      ...(resource.categories.length === 0 ? {} : { categories: resource.categories }),
    },
    ...partsOf(resource).map((part) => ({
      name: `${resource.resource}/${part.name}`,
      singularName: '',
      namespaced: resource.namespaced,
      kind: part.kind,
      verbs: part.verbs,
      ...(part.group === undefined ? {} : { group: part.group, version: part.version }),
    })),
  ]);
  const reviews = reviewsOf(group, version).map(([, , name, kind, namespaced]) => ({
    name,
    singularName: kind.toLowerCase(),
    namespaced,
    kind,
    verbs: ['create'],
  }));
  return {
    kind: 'APIResourceList',
    apiVersion: 'v1',
    groupVersion: apiVersionOf({ group, version }),
    resources: [...entries, ...reviews],
  };
}

/** Answers discovery requests. */
export class Discovery {
  readonly #registry: Registry;
  readonly #documents = new Map<string, string>();
  #generation = -1;

  constructor(registry: Registry) {
    this.#registry = registry;
  }

  /** Answers `/api`, `/apis` and the paths up to a group's version. */
  handle(exchange: Exchange): void {
    const path = exchange.url.pathname.replace(/\/$/, '');
    const accept = exchange.request.headers.accept ?? '';
    const form = /v=(v2beta1|v2);as=APIGroupDiscoveryList/.exec(accept.replaceAll(' ', ''))?.[1];
    if (form !== undefined && (path === '/api' || path === '/apis')) {
      const json = this.#document(`${path} ${form}`, () => {
        const isCore = path === '/api';
        const groups = groupsOf(this.#registry).filter(({ name }) => (name === '') === isCore);
        return aggregated(groups, form);
      });
      const type = `application/json;g=apidiscovery.k8s.io;v=${form};as=APIGroupDiscoveryList`;
      sendText(exchange, 200, json, type);
      return;
    }
    sendText(
      exchange,
      200,
      this.#document(path, () => this.#plain(path)),
    );
  }

  #plain(path: string): object {
    const groups = groupsOf(this.#registry);
    const [, root, name, version] = path.split('/');
    if (path === '/api') {
      return { kind: 'APIVersions', versions: ['v1'], serverAddressByClientCIDRs: [] };
    }
    if (path === '/apis') {
      const named = groups.filter((group) => group.name !== '');
      return { kind: 'APIGroupList', apiVersion: 'v1', groups: named.map(plainGroup) };
    }
    const group = groups.find((item) => item.name === (root === 'api' ? '' : name));
    if (group === undefined) throw unknownPath();
    if (root === 'apis' && version === undefined) {
      return { kind: 'APIGroup', apiVersion: 'v1', ...plainGroup(group) };
    }
    const wanted = root === 'api' ? name : version;
    const resources = group.versions.get(wanted ?? '');
    if (resources === undefined) throw unknownPath();
    return plainResources(group.name, wanted ?? '', resources);
  }

  #document(name: string, build: () => object): string {
    if (this.#generation !== this.#registry.generation) {
      this.#documents.clear();
      this.#generation = this.#registry.generation;
    }
    let json = this.#documents.get(name);
    if (json === undefined) {
      json = JSON.stringify(build());
      this.#documents.set(name, json);
    }
    return json;
  }
}

/** Answers `/version`. */
export function sendVersion(exchange: Exchange): void {
  sendJson(exchange, 200, {
    major: '1',
    minor: '33',
    gitVersion: 'v1.33.0+ambient-mesh',
    gitCommit: '',
    gitTreeState: 'clean',
    buildDate: '2026-01-01T00:00:00Z',
    goVersion: 'none',
    compiler: 'node',
    platform: `linux/${process.arch === 'x64' ? 'amd64' : process.arch}`,
  });
}
