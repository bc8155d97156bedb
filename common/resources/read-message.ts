// Plain JSON to a typed message by its protobuf schema, finding every unknown field and every value of the wrong
// type with its path, where protobuf's own decoder stops at the first. Durations are accepted in Go's syntax.
// A bad value is left out of the message; the caller decides what a finding means for the object.
import {
  ScalarType,
  create,
  fromJson,
  type DescEnum,
  type DescField,
  type DescMessage,
  type JsonObject,
  type JsonValue,
  type MessageShape,
} from '@bufbuild/protobuf';
import { errorMessage } from '../errors.ts';
import { formatProtoDuration, parseGoDurationMs } from './go-duration.ts';
import type { Problems } from './problem.ts';
import { isSilentField, unsupportedNote } from './unsupported-fields.ts';

const DURATION = 'google.protobuf.Duration';
// Durations end up as 32-bit milliseconds.
const MAX_DURATION_MS = 2 ** 32 - 1;

/** Decodes `json` as `schema`; what does not fit is reported and left out. */
export function readMessage<Desc extends DescMessage>(
  schema: Desc,
  json: unknown,
  problems: Problems,
): MessageShape<Desc> {
  const clean = cleanMessage(schema, json, problems);
  if (clean === undefined) return create(schema);
  try {
    return fromJson(schema, clean, { ignoreUnknownFields: true });
  } catch (err) {
    problems.invalid(errorMessage(err));
    return create(schema);
  }
}

/** True for a JSON object. */
export function isRecord(value: unknown): value is Record<string, unknown> {
  return typeof value === 'object' && value !== null && !Array.isArray(value);
}

function cleanMessage(
  desc: DescMessage,
  json: unknown,
  problems: Problems,
): JsonObject | undefined {
  if (json === undefined || json === null) return {};
  if (!isRecord(json)) {
    problems.invalid(`must be an object, not ${describeType(json)}`);
    return undefined;
  }
  const out: JsonObject = {};
  const oneofs = new Map<string, string>();
  for (const [key, value] of Object.entries(json)) {
    const field = findField(desc, key);
    if (field === undefined) {
      reportUnknown(desc, key, problems.at(key));
      continue;
    }
    if (value === null || value === undefined) continue;
    const clean = cleanField(field, value, problems.at(key));
    if (clean === undefined) continue;
    const rival = field.oneof === undefined ? undefined : oneofs.get(field.oneof.name);
    if (rival !== undefined) {
      problems.at(key).invalid(`cannot be set together with ${rival}`);
      continue;
    }
    if (field.oneof !== undefined) oneofs.set(field.oneof.name, key);
    out[field.jsonName] = clean;
  }
  return out;
}

function findField(desc: DescMessage, key: string): DescField | undefined {
  return desc.fields.find((field) => field.jsonName === key || field.name === key);
}

function reportUnknown(desc: DescMessage, key: string, problems: Problems): void {
  const note = unsupportedNote(desc.typeName, key);
  if (note !== undefined) {
    problems.add('UnsupportedField', note);
    return;
  }
  if (isSilentField(desc.typeName, key)) return;
  const near = desc.fields.find((field) => isNear(field.jsonName, key));
  const hint = near === undefined ? '' : `; did you mean ${near.jsonName}`;
  problems.add('UnknownField', `unknown field${hint}`);
}

function cleanField(field: DescField, value: unknown, problems: Problems): JsonValue | undefined {
  switch (field.fieldKind) {
    case 'scalar':
      return cleanScalar(field.scalar, value, problems);
    case 'enum':
      return cleanEnum(field.enum, value, problems);
    case 'message':
      return cleanMessageValue(field.message, value, problems);
    case 'list':
      return cleanList(field, value, problems);
    case 'map':
      return cleanMap(field, value, problems);
  }
}

function cleanMessageValue(
  desc: DescMessage,
  value: unknown,
  problems: Problems,
): JsonValue | undefined {
  return desc.typeName === DURATION
    ? cleanDuration(value, problems)
    : cleanMessage(desc, value, problems);
}

type ListField = DescField & { fieldKind: 'list' };
type MapField = DescField & { fieldKind: 'map' };

function cleanList(field: ListField, value: unknown, problems: Problems): JsonValue | undefined {
  if (!Array.isArray(value)) {
    problems.invalid(`must be a list, not ${describeType(value)}`);
    return undefined;
  }
  const out: JsonValue[] = [];
  value.forEach((item: unknown, index) => {
    const clean = cleanItem(field, item, problems.at(index));
    if (clean !== undefined) out.push(clean);
  });
  return out;
}

