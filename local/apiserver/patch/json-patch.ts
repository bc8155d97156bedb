// JSON Patch (RFC 6902) on plain JSON.
import { clone, dict, isDict, sameJson, text } from '../objects.ts';
import { StatusError, badRequest } from '../status-error.ts';

const MAX_OPERATIONS = 10_000;

type Container = unknown[] | Record<string, unknown>;

interface Place {
  readonly parent: Container;
  readonly key: string;
}

const refused = (message: string): StatusError => new StatusError(422, 'Invalid', message);

/** Applies the operations to a copy and returns it. */
export function applyJsonPatch(target: unknown, operations: unknown): unknown {
  if (!Array.isArray(operations)) throw badRequest('a JSON patch must be a list of operations');
  if (operations.length > MAX_OPERATIONS)
    throw badRequest('a JSON patch is limited to 10000 operations');
  const root = { root: clone(target) };
  for (const operation of operations) applyOperation(root, dict(operation));
  return root.root;
}

function applyOperation(root: { root: unknown }, operation: Record<string, unknown>): void {
  const path = text(operation['path']);
  const at = (pointer: string): Place => locate(root, pointer);
  switch (operation['op']) {
    case 'add':
      add(at(path), clone(operation['value']));
      return;
    case 'remove':
      remove(at(path), path);
      return;
    case 'replace': {
      const place = at(path);
      read(place, path);
      write(place, clone(operation['value']));
      return;
    }
    case 'move': {
      const from = text(operation['from']);
      const value = read(at(from), from);
      remove(at(from), from);
      add(at(path), value);
      return;
    }
    case 'copy': {
      const from = text(operation['from']);
      add(at(path), clone(read(at(from), from)));
      return;
    }
    case 'test':
      if (!sameJson(read(at(path), path), operation['value'])) {
        throw refused(`the server rejected our request: testing value ${path} failed`);
      }
      return;
    default:
      throw badRequest(`unknown JSON patch operation ${JSON.stringify(operation['op'])}`);
  }
}

function locate(root: { root: unknown }, pointer: string): Place {
  if (pointer !== '' && !pointer.startsWith('/')) {
    throw badRequest(`a JSON pointer must begin with a slash, not ${JSON.stringify(pointer)}`);
  }
  const steps = pointer
    .split('/')
    .slice(1)
    .map((step) => step.replaceAll('~1', '/').replaceAll('~0', '~'));
  let parent: Container = root;
  let key = 'root';
  for (const step of steps) {
    const next = child(parent, key);
    if (!Array.isArray(next) && !isDict(next)) {
      throw refused(`the server rejected our request: path ${pointer} does not exist`);
    }
    parent = next;
    key = step;
  }
  return { parent, key };
}

function child(parent: Container, key: string): unknown {
  if (!Array.isArray(parent)) return Object.hasOwn(parent, key) ? parent[key] : undefined;
  return /^\d+$/.test(key) ? parent[Number(key)] : undefined;
}

function read({ parent, key }: Place, pointer: string): unknown {
  const value = child(parent, key);
  if (value === undefined) {
    throw refused(`the server rejected our request: path ${pointer} does not exist`);
  }
  return value;
}

function write({ parent, key }: Place, value: unknown): void {
  if (Array.isArray(parent)) parent[Number(key)] = value;
  else setMember(parent, key, value);
}

function add(place: Place, value: unknown): void {
  const { parent, key } = place;
  if (!Array.isArray(parent)) {
    setMember(parent, key, value);
    return;
  }
  const index = key === '-' ? parent.length : Number(key);
  if (!Number.isInteger(index) || index < 0 || index > parent.length) {
    throw refused(`the server rejected our request: index ${key} is out of range`);
  }
  parent.splice(index, 0, value);
}

function remove(place: Place, pointer: string): void {
  read(place, pointer);
  const { parent, key } = place;
  if (Array.isArray(parent)) parent.splice(Number(key), 1);
  else Reflect.deleteProperty(parent, key);
}

/** An own member even for `__proto__`. */
function setMember(parent: Record<string, unknown>, key: string, value: unknown): void {
  Object.defineProperty(parent, key, {
    value,
    writable: true,
    enumerable: true,
    configurable: true,
  });
}
