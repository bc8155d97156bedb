// Value checks of custom resources by ajv, compiled from the CRD's schema on first use (33 Istio versions take
// about a second, so not at start-up), with messages in Kubernetes' words.
import { Ajv } from 'ajv';
import type { ErrorObject, ValidateFunction } from 'ajv';
import { isDict } from '../objects.ts';
import type { FieldProblem } from '../status-error.ts';
import type { Schema } from './schema.ts';

const IPV4 = /^((25[0-5]|2[0-4]\d|1?\d?\d)(\.(?!$)|$)){4}$/;
const DATE_TIME = /^\d{4}-\d\d-\d\dT\d\d:\d\d:\d\d(\.\d+)?(Z|[+-]\d\d:\d\d)$/i;

const FORMATS: Readonly<Record<string, (text: string) => boolean>> = {
  'date-time': (text) => DATE_TIME.test(text) && !Number.isNaN(Date.parse(text)),
  date: (text) => /^\d{4}-\d\d-\d\d$/.test(text),
  byte: (text) => /^[A-Za-z0-9+/]*={0,2}$/.test(text),
  ipv4: (text) => IPV4.test(text),
  ipv6: (text) => URL.canParse(`http://[${text}]/`),
  uri: (text) => URL.canParse(text),
  hostname: (text) => /^[A-Za-z0-9.-]{1,253}$/.test(text),
  email: (text) => /^[^@\s]+@[^@\s]+$/.test(text),
  uuid: (text) => /^[0-9a-f]{8}(-[0-9a-f]{4}){3}-[0-9a-f]{12}$/i.test(text),
};

const compiled = new WeakMap<Schema, ValidateFunction>();

function newAjv(): Ajv {
  const ajv = new Ajv({ strict: false, allErrors: true, validateSchema: false, logger: false });
  for (const [name, validate] of Object.entries(FORMATS)) ajv.addFormat(name, { validate });
  for (const name of ['int32', 'int64']) {
    ajv.addFormat(name, { type: 'number', validate: (value: number) => Number.isInteger(value) });
  }
  for (const name of ['float', 'double']) {
    ajv.addFormat(name, { type: 'number', validate: () => true });
  }
  return ajv;
}

/** OpenAPI's `nullable` and int-or-string, in JSON Schema's words. */
function toJsonSchema(schema: unknown, isMember = false): unknown {
  if (Array.isArray(schema)) return schema.map((item) => toJsonSchema(item));
  if (!isDict(schema)) return schema;
  const out: Record<string, unknown> = {};
  for (const [name, value] of Object.entries(schema)) {
    if (isMember) out[name] = toJsonSchema(value);
    else if (name === 'properties') out[name] = toJsonSchema(value, true);
    else if (name === 'description' || name === 'default' || name === 'example') continue;
    else if (name === 'enum') out[name] = value;
    else if (name.startsWith('x-kubernetes-')) continue;
    else out[name] = toJsonSchema(value);
  }
  if (!isMember && schema['x-kubernetes-int-or-string'] === true) {
    Reflect.deleteProperty(out, 'anyOf');
    out['type'] = ['integer', 'string'];
  }
  return out;
}

function validatorOf(schema: Schema): ValidateFunction {
  let validate = compiled.get(schema);
  if (validate === undefined) {
    validate = newAjv().compile(toJsonSchema(schema) as Record<string, unknown>);
    compiled.set(schema, validate);
  }
  return validate;
}

/** Every field that breaks the schema. */
export function validateValue(schema: Schema, value: unknown): FieldProblem[] {
  const validate = validatorOf(schema);
  if (validate(value)) return [];
  const problems = (validate.errors ?? []).map((error) => problemOf(error, value));
  const seen = new Set<string>();
  return problems.filter(({ field, message }) => {
    const fresh = !seen.has(`${field} ${message}`);
    seen.add(`${field} ${message}`);
    return fresh;
  });
}

function problemOf(error: ErrorObject, root: unknown): FieldProblem {
  const { path, value } = resolve(error.instancePath, root);
  const params = error.params as Record<string, unknown>;
  const shown = isDict(value) || Array.isArray(value) ? JSON.stringify(value) : quoted(value);
  switch (error.keyword) {
    case 'required': {
      const name = String(params['missingProperty']);
      const field = path === '' ? name : `${path}.${name}`;
      return { reason: 'FieldValueRequired', field, message: 'Required value' };
    }
    case 'enum': {
      const allowed = (params['allowedValues'] as unknown[]).map(quoted).join(', ');
      return {
        reason: 'FieldValueNotSupported',
        field: path,
        message: `Unsupported value: ${shown}: supported values: ${allowed}`,
      };
    }
    default:
      return {
        reason: 'FieldValueInvalid',
        field: path === '' ? '<nil>' : path,
        message: `Invalid value: ${shown}: ${path === '' ? 'object' : path} in body ${error.message ?? 'is invalid'}`,
      };
  }
}

const quoted = (value: unknown): string =>
  typeof value === 'string' ? JSON.stringify(value) : String(value);

/** `/spec/hosts/0` to `spec.hosts[0]`, with the value there. */
function resolve(pointer: string, root: unknown): { path: string; value: unknown } {
  let path = '';
  let value = root;
  for (const part of pointer.split('/').slice(1)) {
    const name = part.replaceAll('~1', '/').replaceAll('~0', '~');
    if (Array.isArray(value)) {
      path += `[${name}]`;
      value = (value as unknown[])[Number(name)];
    } else {
      path += path === '' ? name : `.${name}`;
      value = isDict(value) ? value[name] : undefined;
    }
  }
  return { path, value };
}