function cleanItem(
  field: ListField | MapField,
  item: unknown,
  problems: Problems,
): JsonValue | undefined {
  if (item === null || item === undefined) {
    problems.invalid('must not be null');
    return undefined;
  }
  if (field.message !== undefined) return cleanMessageValue(field.message, item, problems);
  if (field.enum !== undefined) return cleanEnum(field.enum, item, problems);
  return cleanScalar(field.scalar, item, problems);
}

function cleanMap(field: MapField, value: unknown, problems: Problems): JsonValue | undefined {
  if (!isRecord(value)) {
    problems.invalid(`must be an object, not ${describeType(value)}`);
    return undefined;
  }
  const out: JsonObject = {};
  for (const [key, item] of Object.entries(value)) {
    if (field.mapKey === ScalarType.UINT32 && !/^\d{1,9}$/.test(key)) {
      problems.at(key).invalid('the key must be a number');
      continue;
    }
    const clean = cleanItem(field, item, problems.at(key));
    if (clean !== undefined) out[key] = clean;
  }
  return out;
}

function cleanEnum(desc: DescEnum, value: unknown, problems: Problems): JsonValue | undefined {
  const known =
    typeof value === 'string'
      ? desc.values.some((entry) => entry.name === value)
      : typeof value === 'number' && desc.values.some((entry) => entry.number === value);
  if (known && (typeof value === 'string' || typeof value === 'number')) return value;
  problems.invalid(
    `must be one of ${desc.values.map((entry) => entry.name).join(', ')}, not ${describeValue(value)}`,
  );
  return undefined;
}

function cleanDuration(value: unknown, problems: Problems): JsonValue | undefined {
  const ms = typeof value === 'string' ? parseGoDurationMs(value) : undefined;
  if (ms === undefined) {
    problems.invalid(`must be a duration such as 500ms or 1m30s, not ${describeValue(value)}`);
    return undefined;
  }
  if (Math.abs(ms) > MAX_DURATION_MS) {
    problems.invalid('must be at most 49 days');
    return undefined;
  }
  return formatProtoDuration(ms);
}

function cleanScalar(type: ScalarType, value: unknown, problems: Problems): JsonValue | undefined {
  switch (type) {
    case ScalarType.STRING:
    case ScalarType.BYTES:
      if (typeof value === 'string') return value;
      problems.invalid(`must be a string, not ${describeType(value)}`);
      return undefined;
    case ScalarType.BOOL:
      if (typeof value === 'boolean') return value;
      problems.invalid(`must be true or false, not ${describeType(value)}`);
      return undefined;
    case ScalarType.UINT32:
      return cleanInteger(value, 0, 2 ** 32 - 1, problems);
    case ScalarType.INT32:
      return cleanInteger(value, -(2 ** 31), 2 ** 31 - 1, problems);
    default:
      if (typeof value === 'number' && Number.isFinite(value)) return value;
      problems.invalid(`must be a number, not ${describeType(value)}`);
      return undefined;
  }
}

function cleanInteger(
  value: unknown,
  min: number,
  max: number,
  problems: Problems,
): number | undefined {
  if (typeof value === 'number' && Number.isInteger(value) && value >= min && value <= max) {
    return value;
  }
  problems.invalid(`must be a whole number from ${min} to ${max}, not ${describeValue(value)}`);
  return undefined;
}

function describeType(value: unknown): string {
  if (Array.isArray(value)) return 'a list';
  if (value === null) return 'null';
  return typeof value === 'object' ? 'an object' : `a ${typeof value}`;
}

function describeValue(value: unknown): string {
  return typeof value === 'string' || typeof value === 'number'
    ? JSON.stringify(value).slice(0, 60)
    : describeType(value);
}

// One edit apart, or the same but for case: enough to catch the usual slips without a distance matrix.
function isNear(known: string, given: string): boolean {
  const a = known.toLowerCase();
  const b = given.toLowerCase();
  if (a === b) return true;
  if (Math.abs(a.length - b.length) > 1) return false;
  let start = 0;
  while (start < a.length && a[start] === b[start]) start += 1;
  const [restA, restB] = [a.slice(start), b.slice(start)];
  return (
    restA.slice(1) === restB.slice(1) ||
    restA.slice(1) === restB ||
    restA === restB.slice(1) ||
    restA.slice(2) === restB.slice(2)
  );
}
