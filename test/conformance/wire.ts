// Protocol buffers by field number, apart from the encoders of the product: transcripts are written in it. A string is
// text, a number or boolean a varint, `{ip: ...}` the bytes of an address, a list a repeated field.
import { parseIp } from '../../common/workload/ip.ts';

/** What a transcript writes for a field. */
export type FieldValue = string | number | boolean | Message | readonly FieldValue[];

/** A message of a transcript: field number to value, or an address. */
export interface Message {
  readonly [field: string]: FieldValue;
}

const [VARINT, LENGTH] = [0, 2];

function varint(value: number): Buffer {
  const bytes: number[] = [];
  let rest = BigInt(value);
  do {
    const low = Number(rest & 127n);
    rest >>= 7n;
    bytes.push(rest === 0n ? low : low | 128);
  } while (rest !== 0n);
  return Buffer.from(bytes);
}

function encodeField(field: number, value: FieldValue): Buffer {
  if (Array.isArray(value))
    return Buffer.concat(value.map((one: FieldValue) => encodeField(field, one)));
  if (typeof value === 'number' || typeof value === 'boolean')
    return Buffer.concat([varint(field * 8 + VARINT), varint(Number(value))]);
  const bytes = typeof value === 'string' ? Buffer.from(value) : encodeMessage(value as Message);
  return Buffer.concat([varint(field * 8 + LENGTH), varint(bytes.length), bytes]);
}

/** The bytes of a message; fields in the order they are written. */
export function encodeMessage(message: Message): Buffer {
  const { ip } = message;
  if (typeof ip === 'string') return Buffer.from(parseIp(ip) ?? []);
  return Buffer.concat(
    Object.entries(message).map(([field, value]) => encodeField(Number(field), value)),
  );
}

/** A message that was read: of each field number all values, numbers or bytes. */
export type Decoded = ReadonlyMap<number, readonly (number | Buffer)[]>;

/** Reads a message of varints and lengths; throws on any other wire type. */
export function decodeMessage(bytes: Buffer): Decoded {
  const fields = new Map<number, (number | Buffer)[]>();
  let at = 0;
  const next = (): number => {
    let value = 0n;
    for (let shift = 0n; ; shift += 7n) {
      const byte = bytes[at++];
      if (byte === undefined) throw new Error('message ends in a varint');
      value |= BigInt(byte & 127) << shift;
      if (byte < 128) return Number(value);
    }
  };
  while (at < bytes.length) {
    const tag = next();
    const values = fields.get(tag >> 3) ?? [];
    fields.set(tag >> 3, values);
    if ((tag & 7) === VARINT) values.push(next());
    else if ((tag & 7) === LENGTH) {
      const length = next();
      values.push(bytes.subarray(at, at + length));
      at += length;
    } else throw new Error(`wire type ${tag & 7}`);
  }
  return fields;
}

/** All texts of a field. */
export function textsOf(message: Decoded, field: number): string[] {
  return (message.get(field) ?? []).map(String);
}

/** The first text of a field, or none. */
export function textOf(message: Decoded, field: number): string {
  return textsOf(message, field)[0] ?? '';
}

/** All messages of a field. */
export function messagesOf(message: Decoded, field: number): Decoded[] {
  return (message.get(field) ?? []).map((value) => decodeMessage(Buffer.from(value as Buffer)));
}
