// X.509 v3 certificates (RFC 5280): reading what peers and users ask about, and building those the CA issues.
// Chains are verified by OpenSSL in the TLS engine, not here.
import { X509Certificate, createHash, randomBytes, sign } from 'node:crypto';
import type { KeyObject } from 'node:crypto';
import { MeshError, errorMessage } from '../errors.ts';
import {
  bitString,
  bits,
  booleanTrue,
  children,
  content,
  decode,
  encode,
  fromPem,
  integer,
  isTagged,
  nothing,
  octetString,
  oid,
  oidText,
  sequence,
  set,
  tagged,
  time,
  toPem,
  utf8String,
} from './asn1.ts';
import type { Element } from './asn1.ts';
import { urisOfExtension } from './csr.ts';

/** The fields of a certificate that are looked at. */
export interface CertificateFields {
  readonly notBeforeMs: number;
  readonly notAfterMs: number;
  /** Upper-case hexadecimal. */
  readonly serial: string;
  readonly subject: string;
  readonly issuer: string;
  readonly uriSans: readonly string[];
  readonly isCa: boolean;
}

/** A name put into subjectAltName. */
export type SubjectAltName =
  | { readonly kind: 'uri'; readonly value: string }
  | { readonly kind: 'dns'; readonly value: string }
  /** The address's 4 or 16 bytes. */
  | { readonly kind: 'ip'; readonly bytes: Uint8Array };

/** What to put into a certificate. */
export interface CertificateTemplate {
  /** SubjectPublicKeyInfo. */
  readonly publicKeyDer: Uint8Array;
  /** Organisation of the subject; a leaf has an empty subject. */
  readonly organization?: string;
  readonly sans: readonly SubjectAltName[];
  readonly isCa: boolean;
  readonly notBeforeMs: number;
  readonly notAfterMs: number;
}

/** Who signs: the issuer's name and key identifier, and an ECDSA P-256 key. */
export interface Issuer {
  /** DER of the issuer's subject name. */
  readonly nameDer: Uint8Array;
  readonly keyId: Uint8Array;
  readonly privateKey: KeyObject;
}

const OID = {
  ecdsaSha256: '1.2.840.10045.4.3.2',
  rsaSha256: '1.2.840.113549.1.1.11',
  organization: '2.5.4.10',
  subjectKeyId: '2.5.29.14',
  keyUsage: '2.5.29.15',
  subjectAltName: '2.5.29.17',
  basicConstraints: '2.5.29.19',
  authorityKeyId: '2.5.29.35',
  extKeyUsage: '2.5.29.37',
  serverAuth: '1.3.6.1.5.5.7.3.1',
  clientAuth: '1.3.6.1.5.5.7.3.2',
} as const;
const DNS_TAG = 2;
const URI_TAG = 6;
const IP_TAG = 7;
const EXTENSIONS_TAG = 3;

/** Reads the first certificate of a PEM text. Throws `invalid_certificate`. */
export function readCertificate(pem: string): CertificateFields {
  try {
    const der = fromPem(pem, 'CERTIFICATE');
    const parsed = new X509Certificate(der);
    return {
      notBeforeMs: Date.parse(parsed.validFrom),
      notAfterMs: Date.parse(parsed.validTo),
      serial: parsed.serialNumber,
      subject: parsed.subject,
      issuer: parsed.issuer,
      uriSans: extensionsOf(der).flatMap(urisOfExtension),
      isCa: parsed.ca,
    };
  } catch (err) {
    throw new MeshError('invalid_certificate', `not a certificate: ${errorMessage(err)}`, {
      cause: err,
    });
  }
}

/** Splits a PEM bundle into single certificates. */
export function splitPem(bundle: string): string[] {
  const blocks = bundle.match(/-----BEGIN CERTIFICATE-----[^-]+-----END CERTIFICATE-----/g) ?? [];
  return blocks.map((block) => `${block}\n`);
}

/** The DER of a certificate's subject name. */
export function subjectName(pem: string): Buffer {
  const body = certificateBody(fromPem(pem, 'CERTIFICATE'));
  const at = isTagged(body[0], 0) ? 5 : 4;
  const name = body[at];
  if (name === undefined) throw new MeshError('invalid_certificate', 'truncated certificate');
  return encode(name);
}

