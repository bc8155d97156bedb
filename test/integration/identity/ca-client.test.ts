// The node proxy's certificates from a real CA server over gRPC, with a clock of the test's own: renewal, a root that
// is rotated, answers that must not be used, and a CA that is away.
import assert from 'node:assert/strict';
import { once } from 'node:events';
import { mkdtempSync, rmSync, writeFileSync } from 'node:fs';
import type { AddressInfo } from 'node:net';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { after, describe, it } from 'node:test';
import { createServer } from 'node:tls';
import { openGrpcServer } from '../../../common/grpc/server.ts';
import type { GrpcServer, ServerTls } from '../../../common/grpc/server.ts';
import { CaClient } from '../../../common/grpc/ca-client.ts';
import { systemClock } from '../../../common/clock.ts';
import { CertificateAuthority, createRoot } from '../../../common/identity/ca.ts';
import { certificateFetcher } from '../../../common/identity/ca-fetch.ts';
import { buildCsr, generateKeyPair, parseCsr } from '../../../common/identity/csr.ts';
import { SecretManager } from '../../../common/identity/secret-manager.ts';
import type { WorkloadCertificate } from '../../../common/identity/secret-manager.ts';
import { splitPem } from '../../../common/identity/x509.ts';
import { joinHostPort } from '../../../common/workload/ip.ts';
import { FakeClock, settle } from '../../support/fake-clock.ts';
import { quietLogger } from '../../support/quiet-logger.ts';

const ID = 'spiffe://cluster.local/ns/default/sa/a';
const TTL_SEC = 86_400;
const HOUR_MS = 3_600_000;

type Sign = (csrPem: string, ttlSec: number) => string[];

/** A CA server whose answers the test chooses. */
class TestCa {
  sign: Sign;
  readonly requests: { impersonated: unknown; ttlSec: number }[] = [];
  #server: GrpcServer | undefined;

  constructor(sign: Sign) {
    this.sign = sign;
  }

  async listen(port = 0, host = '127.0.0.1', tls?: ServerTls): Promise<number> {
    this.#server = await openGrpcServer({
      address: joinHostPort(host, port),
      ...(tls === undefined ? {} : { tls }),
      handlers: {
        authenticate: () => Promise.resolve(undefined),
        openStream: () => ({ onRequest: () => undefined, onEnd: () => undefined }),
        sign: (_caller, { csrPem, ttlSec, metadata }) => {
          this.requests.push({ impersonated: metadata['ImpersonatedIdentity'], ttlSec });
          return Promise.resolve(this.sign(csrPem, ttlSec));
        },
      },
    });
    return this.#server.port;
  }

  async close(): Promise<void> {
    await this.#server?.close();
    this.#server = undefined;
  }
}

const root = createRoot('first', systemClock);
const authority = new CertificateAuthority(root, systemClock);
const issue =
  (ca = authority): Sign =>
  (csrPem, ttlSec) => {
    const { publicKeyDer, uriSans } = parseCsr(csrPem);
    return ca.issueWorkload(publicKeyDer, uriSans[0] ?? '', ttlSec);
  };
const ca = new TestCa(issue());
const closers: (() => void)[] = [];
after(async () => {
  for (const close of closers) close();
  await ca.close();
});

async function setUp(): Promise<{
  manager: SecretManager;
  clock: FakeClock;
  issued: WorkloadCertificate[];
  port: number;
}> {
  await ca.close();
  const clock = new FakeClock(Date.now());
  ca.sign = issue(new CertificateAuthority(root, clock));
  ca.requests.length = 0;
  const port = await ca.listen();
  const client = new CaClient({ address: `http://127.0.0.1:${port}`, root: '', clusterId: 'c' });
  const issued: WorkloadCertificate[] = [];
  const manager = new SecretManager({
    fetch: certificateFetcher({
      sign: (request) => client.sign(request),
      ttlSec: TTL_SEC,
      isNodeProxy: true,
      clock,
    }),
    clock,
    logger: quietLogger(),
    random: () => 0.5,
    onCertificate: (certificate) => issued.push(certificate),
  });
  closers.push(() => {
    manager.close();
    client.close();
  });
  return { manager, clock, issued, port };
}

async function until(check: () => boolean): Promise<void> {
  const deadline = Date.now() + 10_000;
  while (!check()) {
    assert.ok(Date.now() < deadline, check.toString());
    await settle();
  }
}

