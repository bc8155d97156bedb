// The CA against openssl, and its limits.
import assert from 'node:assert/strict';
import { execFileSync } from 'node:child_process';
import { X509Certificate } from 'node:crypto';
import { mkdtempSync, readFileSync, rmSync, writeFileSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { after, describe, it } from 'node:test';
import { systemClock } from '../../../../common/clock.ts';
import type { Clock } from '../../../../common/clock.ts';
import { CertificateAuthority, createRoot } from '../../../../common/identity/ca.ts';
import type { CaMaterial } from '../../../../common/identity/ca.ts';
import { buildCsr, generateKeyPair, parseCsr } from '../../../../common/identity/csr.ts';
import { readCertificate, splitPem } from '../../../../common/identity/x509.ts';

const dir = mkdtempSync(join(tmpdir(), 'ambient-ca-'));
after(() => rmSync(dir, { recursive: true }));
const ID = 'spiffe://cluster.local/ns/bookinfo/sa/reviews';

const openssl = (...args: string[]): string =>
  execFileSync('openssl', args, { encoding: 'utf8', stdio: ['pipe', 'pipe', 'pipe'] });

function file(name: string, text: string): string {
  const path = join(dir, name);
  writeFileSync(path, text);
  return path;
}

const root = createRoot('cluster.local', systemClock);
const ca = new CertificateAuthority(root, systemClock);
const key = generateKeyPair();
const csr = parseCsr(buildCsr('spiffe://evil/ns/a/sa/b', key));
const at = (ms: number): Clock => ({ ...systemClock, now: () => ms });

describe('certificate authority', () => {
  it('issues chains that openssl verifies, for clients and servers', () => {
    const [leaf = '', rootPem = ''] = ca.issueWorkload(csr.publicKeyDer, ID, 3600);
    const leafFile = file('leaf.pem', leaf);
    const rootFile = file('root.pem', rootPem);
    for (const purpose of ['sslclient', 'sslserver']) {
      const out = openssl(
        'verify',
        '-x509_strict',
        '-purpose',
        purpose,
        '-CAfile',
        rootFile,
        leafFile,
      );
      assert.match(out, /OK/);
    }
    const text = openssl('x509', '-in', leafFile, '-noout', '-text');
    assert.match(
      text,
      /Subject Alternative Name: critical\s+URI:spiffe:\/\/cluster\.local\/ns\/bookinfo\/sa\/reviews\n/,
    );
    assert.match(text, /Key Usage: critical\s+Digital Signature, Key Encipherment/);
    assert.match(text, /TLS Web Server Authentication, TLS Web Client Authentication/);
    assert.match(text, /Subject: *\n/);
  });

  it('decides names by itself: those of the csr are ignored', () => {
    const [leaf = ''] = ca.issueWorkload(csr.publicKeyDer, ID, 3600);
    assert.deepEqual(readCertificate(leaf).uriSans, [ID]);
    assert.equal(new X509Certificate(leaf).checkPrivateKey(key.privateKey), true);
  });

  it('defaults to a day, backdates by two minutes, and never outlives the root', () => {
    const now = Date.now();
    const life = (ttlSec: number, authority = ca): number => {
      const [leaf = ''] = authority.issueWorkload(csr.publicKeyDer, ID, ttlSec);
      const { notBeforeMs, notAfterMs } = readCertificate(leaf);
      return Math.round((notAfterMs - notBeforeMs) / 1000);
    };
    assert.equal(life(0), 86_400 + 120);
    assert.equal(life(-5), 86_400 + 120);
    assert.equal(life(60), 180);
    const rootEnd = readCertificate(root.certPem).notAfterMs;
    const old = new CertificateAuthority(root, at(rootEnd - 3_600_000));
    assert.ok(life(86_400, old) <= 3600 + 121);
    assert.ok(rootEnd > now + 3600 * 86_400_000);
  });

  it('refuses more than ninety days and nonsense', () => {
    for (const ttl of [90 * 86_400 + 1, NaN, Infinity]) {
      assert.throws(() => ca.issueWorkload(csr.publicKeyDer, ID, ttl), {
        code: 'invalid_argument',
      });
    }
  });

  it('gives every certificate its own serial', () => {
    const serials = Array.from({ length: 20 }, () => {
      const [leaf = ''] = ca.issueWorkload(csr.publicKeyDer, ID, 60);
      return readCertificate(leaf).serial;
    });
    assert.equal(new Set(serials).size, 20);
  });

  it('issues server certificates that node:tls accepts by name', () => {
    const server = ca.issueServer(['istiod.istio-system.svc'], 3600);
    const cert = new X509Certificate(server.certPem);
    assert.equal(cert.checkHost('istiod.istio-system.svc'), 'istiod.istio-system.svc');
    assert.equal(cert.checkHost('other.istio-system.svc'), undefined);
    assert.equal(cert.verify(new X509Certificate(root.certPem).publicKey), true);
  });

  it('refuses a root that is expired, a leaf, or of another key', () => {
    const [leaf = ''] = ca.issueWorkload(csr.publicKeyDer, ID, 60);
    const other = createRoot('cluster.local', systemClock);
    const end = readCertificate(root.certPem).notAfterMs;
    const bad = [
      () => new CertificateAuthority(root, at(end + 1)),
      () => new CertificateAuthority({ certPem: leaf, keyPem: key.privateKeyPem }, systemClock),
      () => new CertificateAuthority({ certPem: root.certPem, keyPem: other.keyPem }, systemClock),
    ];
    for (const make of bad) assert.throws(make, { code: 'invalid_root' });
    assert.throws(
      () => new CertificateAuthority({ certPem: root.certPem, keyPem: 'x' }, systemClock),
      {
        code: 'invalid_key',
      },
    );
  });

  it('reads certificates of openssl and splits bundles', () => {
    const path = join(dir, 'self.pem');
    openssl(
      'req',
      '-x509',
      '-newkey',
      'rsa:2048',
      '-nodes',
      '-keyout',
      join(dir, 'self.key'),
      '-out',
      path,
      '-subj',
      '/CN=x',
      '-days',
      '3',
      '-addext',
      `subjectAltName=URI:${ID},DNS:a.b`,
    );
    const pem = openssl('x509', '-in', path);
    const fields = readCertificate(pem);
    assert.deepEqual(fields.uriSans, [ID]);
    assert.equal(fields.notAfterMs - fields.notBeforeMs, 3 * 86_400_000);
    assert.equal(splitPem(pem + root.certPem).length, 2);
    assert.throws(() => readCertificate('nothing'), { code: 'invalid_certificate' });
  });
});

/** A root and an RSA intermediate below it as an operator's tools make them. */
function plugIn(name: string, keyArgs: readonly string[]): CaMaterial {
  const path = (suffix: string): string => join(dir, `${name}-${suffix}`);
  const text = (suffix: string): string => readFileSync(path(suffix), 'utf8');
  const request = ['req', '-nodes', '-sha256', '-subj', `/O=${name}`, '-newkey', ...keyArgs];
  const usage = ['-x509', '-addext', 'keyUsage=critical,keyCertSign'];
  openssl(...request, ...usage, '-keyout', path('root.key'), '-out', path('root.pem'));
  openssl(...request, '-subj', `/CN=${name} ca`, '-keyout', path('ca.key'), '-out', path('ca.csr'));
  const extensions = 'basicConstraints=critical,CA:true,pathlen:0\nsubjectKeyIdentifier=hash\n';
  writeFileSync(path('ext'), `${extensions}authorityKeyIdentifier=keyid\nkeyUsage=keyCertSign\n`);
  const signing = ['-CA', path('root.pem'), '-CAkey', path('root.key'), '-CAcreateserial'];
  const rest = ['-extfile', path('ext'), '-days', '30', '-sha256', '-out', path('ca.pem')];
  openssl('x509', '-req', '-in', path('ca.csr'), ...signing, ...rest);
  return {
    certPem: text('ca.pem'),
    keyPem: text('ca.key'),
    chainPem: text('ca.pem') + text('root.pem'),
    rootsPem: text('root.pem'),
  };
}

describe('a plugged-in certificate authority', () => {
  const rsa = plugIn('rsa', ['rsa:2048']);
  const ec = plugIn('ec', ['ec', '-pkeyopt', 'ec_paramgen_curve:prime256v1']);

  for (const [name, material] of [
    ['rsa', rsa],
    ['ecdsa', ec],
  ] as const) {
    it(`issues by an intermediate of an ${name} key what openssl verifies by the root alone`, () => {
      const authority = new CertificateAuthority(material, systemClock);
      const chain = authority.issueWorkload(csr.publicKeyDer, ID, 60 * 86_400);
      assert.equal(chain.length, 3);
      const [leaf = '', intermediate = '', roots = ''] = chain;
      const out = openssl(
        ...['verify', '-x509_strict', '-purpose', 'sslserver', '-CAfile', file('r.pem', roots)],
        ...['-untrusted', file('i.pem', intermediate), file('l.pem', leaf)],
      );
      assert.match(out, /OK/);
      // Its issuers end before it would.
      assert.ok(readCertificate(leaf).notAfterMs <= Date.now() + 30 * 86_400_000);
      const server = authority.issueServer(['istiod'], 60);
      assert.equal(splitPem(server.certPem).length, 2);
    });
  }

  it('hands out every root of the bundle, that of the signer first', () => {
    const both = `${rsa.rootsPem ?? ''}${ec.rootsPem ?? ''}`;
    const roots = (material: CaMaterial): string =>
      new CertificateAuthority({ ...material, rootsPem: both }, systemClock).rootsPem;
    assert.equal(roots(rsa), `${rsa.rootsPem ?? ''}${ec.rootsPem ?? ''}`);
    assert.equal(roots(ec), `${ec.rootsPem ?? ''}${rsa.rootsPem ?? ''}`);
    // The self-signed root of before, with the next one beside it.
    const next = new CertificateAuthority({ ...root, rootsPem: root.certPem + both }, systemClock);
    assert.equal(splitPem(next.rootsPem).length, 3);
    assert.equal(next.issueWorkload(csr.publicKeyDer, ID, 60).length, 2);
  });

  it('refuses a bundle that the signer does not lead to, and one with a leaf in it', () => {
    const [leaf = ''] = ca.issueWorkload(csr.publicKeyDer, ID, 60);
    for (const bad of [
      { ...ec, rootsPem: rsa.rootsPem ?? '' },
      { ...ec, rootsPem: `${ec.rootsPem ?? ''}${leaf}` },
      { ...ec, rootsPem: '' },
    ]) {
      assert.throws(() => new CertificateAuthority(bad, systemClock), { code: 'invalid_root' });
    }
  });
});
