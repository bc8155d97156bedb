// CEL rules of custom resources (x-kubernetes-validations), with the Kubernetes functions that CRDs in the field use.
// Objects are CEL maps whose missing fields `has()` sees; a rule that does not compile here is skipped, for it may use a
// function this server does not have; a rule that fails while it is evaluated refuses the object, as Kubernetes does.
import { CelScalar, celEnv, celFunc, celMethod, isCelError, parse, plan } from '@bufbuild/cel';
import type { CelInput } from '@bufbuild/cel';
import { strings } from '@bufbuild/cel/ext';
import { isIP } from 'node:net';
import { isDict } from '../objects.ts';
import { itemKey, schemaShape } from '../patch/shape.ts';
import type { FieldProblem } from '../status-error.ts';
import type { Schema, ValidationRule } from './schema.ts';

type Evaluate = (bindings: Record<string, CelInput>) => unknown;

/** CEL's reserved words are spelt `__word__` as field names. */
const RESERVED = new Set(
  'true false null in as break const continue else for function if import let loop package namespace return var void while'.split(
    ' ',
  ),
);

const { STRING, BOOL } = CelScalar;

const urlPart = (name: string, read: (url: URL) => string): ReturnType<typeof celMethod> =>
  celMethod(name, STRING, [], STRING, function () {
    return read(new URL(this));
  });

/** A URL stays a string; its methods parse it again. */
const KUBERNETES_FUNCTIONS = [
  celFunc('isURL', [STRING], BOOL, (value) => URL.canParse(value)),
  celFunc('url', [STRING], STRING, (value) => new URL(value).href && value),
  urlPart('getScheme', (url) => url.protocol.replace(/:$/, '')),
  urlPart('getHost', (url) => url.host),
  urlPart('getHostname', (url) => url.hostname),
  urlPart('getPort', (url) => url.port),
  urlPart('getEscapedPath', (url) => url.pathname),
  celFunc('isIP', [STRING], BOOL, (value) => isIP(value) !== 0),
  celFunc('isCIDR', [STRING], BOOL, (value) => {
    const [address = '', bits = ''] = value.split('/');
    return isIP(address) !== 0 && /^\d{1,3}$/.test(bits);
  }),
];

const env = celEnv({ funcs: [...strings, ...KUBERNETES_FUNCTIONS] });
const compiled = new Map<string, Evaluate | undefined>();

function compile(rule: string): Evaluate | undefined {
  if (!compiled.has(rule)) {
    let evaluate: Evaluate | undefined;
    try {
      evaluate = plan(env, parse(rule));
    } catch {
      evaluate = undefined;
    }
    compiled.set(rule, evaluate);
  }
  return compiled.get(rule);
}

/** JSON as CEL sees it: whole numbers are ints, objects maps. */
function toCel(value: unknown, schema: Schema | undefined): CelInput {
  if (typeof value === 'number') {
    return Number.isInteger(value) && schema?.type !== 'number' ? BigInt(value) : value;
  }
  if (Array.isArray(value)) return value.map((item) => toCel(item, schema?.items));
  if (isDict(value)) {
    const other = isDict(schema?.additionalProperties) ? schema.additionalProperties : undefined;
    const map = new Map<string, CelInput>();
    for (const [name, member] of Object.entries(value)) {
      const property = schema?.properties?.[name];
      const key = property !== undefined && RESERVED.has(name) ? `__${name}__` : name;
      map.set(key, toCel(member, property ?? other));
    }
    return map;
  }
  return typeof value === 'string' || typeof value === 'boolean' ? value : null;
}

function ruleProblem(
  rule: ValidationRule,
  bindings: Record<string, CelInput>,
  path: string,
  value: unknown,
): FieldProblem | undefined {
  const evaluate = compile(rule.rule);
  if (evaluate === undefined) return undefined;
  const result = evaluate(bindings);
  if (result === true) return undefined;
  const field = `${path}${rule.fieldPath ?? ''}`;
  const shown = isDict(value) ? '"object"' : JSON.stringify(value);
  const message = isCelError(result)
    ? `rule evaluation error: ${result.message}`
    : (expressionMessage(rule, bindings) ?? rule.message ?? `failed rule: ${rule.rule.trim()}`);
  return { reason: 'FieldValueInvalid', field, message: `Invalid value: ${shown}: ${message}` };
}

function expressionMessage(
  rule: ValidationRule,
  bindings: Record<string, CelInput>,
): string | undefined {
  if (rule.messageExpression === undefined) return undefined;
  const message = compile(rule.messageExpression)?.(bindings);
  return typeof message === 'string' ? message : undefined;
}

/** Every rule that a value breaks; rules about `oldSelf` hold only where there was a value before. */
export function validateRules(schema: Schema, object: unknown, before: unknown): FieldProblem[] {
  const problems: FieldProblem[] = [];
  const visit = (at: Schema, value: unknown, old: unknown, path: string): void => {
    if (value === undefined || value === null) return;
    const rules = at['x-kubernetes-validations'] ?? [];
    const self = rules.length === 0 ? null : toCel(value, at);
    for (const rule of rules) {
      const isTransition = /\boldSelf\b/.test(rule.rule);
      if (isTransition && (old === undefined || rule.optionalOldSelf === true)) continue;
      const bindings = isTransition ? { self, oldSelf: toCel(old, at) } : { self };
      const problem = ruleProblem(rule, bindings, path === '' ? '<nil>' : path, value);
      if (problem !== undefined) problems.push(problem);
    }
    visitChildren(at, value, old, path, visit);
  };
  visit(schema, object, before, '');
  return problems;
}

type Visit = (schema: Schema, value: unknown, old: unknown, path: string) => void;

function visitChildren(
  schema: Schema,
  value: unknown,
  old: unknown,
  path: string,
  visit: Visit,
): void {
  if (Array.isArray(value) && schema.items !== undefined) {
    const { items } = schema;
    const olds = oldItems(schema, old);
    const { list } = schemaShape(schema, false);
    for (const [index, item] of value.entries()) {
      const key =
        list.type === 'map' ? itemKey(item, list.keys, schemaShape(schema, false)) : undefined;
      visit(items, item, key === undefined ? undefined : olds.get(key), `${path}[${index}]`);
    }
  } else if (isDict(value)) {
    const other = isDict(schema.additionalProperties) ? schema.additionalProperties : undefined;
    for (const [name, member] of Object.entries(value)) {
      const child = schema.properties?.[name] ?? other;
      const was = isDict(old) ? old[name] : undefined;
      if (child !== undefined) visit(child, member, was, path === '' ? name : `${path}.${name}`);
    }
  }
}

/** The old items of a keyed list by key; other lists cannot be compared item by item. */
function oldItems(schema: Schema, old: unknown): Map<string, unknown> {
  const shape = schemaShape(schema, false);
  const { list } = shape;
  if (!Array.isArray(old) || list.type !== 'map') return new Map();
  return new Map(old.map((item) => [itemKey(item, list.keys, shape), item as unknown]));
}
