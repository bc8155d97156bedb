// Certificates as a proxy's config_dump shows them, in the shape of Istio's ztunnel, which istioctl
// reads. Never a key.
import { X509Certificate } from 'node:crypto';
import type { SecretState } from './secret-manager.ts';
import { splitPem } from './x509.ts';

/** One identity: its state, its chain from the leaf on, and the roots that it trusts. */
export function dumpSecret({ identity, certificate, error }: SecretState): object {
  const unavailable = error === undefined ? 'Initializing' : `Unavailable: ${error}`;
  const state = certificate === undefined ? unavailable : 'Available';
  if (certificate === undefined) return { identity, state, certChain: [], rootCerts: [] };
  return {
    identity,
    state,
    certChain: splitPem(certificate.certChainPem).map(dumpCertificate),
    rootCerts: splitPem(certificate.rootsPem).map(dumpCertificate),
  };
}

function dumpCertificate(pem: string): object {
  const { serialNumber, validFromDate, validToDate } = new X509Certificate(pem);
  const seconds = (date: Date): string => `${date.toISOString().slice(0, 19)}Z`;
  return {
    pem: Buffer.from(pem).toString('base64'),
    serialNumber: BigInt(`0x${serialNumber}`).toString(),
    validFrom: seconds(validFromDate),
    expirationTime: seconds(validToDate),
  };
}
