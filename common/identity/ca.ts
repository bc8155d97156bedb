// A certificate authority with one self-signed root (ECDSA P-256): issues workload certificates as Istio's CA does
// (istio-ambient-spec 3.10) and server certificates. Decides nothing about who may have which identity.
import { createPublicKey } from 'node:crypto';
import type { Clock } from '../clock.ts';
import { MeshError } from '../errors.ts';
import { generateKeyPair, parseKeyPair } from './csr.ts';
import type { KeyPair } from './csr.ts';
import { buildCertificate, buildName, keyIdOf, readCertificate, subjectName } from './x509.ts';
import type { Issuer, SubjectAltName } from './x509.ts';

/** A root as it is stored. */
export interface RootMaterial {
  readonly certPem: string;
  readonly keyPem: string;
}

/** A certificate with its key. */
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

/** Issues certificates under one root. */
export class CertificateAuthority {
  readonly rootPem: string;
  readonly #issuer: Issuer;
  readonly #notAfterMs: number;
  readonly #clock: Clock;

  /** Throws `invalid_root` when certificate and key do not belong together or are not a usable root. */
  constructor(material: RootMaterial, clock: Clock) {
    const key = parseKeyPair(material.keyPem);
    const fields = readCertificate(material.certPem);
    const publicKeyDer = publicKeyOf(key);
    if (!fields.isCa) throw new MeshError('invalid_root', 'the root is not a ca certificate');
    if (fields.notAfterMs <= clock.now())
      throw new MeshError('invalid_root', 'the root has expired');
    if (!publicKeyOfCertificate(material.certPem).equals(publicKeyDer)) {
      throw new MeshError('invalid_root', 'the root certificate does not belong to its key');
    }
    if (key.privateKey.asymmetricKeyDetails?.namedCurve !== 'prime256v1') {
      throw new MeshError('invalid_root', 'only an ecdsa p-256 root key is supported');
    }
    this.rootPem = material.certPem.endsWith('\n') ? material.certPem : `${material.certPem}\n`;
    this.#notAfterMs = fields.notAfterMs;
    this.#clock = clock;
    this.#issuer = {
      nameDer: subjectName(material.certPem),
      keyId: keyIdOf(publicKeyDer),
      privateKey: key.privateKey,
    };
  }

  /** Signs a workload certificate: leaf and root. `ttlSec` of 0 or less means a day; over 90 days is refused. */
  issueWorkload(publicKeyDer: Uint8Array, spiffeId: string, ttlSec: number): string[] {
    if (!(ttlSec <= MAX_LIFE_SEC)) {
      throw new MeshError('invalid_argument', `a certificate may live at most ${MAX_LIFE_SEC} s`);
    }
    const lifeSec = ttlSec > 0 ? ttlSec : DEFAULT_LIFE_SEC;
    return [this.#issue(publicKeyDer, [{ kind: 'uri', value: spiffeId }], lifeSec), this.rootPem];
  }

  /** Makes a key and a certificate for a server with these DNS names. */
  issueServer(dnsNames: readonly string[], ttlSec: number): IssuedServer {
    const key = generateKeyPair();
    const sans = dnsNames.map((value): SubjectAltName => ({ kind: 'dns', value }));
    const certPem = this.#issue(publicKeyOf(key), sans, ttlSec);
    const { notBeforeMs, notAfterMs } = readCertificate(certPem);
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
        notAfterMs: Math.min(now + lifeSec * 1000, this.#notAfterMs),
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
