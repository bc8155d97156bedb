// L7 resources from a file instead of xDS (LOCAL_L7_PATH: tests and benchmarks). YAML or JSON with the keys
// `serviceRoutes`, `clusters`, `subsetMembers` and `authorizationPolicies`, each a list in protobuf's JSON form.
import { readFileSync } from 'node:fs';
import { fromJson, toBinary } from '@bufbuild/protobuf';
import type { DescMessage, JsonValue } from '@bufbuild/protobuf';
import { parse } from 'yaml';
import { MeshError } from '../errors.ts';
import {
  AuthorizationPolicySchema,
  ClusterSchema,
  ServiceRoutesSchema,
  SubsetMembersSchema,
} from './gen/l7_pb.ts';
import { inField } from './route-table.ts';

/** A resource as xDS would carry it. */
export interface LocalL7Resource {
  readonly kind: 'ServiceRoutes' | 'Cluster' | 'SubsetMembers' | 'AuthorizationPolicy';
  readonly name: string;
  readonly value: Uint8Array;
}

interface Row {
  readonly key: string;
  readonly kind: LocalL7Resource['kind'];
  readonly schema: DescMessage;
  readonly nameOf: (json: Readonly<Record<string, unknown>>) => string;
}

const text = (value: unknown): string => (typeof value === 'string' ? value : '');

const ROWS: readonly Row[] = [
  {
    key: 'serviceRoutes',
    kind: 'ServiceRoutes',
    schema: ServiceRoutesSchema,
    nameOf: (json) => `${text(json['namespace'])}/${text(json['hostname'])}`,
  },
  {
    key: 'clusters',
    kind: 'Cluster',
    schema: ClusterSchema,
    nameOf: (json) => text(json['name']),
  },
  {
    key: 'subsetMembers',
    kind: 'SubsetMembers',
    schema: SubsetMembersSchema,
    nameOf: (json) => text(json['cluster']),
  },
  {
    key: 'authorizationPolicies',
    kind: 'AuthorizationPolicy',
    schema: AuthorizationPolicySchema,
    nameOf: (json) => `${text(json['namespace'])}/${text(json['name'])}`,
  },
];

/** Reads and checks a file; throws `bad_resource` with the place. */
export function readLocalL7(path: string): LocalL7Resource[] {
  return inField(path, () => parseLocalL7(readFileSync(path, 'utf8')));
}

/** Parses the text of such a file. */
export function parseLocalL7(source: string): LocalL7Resource[] {
  const document: unknown = parse(source);
  if (document === null || typeof document !== 'object') {
    throw new MeshError('bad_resource', 'is not an object');
  }
  const lists = new Map(Object.entries(document));
  const found: LocalL7Resource[] = [];
  for (const { key, kind, schema, nameOf } of ROWS) {
    const list: unknown = lists.get(key) ?? [];
    lists.delete(key);
    if (!Array.isArray(list)) throw new MeshError('bad_resource', `${key}: is not a list`);
    for (const [at, entry] of list.entries()) {
      const json = entry as Readonly<Record<string, JsonValue>>;
      const message = inField(`${key}[${at}]`, () => fromJson(schema, json));
      found.push({ kind, name: nameOf(json), value: toBinary(schema, message) });
    }
  }
  const unknown = [...lists.keys()];
  if (unknown.length > 0) throw new MeshError('bad_resource', `unknown key ${unknown.join(', ')}`);
  return found;
}
