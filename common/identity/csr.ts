// Certificate signing requests (PKCS#10, RFC 2986) with a SPIFFE id, and key pairs for them. Keys and signatures
// are node:crypto's, the encoding is asn1.ts. Keys: ECDSA P-256; requests of others may bring P-384 or RSA.
import { createPrivateKey, createPublicKey, generateKeyPairSync, sign, verify } from 'node:crypto';
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
  octetString,
  oid,
  oidText,
  sequence,
  set,
  tagged,
  toPem,
} from './asn1.ts';
import type { Element } from './asn1.ts';

/** A private key: kept in memory, never logged. */
export interface KeyPair {
  readonly privateKey: KeyObject;
  /** PKCS#8. */
  readonly privateKeyPem: string;
}

/** What a verified request asks for. */
export interface ParsedCsr {
  readonly publicKey: KeyObject;
  /** SubjectPublicKeyInfo. */
  readonly publicKeyDer: Buffer;
  /** URI names it asks for; a CA decides by who asks, not by these. */
  readonly uriSans: readonly string[];
}

const OID = {
  ecdsaSha256: '1.2.840.10045.4.3.2',
  ecdsaSha384: '1.2.840.10045.4.3.3',
  rsaSha256: '1.2.840.113549.1.1.11',
  rsaSha384: '1.2.840.113549.1.1.12',
  rsaSha512: '1.2.840.113549.1.1.13',
  extensionRequest: '1.2.840.113549.1.9.14',
  subjectAltName: '2.5.29.17',
} as const;

const SIGNATURE_HASHES: Readonly<Record<string, string>> = {
  [OID.ecdsaSha256]: 'sha256',
  [OID.ecdsaSha384]: 'sha384',
  [OID.rsaSha256]: 'sha256',
  [OID.rsaSha384]: 'sha384',
  [OID.rsaSha512]: 'sha512',
};
const URI_TAG = 6;
const MAX_CSR_LENGTH = 32_768;
const MIN_RSA_BITS = 2048;

/** A fresh ECDSA P-256 key. */
export function generateKeyPair(): KeyPair {
  const { privateKey } = generateKeyPairSync('ec', { namedCurve: 'prime256v1' });
  return keyPairOf(privateKey);
}

/** A key read from PEM; `invalid_key` when it is none. */
export function parseKeyPair(pem: string): KeyPair {
  try {
    return keyPairOf(createPrivateKey(pem));
  } catch (err) {
    // The cause is left out on purpose: OpenSSL's text may quote the input.
    throw new MeshError('invalid_key', `not a private key: ${errorMessage(err).slice(0, 80)}`);
  }
}

function keyPairOf(privateKey: KeyObject): KeyPair {
  const pem = privateKey.export({ type: 'pkcs8', format: 'pem' });
  return { privateKey, privateKeyPem: pem.toString() };
}

/** A request with an empty subject and one critical URI name, as Istio's node proxy sends it. */
export function buildCsr(spiffeId: string, key: KeyPair): string {
  const spki = createPublicKey(key.privateKey).export({ type: 'spki', format: 'der' });
  const names = sequence(tagged(URI_TAG, Buffer.from(spiffeId, 'utf8')));
  const extensions = sequence(
    sequence(oid(OID.subjectAltName), booleanTrue(), octetString(encode(names))),
  );
  const body = sequence(
    integer(Uint8Array.of(0)),
    sequence(),
    decode(spki),
    tagged(0, [sequence(oid(OID.extensionRequest), set(extensions))]),
  );
  const signature = sign('sha256', encode(body), key.privateKey);
  const request = sequence(body, sequence(oid(OID.ecdsaSha256)), bitString(signature));
  return toPem('CERTIFICATE REQUEST', encode(request));
}

/** Parses a request and verifies that its sender holds the key. Throws `invalid_csr`. */
export function parseCsr(pem: string): ParsedCsr {
  if (pem.length > MAX_CSR_LENGTH) throw new MeshError('invalid_csr', 'the csr is too large');
  try {
    return parse(fromPem(pem, 'CERTIFICATE REQUEST', 'NEW CERTIFICATE REQUEST'));
  } catch (err) {
    if (err instanceof MeshError && err.code === 'invalid_csr') throw err;
    throw new MeshError('invalid_csr', `bad csr: ${errorMessage(err)}`, { cause: err });
  }
}

function parse(der: Buffer): ParsedCsr {
  const [body, algorithm, signature] = children(decode(der));
  const [, , spki, attributes] = children(body);
  if (body === undefined || spki === undefined) throw new MeshError('invalid_csr', 'truncated csr');
  const publicKeyDer = encode(spki);
  const publicKey = createPublicKey({ key: publicKeyDer, format: 'der', type: 'spki' });
  checkStrength(publicKey);
  const hash = SIGNATURE_HASHES[oidText(children(algorithm)[0])];
  if (hash === undefined) throw new MeshError('invalid_csr', 'unsupported signature algorithm');
  if (!verify(hash, encode(body), publicKey, bits(signature))) {
    throw new MeshError('invalid_csr', 'the signature does not fit the key');
  }
  return { publicKey, publicKeyDer, uriSans: requestedUris(attributes) };
}

function checkStrength(key: KeyObject): void {
  const { modulusLength, namedCurve } = key.asymmetricKeyDetails ?? {};
  const isStrong =
    (key.asymmetricKeyType === 'rsa' && (modulusLength ?? 0) >= MIN_RSA_BITS) ||
    (key.asymmetricKeyType === 'ec' && ['prime256v1', 'secp384r1'].includes(namedCurve ?? ''));
  if (!isStrong) throw new MeshError('invalid_csr', 'the key must be p-256, p-384 or rsa >= 2048');
}

function requestedUris(attributes: Element | undefined): string[] {
  if (attributes === undefined) return [];
  for (const attribute of children(attributes)) {
    const [type, values] = children(attribute);
    if (oidText(type) !== OID.extensionRequest) continue;
    return children(children(values)[0]).flatMap(urisOfExtension);
  }
  return [];
}

/** The URI names of an X.509 extension; none when it is not subjectAltName. */
export function urisOfExtension(extension: Element): string[] {
  const parts = children(extension);
  if (oidText(parts[0]) !== OID.subjectAltName) return [];
  return children(decode(content(parts.at(-1))))
    .filter((name) => isTagged(name, URI_TAG))
    .map((name) => content(name).toString('utf8'));
}
