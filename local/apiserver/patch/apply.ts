// Server-side apply: the fields a manager applies are merged in, those it applied before and no longer does are
// removed unless someone else owns them, and a field another manager set to another value is a conflict.
// Not done: moving ownership between versions of a kind (fields are compared by path alone).
import { clone, dicts, isDict, list, sameJson } from '../objects.ts';
import type { Dict, ManagedFieldsEntry } from '../objects.ts';
import { StatusError } from '../status-error.ts';
import { decodeFields, encodeFields, leavesOf, removeField, showPath } from './field-set.ts';
import { itemKey } from './shape.ts';
import type { Shape } from './shape.ts';

export interface Manager {
  readonly name: string;
  readonly apiVersion: string;
  readonly subresource: string | undefined;
  readonly time: string;
}

interface ApplyInput {
  /** The stored object; undefined creates it. */
  readonly live: Dict | undefined;
  readonly applied: Dict;
  readonly managers: readonly ManagedFieldsEntry[];
  readonly manager: Manager;
  readonly force: boolean;
  readonly shape: Shape;
}

interface Applied {
  readonly object: Dict;
  readonly managers: ManagedFieldsEntry[];
}

const isSame = (entry: ManagedFieldsEntry, manager: Manager, operation: string): boolean =>
  entry.manager === manager.name &&
  entry.operation === operation &&
  (entry.subresource ?? undefined) === manager.subresource;

/** Applies a configuration; throws 409 on conflicts that are not forced. */
export function serverSideApply(input: ApplyInput): Applied {
  const { live, applied, manager, shape } = input;
  const wanted = leavesOf(applied, shape);
  const liveLeaves = live === undefined ? undefined : leavesOf(live, shape);
  const others = new Map<ManagedFieldsEntry, Set<string>>();
  let previous = new Set<string>();
  for (const entry of input.managers) {
    const fields = decodeFields(entry.fieldsV1);
    if (isSame(entry, manager, 'Apply')) previous = fields;
    else others.set(entry, fields);
  }
  const conflicts: [string, string][] = [];
  for (const [path, value] of wanted) {
    if (path.endsWith('.') || liveLeaves === undefined) continue;
    if (liveLeaves.has(path) && sameJson(liveLeaves.get(path), value)) continue;
    for (const [entry, fields] of others) {
      if (!fields.has(path)) continue;
      if (input.force) fields.delete(path);
      else conflicts.push([entry.manager, path]);
    }
  }
  if (conflicts.length > 0) throw conflictError(conflicts);
  const object = merge(live ?? {}, applied, shape) as Dict;
  const gone = [...previous].filter(
    (path) => !wanted.has(path) && ![...others.values()].some((fields) => owns(fields, path)),
  );
  // Whole items first: their own fields go with them.
  gone.sort((a, b) => Number(b.endsWith('.')) - Number(a.endsWith('.')));
  for (const path of gone) removeField(object, path, shape);
  const present = leavesOf(object, shape);
  const managers = [...others].flatMap(([entry, fields]) => entryOf(entry, fields, present));
  managers.push(newEntry(manager, 'Apply', wanted.keys()));
  return { object, managers };
}

/** Whether a set holds the path or something below it. */
function owns(fields: ReadonlySet<string>, path: string): boolean {
  if (fields.has(path)) return true;
  if (path.endsWith('.')) return false;
  for (const field of fields) if (field.startsWith(`${path}\u001f`)) return true;
  return false;
}

function entryOf(
  entry: ManagedFieldsEntry,
  fields: ReadonlySet<string>,
  present: ReadonlyMap<string, unknown>,
): ManagedFieldsEntry[] {
  const kept = [...fields].filter((path) => present.has(path));
  if (kept.length === 0) return [];
  return [kept.length === fields.size ? entry : { ...entry, fieldsV1: encodeFields(kept) }];
}

function newEntry(
  manager: Manager,
  operation: 'Apply' | 'Update',
  paths: Iterable<string>,
): ManagedFieldsEntry {
  return {
    manager: manager.name,
    operation,
    apiVersion: manager.apiVersion,
    time: manager.time,
    fieldsType: 'FieldsV1',
    fieldsV1: encodeFields(paths),
    ...(manager.subresource === undefined ? {} : { subresource: manager.subresource }),
  };
}

function conflictError(conflicts: readonly [string, string][]): StatusError {
  const causes = conflicts.map(([manager, path]) => ({
    reason: 'FieldManagerConflict' as const,
    message: `conflict with ${JSON.stringify(manager)}`,
    field: showPath(path),
  }));
  const lines = causes.map(({ message, field }) => `${message}: ${field}`);
  const count = conflicts.length === 1 ? '1 conflict' : `${conflicts.length} conflicts`;
  const message = `Apply failed with ${count}: ${lines.join('\n')}`;
  return new StatusError(409, 'Conflict', message, { causes });
}

function merge(live: unknown, applied: unknown, shape: Shape): unknown {
  if (isDict(applied) && isDict(live) && !shape.isAtomicMap) {
    const merged: Dict = { ...live };
    for (const [name, value] of Object.entries(applied)) {
      merged[name] = merge(live[name], value, shape.member(name));
    }
    return merged;
  }
  if (Array.isArray(applied) && Array.isArray(live) && shape.list.type !== 'atomic') {
    return mergeItems(list(live), list(applied), shape);
  }
  return clone(applied);
}

function mergeItems(live: unknown[], applied: unknown[], shape: Shape): unknown[] {
  if (shape.list.type !== 'map') {
    const added = applied.filter((item) => !live.some((known) => sameJson(known, item)));
    return [...live, ...added];
  }
  const { keys } = shape.list;
  const appliedKeys = new Set(dicts(applied).map((item) => itemKey(item, keys, shape)));
  const byKey = new Map(dicts(live).map((item) => [itemKey(item, keys, shape), item]));
  const merged: unknown[] = applied.map((item) => {
    const known = byKey.get(itemKey(item, keys, shape));
    return known === undefined ? clone(item) : merge(known, item, shape.item());
  });
  const rest = dicts(live).filter((item) => !appliedKeys.has(itemKey(item, keys, shape)));
  return [...merged, ...rest];
}

interface UpdateInput {
  readonly before: Dict | undefined;
  readonly after: Dict;
  readonly managers: readonly ManagedFieldsEntry[];
  readonly manager: Manager;
  readonly shape: Shape;
}

/** Who owns what after a create, update or patch: the changed fields belong to its manager. */
export function trackUpdate(input: UpdateInput): ManagedFieldsEntry[] {
  const { manager, shape } = input;
  const before = input.before === undefined ? undefined : leavesOf(input.before, shape);
  const after = leavesOf(input.after, shape);
  const changed = new Set<string>();
  for (const [path, value] of after) {
    if (before?.has(path) === true && sameJson(before.get(path), value)) continue;
    changed.add(path);
  }
  const kept: ManagedFieldsEntry[] = [];
  const own = new Set(changed);
  for (const entry of input.managers) {
    const fields = decodeFields(entry.fieldsV1);
    if (isSame(entry, manager, 'Update')) {
      for (const path of fields) if (after.has(path)) own.add(path);
      continue;
    }
    for (const path of fields) if (changed.has(path) && !path.endsWith('.')) fields.delete(path);
    kept.push(...entryOf(entry, fields, after));
  }
  if (own.size > 0) kept.push(newEntry(manager, 'Update', own));
  return kept;
}
