// Fields of the built-in kinds, from the table in gen/: as schemas (unknown fields, `kubectl explain`) and as protobuf
// messages (protobuf.ts). Parsed when first asked for.
import { BUILTIN_TYPES } from './gen/builtin-types.ts';
import type { Schema } from './schema.ts';

export interface FieldType {
  readonly name: string;
  readonly number: number;
  /** A scalar's letter, a special type, or a message's name. */
  readonly type: string;
  readonly form: 'one' | 'list' | 'map';
  /** The message's fields stand directly in the JSON object. */
  readonly isInline: boolean;
}

let parsed: Map<string, readonly FieldType[]> | undefined;

function parseField(word: string): FieldType {
  const [, plus, name = '', number = '0', type = '', mark] =
    /^(\+?)(\w+)=(\d+):([\w.]+)([*%]?)$/.exec(word) ?? [];
  return {
    name,
    number: Number(number),
    type,
    form: mark === '*' ? 'list' : mark === '%' ? 'map' : 'one',
    isInline: plus === '+',
  };
}

/** The fields of a message; undefined when it is none. */
export function messageFields(message: string): readonly FieldType[] | undefined {
  parsed ??= new Map(
    BUILTIN_TYPES.trim()
      .split('\n')
      .map((line): [string, FieldType[]] => {
        const [name = '', ...fields] = line.split(' ');
        return [name, fields.map(parseField)];
      }),
  );
  return parsed.get(message);
}

/** The table's name of a kind: `apps.Deployment`. */
export function messageName(apiVersion: string, kind: string): string {
  if (kind === 'DeleteOptions') return 'meta.DeleteOptions';
  const [group = '', version] = apiVersion.includes('/') ? apiVersion.split('/') : ['core'];
  const [short = ''] = group.split('.');
  return `${short}${version === 'v2' ? '2' : ''}.${kind}`;
}

const SCALAR_SCHEMAS: Readonly<Record<string, Schema>> = {
  s: { type: 'string' },
  b: { type: 'boolean' },
  i: { type: 'integer' },
  d: { type: 'number' },
  x: { type: 'string' },
  Quantity: { 'x-kubernetes-int-or-string': true },
  IntOrString: { 'x-kubernetes-int-or-string': true },
  Time: { type: 'string' },
  MicroTime: { type: 'string' },
  RawExtension: { type: 'object', 'x-kubernetes-preserve-unknown-fields': true },
  FieldsV1: { type: 'object', 'x-kubernetes-preserve-unknown-fields': true },
  ExtraValue: { type: 'array', items: { type: 'string' } },
};

const schemas = new Map<string, Schema>();

function schemaOf(type: string): Schema {
  const known = SCALAR_SCHEMAS[type] ?? schemas.get(type);
  if (known !== undefined) return known;
  const properties: Record<string, Schema> = {};
  const schema: Schema = { type: 'object', properties };
  schemas.set(type, schema);
  for (const field of messageFields(type) ?? []) {
    const inner = schemaOf(field.type);
    if (field.isInline) Object.assign(properties, inner.properties);
    else if (field.form === 'list') properties[field.name] = { type: 'array', items: inner };
    else if (field.form === 'map') {
      properties[field.name] = { type: 'object', additionalProperties: inner };
    } else properties[field.name] = inner;
  }
  return schema;
}

/** The schema of a built-in kind; undefined when its fields are not known. */
export function builtinSchema(apiVersion: string, kind: string): Schema | undefined {
  const name = messageName(apiVersion, kind);
  return messageFields(name) === undefined ? undefined : schemaOf(name);
}