/** RFC 5280 4.2.1.2: SHA-1 of the public key's bits. A name, not a protection. */
export function keyIdOf(publicKeyDer: Uint8Array): Buffer {
  const [, key] = children(decode(publicKeyDer));
  return createHash('sha1').update(bits(key)).digest();
}

/** A CA certificate's own name for its key, by which what it issues refers to it (RFC 5280 4.2.1.1). */
export function subjectKeyId(pem: string, publicKeyDer: Uint8Array): Buffer {
  for (const item of extensionsOf(fromPem(pem, 'CERTIFICATE'))) {
    const [id, value] = children(item);
    if (id === undefined || oidText(id) !== OID.subjectKeyId || value === undefined) continue;
    return content(decode(content(value)));
  }
  return keyIdOf(publicKeyDer);
}

/** A name with only an organisation, or an empty one. */
export function buildName(organization?: string): Buffer {
  if (organization === undefined) return encode(sequence());
  return encode(sequence(set(sequence(oid(OID.organization), utf8String(organization)))));
}

/** Signs a certificate; PEM. */
export function buildCertificate(template: CertificateTemplate, issuer: Issuer): string {
  const algorithm = signatureAlgorithm(issuer.privateKey);
  const serial = randomBytes(16);
  serial[0] = ((serial[0] ?? 0) & 0x7f) | 0x40; // positive, and always 16 bytes
  const body = sequence(
    tagged(0, [integer(Uint8Array.of(2))]),
    integer(serial),
    algorithm,
    decode(issuer.nameDer),
    sequence(time(template.notBeforeMs), time(template.notAfterMs)),
    decode(buildName(template.organization)),
    decode(template.publicKeyDer),
    tagged(EXTENSIONS_TAG, [sequence(...buildExtensions(template, issuer))]),
  );
  const signature = sign('sha256', encode(body), issuer.privateKey);
  return toPem('CERTIFICATE', encode(sequence(body, algorithm, bitString(signature))));
}

function signatureAlgorithm(key: KeyObject): Element {
  if (key.asymmetricKeyType === 'rsa') return sequence(oid(OID.rsaSha256), nothing());
  return sequence(oid(OID.ecdsaSha256));
}

function buildExtensions(template: CertificateTemplate, issuer: Issuer): Element[] {
  const authority = extension(OID.authorityKeyId, sequence(tagged(0, issuer.keyId)));
  if (template.isCa) {
    return [
      // keyCertSign and cRLSign
      extension(OID.keyUsage, bitString(Uint8Array.of(0x06), 1), true),
      extension(OID.basicConstraints, sequence(booleanTrue()), true),
      extension(OID.subjectKeyId, octetString(keyIdOf(template.publicKeyDer))),
      authority,
    ];
  }
  return [
    // digitalSignature and keyEncipherment
    extension(OID.keyUsage, bitString(Uint8Array.of(0xa0), 5), true),
    extension(OID.extKeyUsage, sequence(oid(OID.serverAuth), oid(OID.clientAuth))),
    extension(OID.basicConstraints, sequence(), true),
    authority,
    // Critical because the subject is empty (RFC 5280 4.2.1.6).
    extension(OID.subjectAltName, sequence(...template.sans.map(sanElement)), true),
  ];
}

function sanElement(name: SubjectAltName): Element {
  if (name.kind === 'ip') return tagged(IP_TAG, name.bytes);
  return tagged(name.kind === 'uri' ? URI_TAG : DNS_TAG, Buffer.from(name.value, 'utf8'));
}

function extension(id: string, value: Element, isCritical = false): Element {
  const body = octetString(encode(value));
  return isCritical ? sequence(oid(id), booleanTrue(), body) : sequence(oid(id), body);
}

function certificateBody(der: Uint8Array): readonly Element[] {
  return children(children(decode(der))[0]);
}

function extensionsOf(der: Uint8Array): readonly Element[] {
  const wrapper = certificateBody(der).find((element) => isTagged(element, EXTENSIONS_TAG));
  return wrapper === undefined ? [] : children(children(wrapper)[0]);
}
