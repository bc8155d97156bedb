// CSRs against openssl in both directions.
import assert from 'node:assert/strict';
import { execFileSync } from 'node:child_process';
import { mkdtempSync, readFileSync, rmSync, writeFileSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { after, describe, it } from 'node:test';
import { buildCsr, generateKeyPair, parseCsr } from '../../../../common/identity/csr.ts';
import { parseSpiffeId } from '../../../../common/identity/spiffe.ts';

const dir = mkdtempSync(join(tmpdir(), 'ambient-csr-'));
after(() => rmSync(dir, { recursive: true }));
const ID = 'spiffe://cluster.local/ns/bookinfo/sa/reviews';

const openssl = (args: readonly string[], input?: string): string =>
  execFileSync('openssl', args, { input, encoding: 'utf8', stdio: ['pipe', 'pipe', 'pipe'] });

function opensslCsr(name: string, keyArgs: readonly string[]): string {
  const path = join(dir, name);
  openssl(
    ['req', '-new', '-nodes', '-newkey', ...keyArgs, '-keyout', `${path}.key`].concat([
      '-out',
      `${path}.csr`,
      '-subj',
      '/CN=x',
      '-addext',
      `subjectAltName=URI:${ID}`,
    ]),
  );
  return readFileSync(`${path}.csr`, 'utf8');
}

describe('csr', () => {
  it('is accepted by openssl with an empty subject and a critical uri name', () => {
    const pem = buildCsr(ID, generateKeyPair());
    const path = join(dir, 'ours.csr');
    writeFileSync(path, pem);
    const text = openssl(['req', '-in', path, '-noout', '-text', '-verify']);
    assert.match(text, /Subject: *\n/);
    assert.match(text, /X509v3 Subject Alternative Name: critical\s+URI:spiffe:\/\/cluster\.local/);
    assert.match(text, /prime256v1/);
    assert.match(text, /Signature Algorithm: ecdsa-with-SHA256/);
  });

  it('reads back what it built', () => {
    const parsed = parseCsr(buildCsr(ID, generateKeyPair()));
    assert.deepEqual(parsed.uriSans, [ID]);
    assert.equal(parsed.publicKey.asymmetricKeyType, 'ec');
  });

  for (const [name, args] of [
    ['p256', ['ec', '-pkeyopt', 'ec_paramgen_curve:P-256']],
    ['p384', ['ec', '-pkeyopt', 'ec_paramgen_curve:P-384']],
    ['rsa', ['rsa:2048']],
  ] as const) {
    it(`parses an openssl request with a ${name} key`, () => {
      assert.deepEqual(parseCsr(opensslCsr(name, args)).uriSans, [ID]);
    });
  }

  it('refuses weak keys, broken signatures, garbage and oversized input', () => {
    const weak = opensslCsr('weak', ['rsa:1024']);
    assert.throws(() => parseCsr(weak), { code: 'invalid_csr' });
    const der = Buffer.from(
      buildCsr(ID, generateKeyPair()).replace(/-----[^-]+-----|\s/g, ''),
      'base64',
    );
    for (let at = 0; at < der.length; at += 3) {
      const bad = Buffer.from(der);
      bad[at] = (bad[at] ?? 0) ^ 0x41;
      const pem = `-----BEGIN CERTIFICATE REQUEST-----\n${bad.toString('base64')}\n-----END CERTIFICATE REQUEST-----\n`;
      assert.throws(() => parseCsr(pem), { code: 'invalid_csr' }, `byte ${at}`);
    }
    assert.throws(() => parseCsr('hello'), { code: 'invalid_csr' });
    assert.throws(() => parseCsr('x'.repeat(100_000)), { code: 'invalid_csr' });
  });
});

describe('spiffe id', () => {
  it('parses istio ids and nothing else', () => {
    assert.deepEqual(parseSpiffeId(ID), {
      trustDomain: 'cluster.local',
      namespace: 'bookinfo',
      serviceAccount: 'reviews',
    });
    for (const bad of [
      '',
      'spiffe://td/ns/a',
      'spiffe://td/ns/a/sa/b/c',
      'http://td/ns/a/sa/b',
      'spiffe:///ns/a/sa/b',
      'spiffe://td/ns//sa/b',
      `${ID}\n`,
    ]) {
      assert.equal(parseSpiffeId(bad), undefined, bad);
    }
  });
});
