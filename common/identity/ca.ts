// A certificate authority: issues workload certificates as Istio's CA does and server
// certificates, by a root or an intermediate. Decides nothing about who may have which identity.
import { createPublicKey, X509Certificate } from 'node:crypto';
import type { Clock } from '../clock.ts';
import { MeshError } from '../errors.ts';
import { generateKeyPair, parseKeyPair } from './csr.ts';
import type { KeyPair } from './csr.ts';
import {
  buildCertificate,
  buildName,
  keyIdOf,
  readCertificate,
  splitPem,
  subjectKeyId,
  subjectName,
} from './x509.ts';
import type { Issuer, SubjectAltName } from './x509.ts';

/** A root as it is stored. */
export interface RootMaterial {
  readonly certPem: string;
  readonly keyPem: string;
}

/** What a CA signs with, and what its mesh trusts. */
export interface CaMaterial extends RootMaterial {
  /** Certificates between the signing one and its root, in any order; others are ignored. */
  readonly chainPem?: string;
  /** The roots of the trust bundle. Default: the signing certificate, which then is a root. */
  readonly rootsPem?: string;
}

/** A server's certificate with what is above it, and its key. */
export interface IssuedServer {
  readonly certPem: string;
  readonly privateKeyPem: string;
  readonly notBeforeMs: number;
  readonly notAfterMs: number;
}

const ROOT_LIFE_MS = 3650 * 86_400_000;
const DEFAULT_LIFE_SEC = 86_400;
const MAX_LIFE_SEC = 90 * 86_400;
/** For clocks that are behind ours. */
const BACKDATE_MS = 120_000;
const MIN_RSA_BITS = 2048;
const MAX_INTERMEDIATES = 5;

/** Makes a new root, valid for ten years. */
export function createRoot(organization: string, clock: Clock): RootMaterial {
  const key = generateKeyPair();
  const publicKeyDer = publicKeyOf(key);
  const certPem = buildCertificate(
    {
      publicKeyDer,
      organization,
      sans: [],
      isCa: true,
      notBeforeMs: clock.now() - BACKDATE_MS,
      notAfterMs: clock.now() + ROOT_LIFE_MS,
    },
    {
      nameDer: buildName(organization),
      keyId: keyIdOf(publicKeyDer),
      privateKey: key.privateKey,
    },
  );
  return { certPem, keyPem: key.privateKeyPem };
}

/** Issues certificates with one key; its mesh may trust more roots than the one above it. */
export class CertificateAuthority {
  /** The trust bundle: the root of the signing certificate first, so that a change of the signer shows in it. */
  readonly rootsPem: string;
  /** When the first certificate from the signer up to its root ends: nothing is issued beyond. */
  readonly notAfterMs: number;
  readonly #intermediates: readonly string[];
  readonly #issuer: Issuer;
  readonly #clock: Clock;