describe('certificates from a ca', () => {
  it('asks for the workload it impersonates, with a key of its own', async () => {
    const { manager } = await setUp();
    const { identity, certChainPem, privateKeyPem, rootsPem } = await manager.get(ID);
    assert.equal(identity, ID);
    assert.equal(splitPem(certChainPem).length, 1);
    assert.match(privateKeyPem, /BEGIN PRIVATE KEY/);
    assert.equal(rootsPem, authority.rootsPem);
    assert.deepEqual(ca.requests, [{ impersonated: ID, ttlSec: TTL_SEC }]);
  });

  it('renews at half life, and the new root comes with the new certificate', async () => {
    const { manager, clock, issued } = await setUp();
    const { privateKeyPem } = await manager.get(ID);
    const second = new CertificateAuthority(createRoot('second', systemClock), clock);
    ca.sign = (csrPem, ttlSec) => {
      const [leaf = ''] = issue(second)(csrPem, ttlSec);
      return [leaf, second.rootsPem + authority.rootsPem];
    };
    await clock.advance(11 * HOUR_MS);
    assert.equal(issued.length, 1);
    await clock.advance(HOUR_MS);
    await until(() => issued.length === 2);
    const renewed = await manager.get(ID);
    assert.equal(splitPem(renewed.rootsPem).length, 2);
    assert.notEqual(renewed.serial, issued[0]?.serial);
    assert.notEqual(renewed.privateKeyPem, privateKeyPem, 'a new key each time');
  });

  it('does not use a certificate for another identity or key, an expired one, or one without a root', async () => {
    const other = generateKeyPair();
    const otherKey = parseCsr(buildCsr(ID, other)).publicKeyDer;
    const answers: readonly (readonly [string, Sign, RegExp])[] = [
      [
        'another identity',
        (csrPem, ttlSec) =>
          authority.issueWorkload(parseCsr(csrPem).publicKeyDer, `${ID}x`, ttlSec),
        /issued .*sa.ax instead of/,
      ],
      ['another key', () => authority.issueWorkload(otherKey, ID, 600), /certified another key/],
      [
        'an expired one',
        (csrPem) => {
          const past = new CertificateAuthority(root, new FakeClock(Date.now() - 48 * HOUR_MS));
          return issue(past)(csrPem, 3600);
        },
        /expired certificate/,
      ],
      ['no root', (csrPem, ttlSec) => issue()(csrPem, ttlSec).slice(0, 1), /no root/],
      ['nothing', () => [], /answered 0 certificates/],
    ];
    for (const [name, sign, message] of answers) {
      const { manager, issued } = await setUp();
      ca.sign = sign;
      await assert.rejects(manager.get(ID), message, name);
      assert.equal(issued.length, 0);
    }
  });

  it('shows the leaf with what is between it and the roots, trusts what comes last', async () => {
    const { manager } = await setUp();
    const roots = authority.rootsPem + createRoot('next', systemClock).certPem;
    const between = createRoot('between', systemClock).certPem;
    let leaf = '';
    ca.sign = (csrPem, ttlSec) => {
      [leaf = ''] = issue()(csrPem, ttlSec);
      return [leaf, between.trimEnd(), roots];
    };
    const { certChainPem, rootsPem } = await manager.get(ID);
    assert.equal(certChainPem, leaf + between);
    assert.equal(rootsPem, roots);
  });

  it('keeps the old one while the ca is away, backs off, and recovers by itself', async () => {
    const { manager, clock, issued, port } = await setUp();
    await manager.get(ID);
    await ca.close();
    await clock.advance(12 * HOUR_MS);
    await until(() => manager.states()[0]?.error !== undefined);
    assert.equal((await manager.get(ID)).serial, issued[0]?.serial);
    await ca.listen(port);
    // Whatever its back-off is by now: 150 s, and a fifth more, at most.
    await clock.advance(180_000);
    await until(() => issued.length === 2);
    assert.equal(manager.states()[0]?.error, undefined);
  });

  it('reaches a ca by an address of either family whose certificate has a name only', async () => {
    const { certPem, privateKeyPem } = authority.issueServer(['istiod.test'], TTL_SEC);
    for (const host of ['127.0.0.1', '::1']) {
      await ca.close();
      ca.sign = issue();
      const port = await ca.listen(0, host, { certChainPem: certPem, privateKeyPem });
      const target = {
        address: `https://${joinHostPort(host, port)}`,
        root: authority.rootsPem,
        clusterId: 'c',
      };
      const sign = async (altHostname: string): Promise<number> => {
        const client = new CaClient({ ...target, altHostname });
        closers.push(() => client.close());
        const csrPem = buildCsr(ID, generateKeyPair());
        return (await client.sign({ csrPem, ttlSec: TTL_SEC })).length;
      };
      assert.equal(await sign('istiod.test'), 2, host);
      await assert.rejects(sign('other.test'), host);
    }
  });

  it('a new root in its file is used at the next call; one that cannot be read leaves the channel as it is', async () => {
    const { certPem, privateKeyPem } = authority.issueServer(['istiod.test'], TTL_SEC);
    await ca.close();
    ca.sign = issue();
    const port = await ca.listen(0, '127.0.0.1', { certChainPem: certPem, privateKeyPem });
    const dir = mkdtempSync(join(tmpdir(), 'ambient-ca-'));
    closers.push(() => rmSync(dir, { recursive: true, force: true }));
    const path = join(dir, 'root-cert.pem');
    const client = new CaClient({
      ...{ address: `https://127.0.0.1:${port}`, root: path, clusterId: 'c' },
      altHostname: 'istiod.test',
    });
    closers.push(() => client.close());
    const sign = async (): Promise<number> => {
      const csrPem = buildCsr(ID, generateKeyPair());
      return (await client.sign({ csrPem, ttlSec: TTL_SEC })).length;
    };
    writeFileSync(path, authority.rootsPem);
    assert.equal(await sign(), 2);
    rmSync(path);
    client.followRoot();
    assert.equal(await sign(), 2, 'the old channel');
    writeFileSync(path, createRoot('other', systemClock).certPem);
    await assert.rejects(sign(), /certificate/, 'the new root, which does not vouch for this ca');
    writeFileSync(path, authority.rootsPem);
    assert.equal(await sign(), 2);
  });

  it('trusts a root that is PEM text, or those of the system', async () => {
    const { certPem, privateKeyPem } = authority.issueServer(['istiod.test'], TTL_SEC);
    await ca.close();
    ca.sign = issue();
    const port = await ca.listen(0, '127.0.0.1', { certChainPem: certPem, privateKeyPem });
    const dir = mkdtempSync(join(tmpdir(), 'ambient-ca-'));
    closers.push(() => rmSync(dir, { recursive: true, force: true }));
    const sign = async (root: string): Promise<number> => {
      const to = { address: `https://127.0.0.1:${port}`, altHostname: 'istiod.test' };
      const client = new CaClient({ ...to, root, clusterId: 'c' });
      closers.push(() => client.close());
      const csrPem = buildCsr(ID, generateKeyPair());
      return (await client.sign({ csrPem, ttlSec: TTL_SEC })).length;
    };
    assert.equal(await sign(authority.rootsPem), 2);
    await assert.rejects(sign(createRoot('other', systemClock).certPem), /certificate/);
    // Where OpenSSL finds the system's; it is read when it is first asked for.
    process.env['SSL_CERT_FILE'] = join(dir, 'system.pem');
    writeFileSync(process.env['SSL_CERT_FILE'], authority.rootsPem);
    assert.equal(await sign('SYSTEM'), 2);
  });

  it('asks a ca at an address of either family for the name of its certificate', async () => {
    for (const host of ['127.0.0.1', '::1']) {
      const asked: string[] = [];
      const server = createServer({
        SNICallback: (name, done) => {
          asked.push(name);
          done(new Error('no certificate'));
        },
      }).listen(0, host);
      await once(server, 'listening');
      const { port } = server.address() as AddressInfo;
      const client = new CaClient({
        address: `https://${joinHostPort(host, port)}`,
        root: authority.rootsPem,
        altHostname: 'istiod.test',
        clusterId: 'c',
      });
      const csrPem = buildCsr(ID, generateKeyPair());
      await assert.rejects(client.sign({ csrPem, ttlSec: TTL_SEC }));
      client.close();
      server.close();
      assert.equal(asked[0], 'istiod.test', host);
    }
  });
});
