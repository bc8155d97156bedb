// A CA inside the process, for tests and benchmarks only (FAKE_CA=true): processes that are given the same root file
// trust each other. It signs whatever is asked; never use it where anybody else has the file.
import { readFileSync } from 'node:fs';
import { systemClock } from '../clock.ts';
import { MeshError } from '../errors.ts';
import type { SignRequest } from './ca-fetch.ts';
import { CertificateAuthority } from './ca.ts';
import { parseCsr } from './csr.ts';

/** A signer for `certificateFetcher`. `rootPath` is a PEM file with the root's certificate and its private key. */
export function fakeCaSigner(rootPath: string): SignRequest {
  const text = readFileSync(rootPath, 'utf8');
  const certPem = /-----BEGIN CERTIFICATE-----[^-]+-----END CERTIFICATE-----\n?/.exec(text)?.[0];
  const keyPem = /-----BEGIN PRIVATE KEY-----[^-]+-----END PRIVATE KEY-----\n?/.exec(text)?.[0];
  if (certPem === undefined || keyPem === undefined) {
    throw new MeshError('invalid_root', `${rootPath} must hold a certificate and its private key`);
  }
  const ca = new CertificateAuthority({ certPem, keyPem }, systemClock);
  return (request) => {
    const { publicKeyDer, uriSans } = parseCsr(request.csrPem);
    const [identity] = uriSans;
    if (identity === undefined) throw new MeshError('invalid_csr', 'the csr names no identity');
    return Promise.resolve(ca.issueWorkload(publicKeyDer, identity, request.ttlSec));
  };
}