  /** Throws `invalid_root` when key, chain and roots do not belong together or are not usable. */
  constructor(material: CaMaterial, clock: Clock) {
    const key = parseKeyPair(material.keyPem);
    const fields = readCertificate(material.certPem);
    const publicKeyDer = publicKeyOf(key);
    if (!fields.isCa) throw new MeshError('invalid_root', 'the root is not a ca certificate');
    if (!publicKeyOfCertificate(material.certPem).equals(publicKeyDer)) {
      throw new MeshError('invalid_root', 'the root certificate does not belong to its key');
    }
    if (!canSign(key)) {
      throw new MeshError('invalid_root', 'the key is neither rsa from 2048 bits nor ecdsa p-256');
    }
    const { intermediates, roots, notAfterMs } = arrangeChain(material);
    if (notAfterMs <= clock.now()) throw new MeshError('invalid_root', 'the root has expired');
    this.rootsPem = roots.join('');
    this.#intermediates = intermediates;
    this.notAfterMs = notAfterMs;
    this.#clock = clock;
    this.#issuer = {
      nameDer: subjectName(material.certPem),
      keyId: subjectKeyId(material.certPem, publicKeyDer),
      privateKey: key.privateKey,
    };
  }

  /** Signs a workload certificate: leaf, intermediates, and last the roots. `ttlSec` of 0 or less means a day; over 90 days is refused. */
  issueWorkload(publicKeyDer: Uint8Array, spiffeId: string, ttlSec: number): string[] {
    if (!(ttlSec <= MAX_LIFE_SEC)) {
      throw new MeshError('invalid_argument', `a certificate may live at most ${MAX_LIFE_SEC} s`);
    }
    const lifeSec = ttlSec > 0 ? ttlSec : DEFAULT_LIFE_SEC;
    const leaf = this.#issue(publicKeyDer, [{ kind: 'uri', value: spiffeId }], lifeSec);
    return [leaf, ...this.#intermediates, this.rootsPem];
  }

  /** Makes a key and a certificate for a server with these DNS names. */
  issueServer(dnsNames: readonly string[], ttlSec: number): IssuedServer {
    const key = generateKeyPair();
    const sans = dnsNames.map((value): SubjectAltName => ({ kind: 'dns', value }));
    const leaf = this.#issue(publicKeyOf(key), sans, ttlSec);
    const { notBeforeMs, notAfterMs } = readCertificate(leaf);
    const certPem = leaf + this.#intermediates.join('');
    return { certPem, privateKeyPem: key.privateKeyPem, notBeforeMs, notAfterMs };
  }

  #issue(publicKeyDer: Uint8Array, sans: readonly SubjectAltName[], lifeSec: number): string {
    const now = this.#clock.now();
    return buildCertificate(
      {
        publicKeyDer,
        sans,
        isCa: false,
        notBeforeMs: now - BACKDATE_MS,
        notAfterMs: Math.min(now + lifeSec * 1000, this.notAfterMs),
      },
      this.#issuer,
    );
  }
}

function publicKeyOf(key: KeyPair): Buffer {
  return createPublicKey(key.privateKey).export({ type: 'spki', format: 'der' });
}

function publicKeyOfCertificate(pem: string): Buffer {
  return createPublicKey(pem).export({ type: 'spki', format: 'der' });
}

function canSign({ privateKey }: KeyPair): boolean {
  const { namedCurve, modulusLength = 0 } = privateKey.asymmetricKeyDetails ?? {};
  return namedCurve === 'prime256v1' || modulusLength >= MIN_RSA_BITS;
}

interface Arranged {
  /** From the signing certificate upwards, without the root. */
  readonly intermediates: readonly string[];
  /** The root above the signing certificate first. */
  readonly roots: readonly string[];
  /** When the first certificate on the way up ends. */
  readonly notAfterMs: number;
}

/** Finds the way from the signing certificate to a root of the bundle. */
function arrangeChain({ certPem, chainPem = '', rootsPem = certPem }: CaMaterial): Arranged {
  const roots = [...new Set(splitPem(rootsPem))];
  const parsedRoots = roots.map((pem) => ({ pem, cert: new X509Certificate(pem) }));
  if (!parsedRoots.every(({ cert }) => cert.ca)) {
    throw new MeshError(
      'invalid_root',
      'a certificate of the trust bundle is not a ca certificate',
    );
  }
  const between = splitPem(chainPem).map((pem) => ({ pem, cert: new X509Certificate(pem) }));
  const intermediates: string[] = [];
  let at = { pem: splitPem(certPem)[0] ?? '', cert: new X509Certificate(certPem) };
  let notAfterMs = Infinity;
  for (let depth = 0; depth <= MAX_INTERMEDIATES; depth++) {
    notAfterMs = Math.min(notAfterMs, Date.parse(at.cert.validTo));
    const root = roots.includes(at.pem)
      ? at
      : parsedRoots.find(({ cert }) => isIssuer(cert, at.cert));
    if (!roots.includes(at.pem)) intermediates.push(at.pem);
    if (root !== undefined) {
      notAfterMs = Math.min(notAfterMs, Date.parse(root.cert.validTo));
      return {
        intermediates,
        roots: [root.pem, ...roots.filter((pem) => pem !== root.pem)],
        notAfterMs,
      };
    }
    const next = between.find(({ pem, cert }) => pem !== at.pem && isIssuer(cert, at.cert));
    if (next === undefined) break;
    at = next;
  }
  throw new MeshError('invalid_root', 'the signing certificate leads to no root of the bundle');
}

function isIssuer(issuer: X509Certificate, cert: X509Certificate): boolean {
  return issuer.ca && cert.checkIssued(issuer) && cert.verify(issuer.publicKey);
}
