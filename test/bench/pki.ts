// Certificates of the benchmark, by openssl: one root, and a SPIFFE leaf for each side. Both proxies use them.
import { readFileSync, writeFileSync } from 'node:fs';
import { join } from 'node:path';
import { run } from './tools.ts';

/** Paths of a certificate chain and its key. */
export interface CertFiles {
  readonly cert: string;
  readonly key: string;
}

/** Makes the root in `dir`. */
export function createRoot(dir: string): CertFiles {
  const files = { cert: join(dir, 'root.pem'), key: join(dir, 'root-key.pem') };
  const curve = ['ecparam', '-name', 'prime256v1', '-genkey', '-noout'];
  writeFileSync(files.key, run('openssl', ['pkcs8', '-topk8', '-nocrypt'], run('openssl', curve)), {
    mode: 0o600,
  });
  run('openssl', [
    'req',
    '-x509',
    '-new',
    '-key',
    files.key,
    '-days',
    '30',
    '-subj',
    '/O=cluster.local',
    '-out',
    files.cert,
  ]);
  return files;
}

/** Issues a leaf for `spiffe://cluster.local/ns/bench/sa/<account>`. */
export function issueLeaf(dir: string, root: CertFiles, account: string): CertFiles {
  const files = { cert: join(dir, `${account}.pem`), key: join(dir, `${account}-key.pem`) };
  const extensions = join(dir, `${account}.cnf`);
  writeFileSync(
    extensions,
    `subjectAltName=critical,URI:${spiffeId(account)}\nkeyUsage=digitalSignature,keyEncipherment\nextendedKeyUsage=serverAuth,clientAuth\n`,
  );
  const curve = ['ecparam', '-name', 'prime256v1', '-genkey', '-noout'];
  writeFileSync(files.key, run('openssl', ['pkcs8', '-topk8', '-nocrypt'], run('openssl', curve)), {
    mode: 0o600,
  });
  const csr = run('openssl', ['req', '-new', '-key', files.key, '-subj', '/']);
  const sign = [
    'x509',
    '-req',
    '-CA',
    root.cert,
    '-CAkey',
    root.key,
    '-CAcreateserial',
    '-days',
    '30',
  ];
  writeFileSync(files.cert, run('openssl', [...sign, '-extfile', extensions], csr));
  return files;
}

/** The SPIFFE id of a benchmark account. */
export function spiffeId(account: string): string {
  return `spiffe://cluster.local/ns/bench/sa/${account}`;
}

/** A file's text, for configuration that takes PEM inline. */
export function pem(path: string): string {
  return readFileSync(path, 'utf8');
}
