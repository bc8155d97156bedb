// How a proxy gets a certificate from the control plane's CA: a fresh P-256 key, a CSR with the SPIFFE id, and a
// check that the answer is for that id. Made for SecretManager.
import { createPublicKey } from 'node:crypto';
import { systemClock } from '../clock.ts';
import type { Clock } from '../clock.ts';
import { MeshError } from '../errors.ts';
import { buildCsr, generateKeyPair } from './csr.ts';
import type { FetchCertificate } from './secret-manager.ts';
import { readCertificate } from './x509.ts';

/** Signs a CSR: leaf first, root(s) last. `CaClient` of common/grpc does. */
export type SignRequest = (request: {
  readonly csrPem: string;
  readonly ttlSec: number;
  readonly impersonatedIdentity?: string;
}) => Promise<readonly string[]>;

/** Options of {@link certificateFetcher}. */
export interface FetcherOptions {
  readonly sign: SignRequest;
  readonly ttlSec: number;
  /** True for a node proxy, which asks on behalf of its workloads. */
  readonly isNodeProxy: boolean;
  /** Default: the machine's. */
  readonly clock?: Clock;
}

/** Builds the fetch function of a {@link import('./secret-manager.ts').SecretManager}. */
export function certificateFetcher(options: FetcherOptions): FetchCertificate {
  return async (identity) => {
    const key = generateKeyPair();
    const chain = await options.sign({
      csrPem: buildCsr(identity, key),
      ttlSec: options.ttlSec,
      ...(options.isNodeProxy ? { impersonatedIdentity: identity } : {}),
    });
    const leaf = chain[0] ?? '';
    const { notBeforeMs, notAfterMs, serial, uriSans } = readCertificate(leaf);
    if (!uriSans.includes(identity)) {
      throw new MeshError(
        'wrong_identity',
        `the ca issued ${uriSans.join(', ') || 'no identity'} instead of ${identity}`,
      );
    }
    if (!createPublicKey(leaf).equals(createPublicKey(key.privateKey))) {
      throw new MeshError('wrong_key', `the ca certified another key for ${identity}`);
    }
    if (notAfterMs <= (options.clock ?? systemClock).now()) {
      throw new MeshError('expired', `the ca issued an expired certificate for ${identity}`);
    }
    return {
      identity,
      certChainPem: joinPem(chain.slice(0, -1)),
      privateKeyPem: key.privateKeyPem,
      rootsPem: chain.at(-1) ?? '',
      notBeforeMs,
      notAfterMs,
      serial,
    };
  };
}

function joinPem(parts: readonly string[]): string {
  return parts.map((part) => (part.endsWith('\n') ? part : `${part}\n`)).join('');
}
