// Shapes of stored Kubernetes objects, and the narrow helpers that read untyped parts of them. Only what this
// server itself looks at is typed; everything else passes through as plain JSON.

export type Dict = Record<string, unknown>;

export interface OwnerReference {
  apiVersion: string;
  kind: string;
  name: string;
  uid: string;
  controller?: boolean;
  blockOwnerDeletion?: boolean;
}

export interface ManagedFieldsEntry {
  manager: string;
  operation: 'Apply' | 'Update';
  apiVersion: string;
  time?: string;
  fieldsType: 'FieldsV1';
  fieldsV1: Dict;
  subresource?: string;
}

export interface ObjectMeta {
  name: string;
  generateName?: string;
  namespace?: string;
  uid: string;
  resourceVersion: string;
  generation?: number;
  creationTimestamp: string;
  deletionTimestamp?: string;
  deletionGracePeriodSeconds?: number;
  labels?: Record<string, string>;
  annotations?: Record<string, string>;
  ownerReferences?: OwnerReference[];
  finalizers?: string[];
  managedFields?: ManagedFieldsEntry[];
}

export interface KubeObject {
  apiVersion: string;
  kind: string;
  metadata: ObjectMeta;
  [field: string]: unknown;
}

export interface LabelSelector {
  matchLabels?: Record<string, string>;
  matchExpressions?: { key: string; operator: string; values?: string[] }[];
}

/** Whether a value is a plain JSON object. */
export function isDict(value: unknown): value is Dict {
  return typeof value === 'object' && value !== null && !Array.isArray(value);
}

/** The value as a JSON object; an empty one when it is none. */
export function dict(value: unknown): Dict {
  return isDict(value) ? value : {};
}

/** The value as a list; empty when it is none. */
export function list(value: unknown): unknown[] {
  return Array.isArray(value) ? (value as unknown[]) : [];
}

/** The value as a list of JSON objects; other members are left out. */
export function dicts(value: unknown): Dict[] {
  return list(value).filter(isDict);
}

/** The value as text; empty when it is none. */
export function text(value: unknown): string {
  return typeof value === 'string' ? value : '';
}

/** The value as a number, or the fallback. */
export function number(value: unknown, fallback: number): number {
  return typeof value === 'number' ? value : fallback;
}

/** Walks nested objects by field names; undefined when a step is missing. */
export function field(value: unknown, ...path: string[]): unknown {
  let at = value;
  for (const name of path) {
    if (!isDict(at)) return undefined;
    at = at[name];
  }
  return at;
}

/** A scalar as text; empty when it is none. */
export function scalarText(value: unknown): string {
  if (typeof value === 'string') return value;
  return typeof value === 'number' || typeof value === 'boolean' ? String(value) : '';
}

/** A deep copy of plain JSON. */
export function clone<T>(value: T): T {
  return structuredClone(value);
}

/** Deep equality of plain JSON; a missing and an undefined member are equal. */
export function sameJson(a: unknown, b: unknown): boolean {
  if (a === b) return true;
  if (Array.isArray(a) && Array.isArray(b)) {
    return a.length === b.length && a.every((item, index) => sameJson(item, b[index]));
  }
  if (!isDict(a) || !isDict(b)) return false;
  for (const key of Object.keys(a)) if (!sameJson(a[key], b[key])) return false;
  for (const key of Object.keys(b)) if (a[key] === undefined && b[key] !== undefined) return false;
  return true;
}

/** The time in the form metadata uses: whole seconds, UTC. */
export function timestamp(ms: number): string {
  return `${new Date(ms).toISOString().slice(0, 19)}Z`;
}

/** The reference of the owner that controls an object. */
export function controllerOf(object: KubeObject): OwnerReference | undefined {
  return object.metadata.ownerReferences?.find((owner) => owner.controller === true);
}

const NAME_ALPHABET = 'bcdfghjklmnpqrstvwxz2456789';

/** A random suffix for generated names, in Kubernetes' alphabet (no vowels). */
export function randomSuffix(length = 5): string {
  let suffix = '';
  for (let index = 0; index < length; index += 1) {
    suffix += NAME_ALPHABET.charAt(Math.floor(Math.random() * NAME_ALPHABET.length));
  }
  return suffix;
}
