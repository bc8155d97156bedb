// JSON Merge Patch (RFC 7386) and Kubernetes' strategic merge patch, which merges keyed lists item by item and
// knows the directives $patch, $retainKeys, $setElementOrder and $deleteFromPrimitiveList.
import { clone, dicts, isDict, list, sameJson } from '../objects.ts';
import type { Dict } from '../objects.ts';
import { itemKey } from './shape.ts';
import type { Shape } from './shape.ts';

/** The target with the patch merged in; null removes. */
export function applyMergePatch(target: unknown, patch: unknown): unknown {
  if (!isDict(patch)) return clone(patch);
  const merged: Dict = isDict(target) ? { ...target } : {};
  for (const [name, value] of Object.entries(patch)) {
    if (value === null) Reflect.deleteProperty(merged, name);
    else merged[name] = applyMergePatch(merged[name], value);
  }
  return merged;
}

const DELETE_PRIMITIVE = '$deleteFromPrimitiveList/';
const ELEMENT_ORDER = '$setElementOrder/';

/** The target with a strategic merge patch applied. */
export function applyStrategicPatch(target: unknown, patch: unknown, shape: Shape): unknown {
  if (Array.isArray(patch)) return mergeList(list(target), patch, undefined, shape);
  if (!isDict(patch)) return clone(patch);
  if (patch['$patch'] === 'replace') return withoutDirectives(patch);
  if (patch['$patch'] === 'delete') return {};
  const merged: Dict = isDict(target) ? { ...target } : {};
  retainKeys(merged, patch['$retainKeys']);
  for (const [name, value] of Object.entries(patch)) {
    if (name.startsWith(DELETE_PRIMITIVE)) {
      const member = name.slice(DELETE_PRIMITIVE.length);
      const gone = list(value);
      merged[member] = list(merged[member]).filter(
        (item) => !gone.some((no) => sameJson(no, item)),
      );
    } else if (name.startsWith(ELEMENT_ORDER)) {
      const member = name.slice(ELEMENT_ORDER.length);
      if (patch[member] === undefined && Array.isArray(merged[member])) {
        merged[member] = reorder(list(merged[member]), list(value), shape.member(member));
      }
    } else if (!name.startsWith('$')) {
      mergeMember(merged, name, value, patch, shape.member(name));
    }
  }
  return merged;
}

function mergeMember(merged: Dict, name: string, value: unknown, patch: Dict, shape: Shape): void {
  if (value === null) {
    Reflect.deleteProperty(merged, name);
  } else if (isDict(value)) {
    const result = applyStrategicPatch(merged[name], value, shape);
    if (value['$patch'] === 'delete') Reflect.deleteProperty(merged, name);
    else merged[name] = result;
  } else if (Array.isArray(value)) {
    merged[name] = mergeList(list(merged[name]), value, patch[ELEMENT_ORDER + name], shape);
  } else {
    merged[name] = value;
  }
}

function retainKeys(merged: Dict, retained: unknown): void {
  if (!Array.isArray(retained)) return;
  for (const name of Object.keys(merged)) {
    if (!retained.includes(name)) Reflect.deleteProperty(merged, name);
  }
}

function withoutDirectives(value: unknown): unknown {
  if (Array.isArray(value)) {
    return value.filter((item) => !(isDict(item) && '$patch' in item)).map(withoutDirectives);
  }
  if (!isDict(value)) return value;
  const kept = Object.entries(value).filter(([name]) => !name.startsWith('$'));
  return Object.fromEntries(kept.map(([name, member]) => [name, withoutDirectives(member)]));
}

function mergeList(target: unknown[], patch: unknown[], order: unknown, shape: Shape): unknown[] {
  if (dicts(patch).some((item) => item['$patch'] === 'replace')) {
    return withoutDirectives(patch) as unknown[];
  }
  const { list: kind } = shape;
  if (kind.type === 'atomic') return withoutDirectives(patch) as unknown[];
  if (kind.type === 'set') {
    const added = patch.filter((item) => !target.some((known) => sameJson(known, item)));
    return [...target, ...clone(added)];
  }
  // Strategic patches name an item by the first key alone: a patch may leave a port's protocol out.
  const keys = kind.keys.slice(0, 1);
  const merged = [...target];
  for (const item of patch) {
    const key = itemKey(item, keys, shape);
    const at = merged.findIndex((known) => itemKey(known, keys, shape) === key);
    if (isDict(item) && item['$patch'] === 'delete') {
      if (at >= 0) merged.splice(at, 1);
    } else if (at >= 0) {
      merged[at] = applyStrategicPatch(merged[at], item, shape.item());
    } else {
      merged.push(withoutDirectives(item));
    }
  }
  return Array.isArray(order) ? reorder(merged, order, shape) : merged;
}

/** Items in the wanted order; the others keep their places behind the item they followed. */
function reorder(items: unknown[], order: unknown[], shape: Shape): unknown[] {
  const keys = shape.list.type === 'map' ? shape.list.keys.slice(0, 1) : undefined;
  const keyOf = (item: unknown): string =>
    keys === undefined ? JSON.stringify(item) : itemKey(item, keys, shape);
  const rank = new Map(order.map((item, index) => [keyOf(item), index]));
  const known = items.filter((item) => rank.has(keyOf(item)));
  known.sort((a, b) => (rank.get(keyOf(a)) ?? 0) - (rank.get(keyOf(b)) ?? 0));
  const others = items.filter((item) => !rank.has(keyOf(item)));
  return [...known, ...others];
}
