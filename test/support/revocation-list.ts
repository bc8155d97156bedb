// Certificate revocation lists (RFC 5280 section 5) for tests, built with the DER blocks of common/identity.
import { X509Certificate, sign } from 'node:crypto';
import {
  bitString,
  decode,
  encode,
  integer,
  oid,
  sequence,
  time,
  toPem,
} from '../../common/identity/asn1.ts';
import type { RootMaterial } from '../../common/identity/ca.ts';
import { parseKeyPair } from '../../common/identity/csr.ts';
import { subjectName } from '../../common/identity/x509.ts';

const ECDSA_SHA256 = '1.2.840.10045.4.3.2';
const HOUR_MS = 3_600_000;

/** A list of the root that revokes these certificates (PEM). `ageMs` ago it was made; it is good for an hour. */
export function revocationList(
  root: RootMaterial,
  revoked: readonly string[],
  ageMs = 60_000,
): string {
  const madeMs = Date.now() - ageMs;
  const algorithm = sequence(oid(ECDSA_SHA256));
  const entries = revoked.map((pem) => {
    const serial = Buffer.from(new X509Certificate(pem).serialNumber, 'hex');
    return sequence(integer(serial), time(madeMs));
  });
  const body = sequence(
    integer(Uint8Array.of(1)),
    algorithm,
    decode(subjectName(root.certPem)),
    time(madeMs),
    time(madeMs + HOUR_MS),
    ...(entries.length === 0 ? [] : [sequence(...entries)]),
  );
  const signature = sign('sha256', encode(body), parseKeyPair(root.keyPem).privateKey);
  return toPem('X509 CRL', encode(sequence(body, algorithm, bitString(signature))));
}
