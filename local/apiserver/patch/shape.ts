// How the parts of an object merge: which lists are keyed, sets or replaced as a whole, which maps are replaced.
// For custom resources the schema's x-kubernetes-list-type says it; for built-in kinds the table below, which
// holds the patchMergeKey and listMapKey of the lists users patch.
import { dict } from '../objects.ts';
import type { Dict } from '../objects.ts';
import type { Schema } from '../schema/schema.ts';

export type ListShape =
  | { readonly type: 'atomic' }
  | { readonly type: 'set' }
  | { readonly type: 'map'; readonly keys: readonly string[] };

/** The shape of one node of an object. */
export interface Shape {
  readonly isAtomicMap: boolean;
  readonly list: ListShape;
  member(name: string): Shape;
  item(): Shape;
  /** The value of a list key that an item leaves out. */
  keyDefault(key: string): unknown;
}

const ATOMIC: ListShape = { type: 'atomic' };
const keyed = (...keys: string[]): ListShape => ({ type: 'map', keys });

const KEYED_LISTS: Readonly<Record<string, ListShape>> = {
  containers: keyed('name'),
  initContainers: keyed('name'),
  ephemeralContainers: keyed('name'),
  env: keyed('name'),
  volumes: keyed('name'),
  volumeMounts: keyed('mountPath'),
  volumeDevices: keyed('devicePath'),
  imagePullSecrets: keyed('name'),
  hostAliases: keyed('ip'),
  topologySpreadConstraints: keyed('topologyKey', 'whenUnsatisfiable'),
  conditions: keyed('type'),
  ownerReferences: keyed('uid'),
  finalizers: { type: 'set' },
  podIPs: keyed('ip'),
  hostIPs: keyed('ip'),
  webhooks: keyed('name'),
  schedulingGates: keyed('name'),
  resourceClaims: keyed('name'),
};

const ATOMIC_MAPS = new Set(['selector', 'nodeSelector', 'labelSelector']);
const CONTAINERS = new Set(['containers', 'initContainers', 'ephemeralContainers']);

function builtinList(kind: string, name: string, owner: string): ListShape {
  if (name === 'ports') {
    if (CONTAINERS.has(owner)) return keyed('containerPort', 'protocol');
    return kind === 'Service' ? keyed('port', 'protocol') : ATOMIC;
  }
  if (name === 'addresses') return kind === 'Node' ? keyed('type') : ATOMIC;
  if (name === 'secrets') return kind === 'ServiceAccount' ? keyed('name') : ATOMIC;
  if (name === 'conditions' && owner === 'endpoints') return ATOMIC;
  return KEYED_LISTS[name] ?? ATOMIC;
}

/** The shape of a built-in kind's object, by field names. */
export function builtinShape(kind: string, name = '', owner = ''): Shape {
  return {
    isAtomicMap: ATOMIC_MAPS.has(name),
    list: builtinList(kind, name, owner),
    // An item has no name of its own: its members belong to the list.
    member: (child) => builtinShape(kind, child, name === '' ? owner : name),
    item: () => builtinShape(kind, '', name),
    keyDefault: (key) => (key === 'protocol' ? 'TCP' : undefined),
  };
}

/** The shape a custom resource's schema gives; metadata is that of every object. */
export function schemaShape(schema: Schema | undefined, isRoot = true): Shape {
  const type = schema?.['x-kubernetes-list-type'];
  const keys = schema?.['x-kubernetes-list-map-keys'] ?? [];
  const other = schema?.additionalProperties;
  return {
    isAtomicMap: schema?.['x-kubernetes-map-type'] === 'atomic',
    list: type === 'map' ? keyed(...keys) : type === 'set' ? { type } : ATOMIC,
    member(name) {
      if (isRoot && name === 'metadata') return builtinShape('', 'metadata');
      const inherited = typeof other === 'object' ? other : undefined;
      return schemaShape(schema?.properties?.[name] ?? inherited, false);
    },
    item: () => schemaShape(schema?.items, false),
    keyDefault: (key) => schema?.items?.properties?.[key]?.default,
  };
}

/** The key of a keyed list's item, in FieldsV1's spelling: sorted names, JSON values. */
export function itemKey(item: unknown, keys: readonly string[], shape: Shape): string {
  const of = dict(item);
  const found: Dict = {};
  for (const key of [...keys].sort()) {
    const value = of[key] ?? shape.keyDefault(key);
    if (value !== undefined) found[key] = value;
  }
  return JSON.stringify(found);
}
