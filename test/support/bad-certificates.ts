// Certificates no peer must accept, each wrong in one way, and a good one to compare. All but those of another root
// are signed by the mesh's own root: what is wrong is the certificate, not the signature (unless that is the point).
import { createPublicKey, sign } from 'node:crypto';
import { systemClock } from '../../common/clock.ts';
import {
  bitString,
  children,
  decode,
  encode,
  fromPem,
  sequence,
  toPem,
} from '../../common/identity/asn1.ts';
import { createRoot } from '../../common/identity/ca.ts';
import type { RootMaterial } from '../../common/identity/ca.ts';
import { generateKeyPair, parseKeyPair } from '../../common/identity/csr.ts';
import { buildCertificate, keyIdOf, subjectName } from '../../common/identity/x509.ts';
import type { CertificateTemplate, Issuer } from '../../common/identity/x509.ts';

/** A certificate and its key, for node:tls. */
export interface PeerTls {
  readonly cert: string;
  readonly key: string;
}

/** One certificate of each kind, all for `identity`. */
export interface BadCertificates {
  readonly good: PeerTls;
  readonly expired: PeerTls;
  readonly notYetValid: PeerTls;
  /** Only a DNS name. */
  readonly withoutIdentity: PeerTls;
  /** A URI that starts as a SPIFFE id and has a part too many. */
  readonly badIdentity: PeerTls;
  readonly otherTrustDomain: PeerTls;
  readonly otherRoot: PeerTls;
  /** One bit of the signature is turned. */
  readonly forged: PeerTls;
  /** The names' extension is not what X.509 says. */
  readonly malformed: PeerTls;
}

const MINUTE_MS = 60_000;
const SEQUENCE = 0x30;
const OCTET_STRING = 0x04;
// OID 2.5.29.17 (subjectAltName), then BOOLEAN TRUE (critical), then the header of the octet string.
const SAN_EXTENSION = Buffer.from('0603551d110101ff04', 'hex');

/** Makes them all. */
export function badCertificates(root: RootMaterial, identity: string): BadCertificates {
  const issuer = issuerOf(root);
  const uri = (value: string): Pick<CertificateTemplate, 'sans'> => ({
    sans: [{ kind: 'uri', value }],
  });
  const now = systemClock.now();
  const good = issue(issuer, uri(identity));
  return {
    good,
    expired: issue(issuer, {
      ...uri(identity),
      notBeforeMs: now - 60 * MINUTE_MS,
      notAfterMs: now - MINUTE_MS,
    }),
    notYetValid: issue(issuer, {
      ...uri(identity),
      notBeforeMs: now + 30 * MINUTE_MS,
      notAfterMs: now + 60 * MINUTE_MS,
    }),
    withoutIdentity: issue(issuer, { sans: [{ kind: 'dns', value: 'client.example' }] }),
    badIdentity: issue(issuer, uri(`${identity}/more`)),
    otherTrustDomain: issue(issuer, uri(identity.replace(/^spiffe:\/\/[^/]*/, 'spiffe://other'))),
    otherRoot: issue(issuerOf(createRoot('other', systemClock)), uri(identity)),
    forged: { cert: forge(good.cert), key: good.key },
    malformed: malform(issue(issuer, uri(identity)), issuer),
  };
}

function issuerOf(root: RootMaterial): Issuer {
  const { privateKey } = parseKeyPair(root.keyPem);
  return { nameDer: subjectName(root.certPem), keyId: keyIdOf(spkiOf(privateKey)), privateKey };
}

function spkiOf(key: Parameters<typeof createPublicKey>[0]): Buffer {
  return createPublicKey(key).export({ type: 'spki', format: 'der' });
}

function issue(issuer: Issuer, parts: Partial<CertificateTemplate>): PeerTls {
  const key = generateKeyPair();
  const now = systemClock.now();
  const cert = buildCertificate(
    {
      publicKeyDer: spkiOf(key.privateKey),
      sans: [],
      isCa: false,
      notBeforeMs: now - MINUTE_MS,
      notAfterMs: now + 60 * MINUTE_MS,
      ...parts,
    },
    issuer,
  );
  return { cert, key: key.privateKeyPem };
}

function forge(pem: string): string {
  const der = fromPem(pem, 'CERTIFICATE');
  const last = der.length - 1;
  der[last] = (der[last] ?? 0) ^ 1;
  return toPem('CERTIFICATE', der);
}

function malform({ cert, key }: PeerTls, issuer: Issuer): PeerTls {
  const [body, algorithm] = children(decode(fromPem(cert, 'CERTIFICATE')));
  if (body === undefined || algorithm === undefined) throw new Error('not a certificate');
  const bytes = encode(body);
  const at = bytes.indexOf(SAN_EXTENSION) + SAN_EXTENSION.length + 1;
  if (bytes[at] !== SEQUENCE) throw new Error('no subjectAltName');
  bytes[at] = OCTET_STRING;
  const signature = bitString(sign('sha256', bytes, issuer.privateKey));
  const der = encode(sequence(decode(bytes), algorithm, signature));
  return { cert: toPem('CERTIFICATE', der), key };
}
