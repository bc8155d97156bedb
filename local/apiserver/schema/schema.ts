// Structural schemas (the subset of OpenAPI v3 that CRDs use): finding unknown fields, pruning them, applying
// defaults, and how lists merge. Value checks (types, formats, patterns) are ajv's, in validator.ts.
import { clone, isDict } from '../objects.ts';
import type { Dict } from '../objects.ts';

export interface Schema {
  readonly type?: string;
  readonly description?: string;
  readonly properties?: Readonly<Record<string, Schema>>;
  readonly additionalProperties?: Schema | boolean;
  readonly items?: Schema;
  readonly default?: unknown;
  readonly required?: readonly string[];
  readonly 'x-kubernetes-preserve-unknown-fields'?: boolean;
  readonly 'x-kubernetes-embedded-resource'?: boolean;
  readonly 'x-kubernetes-int-or-string'?: boolean;
  readonly 'x-kubernetes-list-type'?: string;
  readonly 'x-kubernetes-list-map-keys'?: readonly string[];
  readonly 'x-kubernetes-map-type'?: string;
  readonly 'x-kubernetes-validations'?: readonly ValidationRule[];
}

export interface ValidationRule {
  readonly rule: string;
  readonly message?: string;
  readonly messageExpression?: string;
  readonly fieldPath?: string;
  readonly reason?: string;
  readonly optionalOldSelf?: boolean;
}

const ROOT_FIELDS = ['apiVersion', 'kind', 'metadata'];

const keepsUnknown = (schema: Schema): boolean =>
  schema['x-kubernetes-preserve-unknown-fields'] === true ||
  (schema.properties === undefined &&
    schema.additionalProperties === undefined &&
    schema.items === undefined);

interface Pruned {
  readonly value: unknown;
  readonly unknown: readonly string[];
}

/**
 * The value without the fields its schema does not know, and those fields' paths (`spec.hosst`). The value
 * itself is not changed.
 */
export function prune(schema: Schema, value: unknown, path = ''): Pruned {
  const unknown: string[] = [];
  const isRoot = path === '';
  const visit = (at: Schema, node: unknown, where: string): unknown => {
    if (Array.isArray(node)) {
      const { items } = at;
      if (items === undefined) return node as unknown[];
      return node.map((item, index) => visit(items, item, `${where}[${index}]`));
    }
    if (!isDict(node)) return node;
    const keep = keepsUnknown(at);
    const hasMeta = (isRoot && where === '') || at['x-kubernetes-embedded-resource'] === true;
    const kept: Dict = {};
    for (const [name, member] of Object.entries(node)) {
      const inner = where === '' ? name : `${where}.${name}`;
      const child = at.properties?.[name];
      if (hasMeta && ROOT_FIELDS.includes(name)) kept[name] = member;
      else if (child !== undefined) kept[name] = visit(child, member, inner);
      else if (isDict(at.additionalProperties)) {
        kept[name] = visit(at.additionalProperties, member, inner);
      } else if (at.additionalProperties === true || keep) kept[name] = member;
      else unknown.push(inner);
    }
    return kept;
  };
  return { value: visit(schema, value, path), unknown };
}

const isOfType = (schema: Schema, value: unknown): boolean => {
  if (schema['x-kubernetes-int-or-string'] === true) {
    return typeof value === 'string' || typeof value === 'number';
  }
  switch (schema.type) {
    case 'object':
      return isDict(value);
    case 'array':
      return Array.isArray(value);
    case 'integer':
      return Number.isInteger(value);
    case undefined:
      return true;
    default:
      return typeof value === schema.type;
  }
};

/** The first field whose value is of another type than its schema says, as `path: type`; null is no value. */
export function findMistyped(schema: Schema, value: unknown, path = ''): string | undefined {
  if (value === null || value === undefined) return undefined;
  if (!isOfType(schema, value)) return `${path}: ${schema.type ?? 'integer or string'}`;
  const inner: [Schema | undefined, unknown, string][] = [];
  if (Array.isArray(value)) {
    for (const [index, item] of value.entries()) {
      inner.push([schema.items, item, `${path}[${index}]`]);
    }
  } else if (isDict(value)) {
    const other = isDict(schema.additionalProperties) ? schema.additionalProperties : undefined;
    for (const [name, member] of Object.entries(value)) {
      inner.push([
        schema.properties?.[name] ?? other,
        member,
        path === '' ? name : `${path}.${name}`,
      ]);
    }
  }
  for (const [child, member, where] of inner) {
    const found = child === undefined ? undefined : findMistyped(child, member, where);
    if (found !== undefined) return found;
  }
  return undefined;
}

/** Fills in the schema's defaults, in place. */
export function applyDefaults(schema: Schema, value: unknown): void {
  if (Array.isArray(value)) {
    if (schema.items !== undefined) for (const item of value) applyDefaults(schema.items, item);
    return;
  }
  if (!isDict(value)) return;
  for (const [name, child] of Object.entries(schema.properties ?? {})) {
    if (value[name] === undefined && child.default !== undefined) {
      value[name] = clone(child.default);
    }
    if (value[name] !== undefined) applyDefaults(child, value[name]);
  }
  if (isDict(schema.additionalProperties)) {
    for (const [name, member] of Object.entries(value)) {
      if (schema.properties?.[name] === undefined) {
        applyDefaults(schema.additionalProperties, member);
      }
    }
  }
}

/** Removes members that are null, as decoding into typed objects does; lists keep their nulls. */
export function dropNulls(value: unknown): void {
  if (Array.isArray(value)) {
    for (const item of value) dropNulls(item);
  } else if (isDict(value)) {
    for (const [name, member] of Object.entries(value)) {
      if (member === null) Reflect.deleteProperty(value, name);
      else dropNulls(member);
    }
  }
}
