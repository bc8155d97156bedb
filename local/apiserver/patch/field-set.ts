// Sets of fields, as managedFields records them (FieldsV1): `f:name` for a member, `k:{...}` for a keyed list's item,
// `v:...` for a set's item, `.` for the item itself. In memory a set is its leaf paths, joined by a separator.
import { dict, isDict, list } from '../objects.ts';
import type { Dict } from '../objects.ts';
import { itemKey } from './shape.ts';
import type { Shape } from './shape.ts';

const SEPARATOR = '\u001f';

/** Leaf paths with the value found there. */
export type Leaves = Map<string, unknown>;

const UNOWNED_METADATA = new Set([
  'name',
  'namespace',
  'generateName',
  'uid',
  'resourceVersion',
  'generation',
  'creationTimestamp',
  'deletionTimestamp',
  'deletionGracePeriodSeconds',
  'selfLink',
  'managedFields',
]);

/** The leaf fields of an object that managers can own. */
export function leavesOf(object: Dict, shape: Shape): Leaves {
  const leaves: Leaves = new Map();
  for (const [name, value] of Object.entries(object)) {
    if (name === 'apiVersion' || name === 'kind') continue;
    if (name === 'metadata') {
      const owned = Object.entries(dict(value)).filter(([member]) => !UNOWNED_METADATA.has(member));
      for (const [member, inner] of owned) {
        collect(
          inner,
          shape.member(name).member(member),
          `f:metadata${SEPARATOR}f:${member}`,
          leaves,
        );
      }
    } else {
      collect(value, shape.member(name), `f:${name}`, leaves);
    }
  }
  return leaves;
}

function collect(value: unknown, shape: Shape, path: string, leaves: Leaves): void {
  if (value === undefined) return;
  if (isDict(value) && !shape.isAtomicMap && Object.keys(value).length > 0) {
    for (const [name, member] of Object.entries(value)) {
      collect(member, shape.member(name), `${path}${SEPARATOR}f:${name}`, leaves);
    }
    return;
  }
  if (Array.isArray(value) && shape.list.type !== 'atomic' && value.length > 0) {
    collectItems(value, shape, path, leaves);
    return;
  }
  leaves.set(path, value);
}

function collectItems(items: unknown[], shape: Shape, path: string, leaves: Leaves): void {
  for (const item of items) {
    if (shape.list.type === 'map') {
      const at = `${path}${SEPARATOR}k:${itemKey(item, shape.list.keys, shape)}`;
      leaves.set(`${at}${SEPARATOR}.`, undefined);
      collect(item, shape.item(), at, leaves);
    } else {
      leaves.set(`${path}${SEPARATOR}v:${JSON.stringify(item)}`, item);
    }
  }
}

/** FieldsV1 to leaf paths. */
export function decodeFields(fields: Dict): Set<string> {
  const paths = new Set<string>();
  const visit = (node: Dict, path: string): void => {
    const names = Object.keys(node);
    if (names.length === 0 && path !== '') paths.add(path);
    for (const name of names) {
      visit(dict(node[name]), path === '' ? name : `${path}${SEPARATOR}${name}`);
    }
  };
  visit(fields, '');
  return paths;
}

/** Leaf paths to FieldsV1. */
export function encodeFields(paths: Iterable<string>): Dict {
  const root: Dict = {};
  for (const path of [...paths].sort()) {
    let node = root;
    for (const step of path.split(SEPARATOR)) {
      const next = node[step];
      if (isDict(next)) node = next;
      else node = node[step] = {};
    }
  }
  return root;
}

/** `.spec.ports[port=80].name` for messages. */
export function showPath(path: string): string {
  let shown = '';
  for (const step of path.split(SEPARATOR)) {
    if (step.startsWith('f:')) shown += `.${step.slice(2)}`;
    else if (step.startsWith('k:')) shown += `[${showKey(step.slice(2))}]`;
    else if (step.startsWith('v:')) shown += `[=${step.slice(2)}]`;
  }
  return shown;
}

function showKey(json: string): string {
  const pairs = Object.entries(dict(JSON.parse(json) as unknown));
  return pairs.map(([name, value]) => `${name}=${JSON.stringify(value)}`).join(',');
}

/** Removes the field at a path from an object, in place, and parents that become empty by it. */
export function removeField(object: Dict, path: string, shape: Shape): void {
  removeAt(object, path.split(SEPARATOR), shape);
}

function removeAt(node: unknown, steps: readonly string[], shape: Shape): void {
  const [step = '', ...rest] = steps;
  if (step.startsWith('f:') && isDict(node)) {
    const name = step.slice(2);
    if (rest.length === 0) {
      Reflect.deleteProperty(node, name);
      return;
    }
    const member = node[name];
    if (Array.isArray(member)) removeFromList(member, rest, shape.member(name));
    else removeAt(member, rest, shape.member(name));
    if (isEmpty(node[name])) Reflect.deleteProperty(node, name);
  }
}

function removeFromList(items: unknown[], steps: readonly string[], shape: Shape): void {
  const [step = '', ...rest] = steps;
  const at = items.findIndex((item) =>
    step.startsWith('v:')
      ? JSON.stringify(item) === step.slice(2)
      : shape.list.type === 'map' && itemKey(item, shape.list.keys, shape) === step.slice(2),
  );
  if (at < 0) return;
  if (rest.length === 0 || rest[0] === '.') items.splice(at, 1);
  else removeAt(items[at], rest, shape.item());
}

const isEmpty = (value: unknown): boolean =>
  Array.isArray(value)
    ? list(value).length === 0
    : isDict(value) && Object.keys(value).length === 0;
