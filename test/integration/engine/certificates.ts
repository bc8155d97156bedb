// Test identities: a CA and leaves with SPIFFE URI SANs, made by the openssl command.
import { execFileSync } from 'node:child_process';
import { mkdtempSync, readFileSync, rmSync, writeFileSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import type { TlsMaterial } from '../../../engine/tls/types.ts';

/** A certificate authority that lives until `remove`. */
export class TestAuthority {
  readonly dir = mkdtempSync(join(tmpdir(), 'ambient-ca-'));
  readonly rootsPem: string;
  #serial = 1;

  constructor() {
    this.#openssl(
      'req -x509 -newkey ec -pkeyopt ec_paramgen_curve:P-256 -nodes -keyout ca.key -out ca.pem -days 2 -subj /O=test',
    );
    this.rootsPem = this.#read('ca.pem');
  }

  #openssl(args: string): void {
    execFileSync('openssl', args.split(' '), { cwd: this.dir, stdio: 'pipe' });
  }

  #read(name: string): string {
    return readFileSync(join(this.dir, name), 'utf8');
  }

  /** Path of a file of the authority's folder. */
  path(name: string): string {
    return join(this.dir, name);
  }

  /** A leaf for `uri` whose issuer is an intermediate of its own; the chain has both, and not the root. */
  issueByIntermediate(name: string, uri: string): TlsMaterial {
    const signer = `${name}-ca`;
    writeFileSync(join(this.dir, `${signer}.ext`), 'basicConstraints=critical,CA:TRUE\n');
    this.#sign(signer, '/O=intermediate', 'ca');
    const leaf = this.issue(name, uri, signer);
    return { ...leaf, certChainPem: leaf.certChainPem + this.#read(`${signer}.pem`) };
  }

  /** A leaf for `uri`; its files are `<name>.pem` and `<name>.key`. */
  issue(name: string, uri: string, issuer = 'ca', usage = 'serverAuth,clientAuth'): TlsMaterial {
    writeFileSync(
      join(this.dir, `${name}.ext`),
      `subjectAltName=critical,URI:${uri},DNS:localhost\nextendedKeyUsage=${usage}\n`,
    );
    this.#sign(name, '/', issuer);
    return {
      certChainPem: this.#read(`${name}.pem`),
      privateKeyPem: this.#read(`${name}.key`),
      rootsPem: this.rootsPem,
    };
  }

  #sign(name: string, subject: string, issuer: string): void {
    const serial = this.#serial++;
    this.#openssl(
      `req -newkey ec -pkeyopt ec_paramgen_curve:P-256 -nodes -keyout ${name}.key -out ${name}.csr -subj ${subject}`,
    );
    this.#openssl(
      `x509 -req -in ${name}.csr -CA ${issuer}.pem -CAkey ${issuer}.key -set_serial ${serial} -days 1 -extfile ${name}.ext -out ${name}.pem`,
    );
  }

  remove(): void {
    rmSync(this.dir, { recursive: true });
  }
}

/** SPIFFE id of a service account in namespace `test`. */
export function spiffe(serviceAccount: string): string {
  return `spiffe://cluster.local/ns/test/sa/${serviceAccount}`;
}
