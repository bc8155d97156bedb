// DER building blocks (X.690) on node-forge's reader and writer. Knows no certificate; csr.ts and x509.ts compose
// these. Reading is strict: input that is not canonical DER is refused, so an element written back is byte for
// byte what was signed.
import asn1 from 'node-forge/lib/asn1.js';
import type { Asn1 } from 'node-forge/lib/asn1.js';
import { MeshError, errorMessage } from '../errors.ts';

/** A parsed or built element. */
export type Element = Asn1;

const { Class, Type } = asn1;

function universal(type: number, constructed: boolean, value: Element[] | string): Element {
  return asn1.create(Class.UNIVERSAL, type, constructed, value);
}

/** SEQUENCE. */
export function sequence(...items: Element[]): Element {
  return universal(Type.SEQUENCE, true, items);
}

/** SET. */
export function set(...items: Element[]): Element {
  return universal(Type.SET, true, items);
}

/** OBJECT IDENTIFIER from dotted text. */
export function oid(dotted: string): Element {
  return universal(Type.OID, false, asn1.oidToDer(dotted).getBytes());
}

/** Non-negative INTEGER of big-endian bytes. */
export function integer(bytes: Uint8Array): Element {
  let start = 0;
  while (start < bytes.length - 1 && bytes[start] === 0) start++;
  const text = binary(bytes.subarray(start));
  const isNegative = ((bytes[start] ?? 0) & 0x80) !== 0;
  return universal(Type.INTEGER, false, isNegative ? `\0${text}` : text);
}

/** BOOLEAN TRUE. */
export function booleanTrue(): Element {
  return universal(Type.BOOLEAN, false, '\xff');
}

/** NULL. */
export function nothing(): Element {
  return universal(Type.NULL, false, '');
}

/** UTF8String. */
export function utf8String(text: string): Element {
  return universal(Type.UTF8, false, binary(Buffer.from(text, 'utf8')));
}

/** OCTET STRING. */
export function octetString(bytes: Uint8Array): Element {
  return universal(Type.OCTETSTRING, false, binary(bytes));
}

/** BIT STRING with a count of unused bits at the end. */
export function bitString(bytes: Uint8Array, unusedBits = 0): Element {
  return universal(Type.BITSTRING, false, `${String.fromCharCode(unusedBits)}${binary(bytes)}`);
}

/** Time as RFC 5280 4.1.2.5 wants it: UTCTime until 2049, then GeneralizedTime. */
export function time(ms: number): Element {
  const date = new Date(ms);
  return date.getUTCFullYear() < 2050
    ? universal(Type.UTCTIME, false, asn1.dateToUtcTime(date))
    : universal(Type.GENERALIZEDTIME, false, asn1.dateToGeneralizedTime(date));
}

/** Context-specific tag around elements (explicit) or bytes (implicit primitive). */
export function tagged(tag: number, value: Element[] | Uint8Array): Element {
  return Array.isArray(value)
    ? asn1.create(Class.CONTEXT_SPECIFIC, tag, true, value)
    : asn1.create(Class.CONTEXT_SPECIFIC, tag, false, binary(value));
}

/** Serialises. */
export function encode(element: Element): Buffer {
  return Buffer.from(asn1.toDer(element).getBytes(), 'latin1');
}

/** Parses canonical DER; anything else is `invalid_der`. */
export function decode(der: Uint8Array): Element {
  let element: Element;
  try {
    // Without decodeBitStrings: false a signature that happens to be DER would come back parsed.
    element = asn1.fromDer(binary(der), { strict: true, decodeBitStrings: false });
  } catch (err) {
    throw new MeshError('invalid_der', `not der: ${errorMessage(err)}`);
  }
  if (!encode(element).equals(der)) throw new MeshError('invalid_der', 'not canonical der');
  return element;
}

/** The children of a constructed element; `invalid_der` for a primitive one. */
export function children(element: Element | undefined): readonly Element[] {
  const isCollection =
    element?.tagClass === Class.CONTEXT_SPECIFIC ||
    (element?.tagClass === Class.UNIVERSAL &&
      (element.type === Type.SEQUENCE || element.type === Type.SET));
  if (!isCollection || !Array.isArray(element.value)) {
    throw new MeshError('invalid_der', 'a constructed element is missing');
  }
  return element.value;
}

/** The content bytes of a primitive element. */
export function content(element: Element | undefined): Buffer {
  if (element === undefined || typeof element.value !== 'string') {
    throw new MeshError('invalid_der', 'a primitive element is missing');
  }
  return Buffer.from(element.value, 'latin1');
}

/** The content of a BIT STRING without unused bits. */
export function bits(element: Element | undefined): Buffer {
  const bytes = content(element);
  if (element?.type !== Type.BITSTRING || bytes[0] !== 0) {
    throw new MeshError('invalid_der', 'a bit string is missing');
  }
  return bytes.subarray(1);
}

/** Dotted text of an OBJECT IDENTIFIER. */
export function oidText(element: Element | undefined): string {
  const bytes = content(element);
  if (element?.type !== Type.OID || bytes.length === 0) {
    throw new MeshError('invalid_der', 'an object identifier is missing');
  }
  return asn1.derToOid(binary(bytes));
}

/** True for a context-specific element of that tag. */
export function isTagged(element: Element | undefined, tag: number): boolean {
  return element?.tagClass === Class.CONTEXT_SPECIFIC && element.type === tag;
}

/** Wraps DER into PEM. */
export function toPem(label: string, der: Uint8Array): string {
  const lines =
    Buffer.from(der)
      .toString('base64')
      .match(/.{1,64}/g) ?? [];
  return `-----BEGIN ${label}-----\n${lines.join('\n')}\n-----END ${label}-----\n`;
}

/** The DER of the first PEM block with one of the labels; `invalid_pem` without one. */
export function fromPem(pem: string, ...labels: string[]): Buffer {
  for (const label of labels) {
    const start = pem.indexOf(`-----BEGIN ${label}-----`);
    const end = pem.indexOf(`-----END ${label}-----`, start);
    if (start < 0 || end < 0) continue;
    const body = pem.slice(start + label.length + 16, end).replace(/\s+/g, '');
    if (/^[A-Za-z0-9+/]+={0,2}$/.test(body)) return Buffer.from(body, 'base64');
  }
  throw new MeshError('invalid_pem', `no pem block ${labels.join(' or ')}`);
}

function binary(bytes: Uint8Array): string {
  return Buffer.from(bytes.buffer, bytes.byteOffset, bytes.byteLength).toString('latin1');
}
