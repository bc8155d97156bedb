// Decodes request bodies in Kubernetes' protobuf form, which kubectl's typed commands (`create namespace`,
// `auth can-i`) send: the envelope `k8s\0` + runtime.Unknown around a message. Answers are always JSON. Absent and zero
// scalars look alike on the wire for non-pointer fields, so zeros are kept only where absence means something else.
import type { Dict } from '../objects.ts';
import { badRequest } from '../status-error.ts';
import { messageFields, messageName } from './builtin.ts';
import type { FieldType } from './builtin.ts';

const MAGIC = Buffer.from('k8s\0');
const MAX_DEPTH = 32;
const ZERO_TIME_SEC = -62_135_596_800;

/** Fields that are pointers in Go: a zero was written by someone. */
const KEPT_ZEROS = new Set(
  (
    'replicas partition terminationGracePeriodSeconds backoffLimit parallelism completions gracePeriodSeconds ' +
    'revisionHistoryLimit ttlSecondsAfterFinished runAsUser runAsGroup fsGroup expirationSeconds automountServiceAccountToken ' +
    'enableServiceLinks optional allowPrivilegeEscalation runAsNonRoot readOnlyRootFilesystem immutable orphanDependents ' +
    'controller blockOwnerDeletion suspend ready serving terminating tolerationSeconds minReplicas'
  ).split(' '),
);

interface WireField {
  readonly number: number;
  /** Of a varint or fixed field. */
  readonly value: bigint;
  readonly bytes: Buffer;
}

const truncated = (): Error => badRequest('the protobuf body is truncated');

function readVarint(buffer: Buffer, start: number): { value: bigint; next: number } {
  let value = 0n;
  for (let index = 0; index < 10; index += 1) {
    const byte = buffer[start + index];
    if (byte === undefined) throw truncated();
    value |= BigInt(byte & 0x7f) << BigInt(7 * index);
    if (byte < 0x80) return { value: BigInt.asIntN(64, value), next: start + index + 1 };
  }
  throw badRequest('the protobuf body has a number that is too long');
}

function* wireFields(buffer: Buffer): Generator<WireField> {
  let at = 0;
  while (at < buffer.length) {
    const tag = readVarint(buffer, at);
    const number = Number(tag.value >> 3n);
    const type = Number(tag.value & 7n);
    at = tag.next;
    if (type === 0) {
      const { value, next } = readVarint(buffer, at);
      at = next;
      yield { number, value, bytes: Buffer.alloc(0) };
      continue;
    }
    let length = type === 1 ? 8 : 4;
    if (type === 2) {
      const size = readVarint(buffer, at);
      length = Number(size.value);
      at = size.next;
    } else if (type !== 1 && type !== 5) {
      throw badRequest('the protobuf body has a field of an unknown wire type');
    }
    if (length < 0 || at + length > buffer.length) throw truncated();
    yield { number, value: 0n, bytes: buffer.subarray(at, at + length) };
    at += length;
  }
}

function fieldsByNumber(buffer: Buffer): Map<number, WireField> {
  return new Map([...wireFields(buffer)].map((field) => [field.number, field]));
}

function decodeTime(bytes: Buffer, isMicro: boolean): string | undefined {
  const fields = fieldsByNumber(bytes);
  const seconds = Number(fields.get(1)?.value ?? 0n);
  if (seconds <= ZERO_TIME_SEC || !fields.has(1)) return undefined;
  const date = new Date(seconds * 1000);
  if (Number.isNaN(date.getTime())) throw badRequest('the protobuf body has a time out of range');
  const whole = date.toISOString().slice(0, 19);
  const micros = Math.floor(Number(fields.get(2)?.value ?? 0n) / 1000);
  return isMicro ? `${whole}.${String(micros).padStart(6, '0')}Z` : `${whole}Z`;
}

function decodeSpecial(type: string, bytes: Buffer): unknown {
  const fields = fieldsByNumber(bytes);
  const first = fields.get(1);
  switch (type) {
    case 'Quantity':
      return first?.bytes.toString() ?? '0';
    case 'IntOrString':
      return first?.value === 1n
        ? (fields.get(3)?.bytes.toString() ?? '')
        : Number(fields.get(2)?.value ?? 0n);
    case 'Time':
    case 'MicroTime':
      return decodeTime(bytes, type === 'MicroTime');
    case 'ExtraValue':
      return [...wireFields(bytes)].map((field) => field.bytes.toString());
    default: {
      const raw = first?.bytes.toString() ?? '';
      return raw === '' ? undefined : (JSON.parse(raw) as unknown);
    }
  }
}

function decodeValue(type: string, field: WireField, depth: number): unknown {
  switch (type) {
    case 's':
      return field.bytes.toString();
    case 'x':
      return field.bytes.toString('base64');
    case 'b':
      return field.value !== 0n;
    case 'i':
      return Number(field.value);
    case 'd':
      return field.bytes.readDoubleLE(0);
    default:
      return messageFields(type) === undefined
        ? decodeSpecial(type, field.bytes)
        : decodeMessage(type, field.bytes, depth + 1);
  }
}

function isNothing(value: unknown, name: string): boolean {
  if (value === undefined || value === '') return true;
  return (value === 0 || value === false) && !KEPT_ZEROS.has(name);
}

function addField(object: Dict, type: FieldType, field: WireField, depth: number): void {
  const { name } = type;
  if (type.form === 'map') {
    const entry = fieldsByNumber(field.bytes);
    const key = entry.get(1)?.bytes.toString() ?? '';
    const value = entry.get(2) ?? { number: 2, value: 0n, bytes: Buffer.alloc(0) };
    const map = (object[name] ??= {}) as Dict;
    map[key] = decodeValue(type.type, value, depth);
    return;
  }
  const value = decodeValue(type.type, field, depth);
  if (type.isInline) Object.assign(object, value);
  else if (type.form === 'list') ((object[name] ??= []) as unknown[]).push(value);
  else if (!isNothing(value, name)) object[name] = value;
}

function decodeMessage(message: string, bytes: Buffer, depth: number): Dict {
  if (depth > MAX_DEPTH) throw badRequest('the protobuf body is nested too deeply');
  const types = new Map(messageFields(message)?.map((field) => [field.number, field]));
  const object: Dict = {};
  for (const field of wireFields(bytes)) {
    const type = types.get(field.number);
    if (type !== undefined) addField(object, type, field, depth);
  }
  return object;
}

/** Decodes a whole body to the JSON object it stands for. */
export function decodeProtobuf(body: Buffer): Dict {
  if (!body.subarray(0, 4).equals(MAGIC)) throw badRequest('the body is not Kubernetes protobuf');
  const unknown = fieldsByNumber(body.subarray(4));
  const type = fieldsByNumber(unknown.get(1)?.bytes ?? Buffer.alloc(0));
  const apiVersion = type.get(1)?.bytes.toString() ?? '';
  const kind = type.get(2)?.bytes.toString() ?? '';
  const message = messageName(apiVersion, kind);
  if (messageFields(message) === undefined) {
    throw badRequest(`a ${kind} of ${apiVersion} must be sent as JSON`);
  }
  const raw = unknown.get(2)?.bytes ?? Buffer.alloc(0);
  return { apiVersion, kind, ...decodeMessage(message, raw, 0) };
}
