// TLS to the control plane: what is offered, whom it trusts, and that the root is read for each stream. Against servers
// of node:http2 which take less than istiod does.
import assert from 'node:assert/strict';
import { once } from 'node:events';
import { mkdtempSync, rmSync, writeFileSync } from 'node:fs';
import { createSecureServer, type SecureServerOptions } from 'node:http2';
import type { AddressInfo } from 'node:net';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { after, describe, it } from 'node:test';
import type { TLSSocket } from 'node:tls';
import { systemClock } from '../../../common/clock.ts';
import { deltaStreamOpener } from '../../../common/grpc/delta-stream.ts';
import { CertificateAuthority, createRoot } from '../../../common/identity/ca.ts';

const root = createRoot('mesh', systemClock);
const issued = new CertificateAuthority(root, systemClock).issueServer(['localhost'], 3600);
const dir = mkdtempSync(join(tmpdir(), 'control-plane-tls-'));
const closers: (() => void)[] = [() => rmSync(dir, { recursive: true, force: true })];
after(() => closers.forEach((close) => close()));

interface Seen {
  readonly protocol: string | null;
  readonly cipher: string;
  readonly alpn: string | false | null;
  readonly serverName: string | false | undefined;
  readonly hasClientCertificate: boolean;
}

/** A server that ends each stream well, and what it has seen of its clients. */
async function serve(options: SecureServerOptions = {}): Promise<{ port: number; seen: Seen[] }> {
  const seen: Seen[] = [];
  const server = createSecureServer({
    ...{ key: issued.privateKeyPem, cert: issued.certPem },
    ...{ requestCert: true, rejectUnauthorized: false },
    ...options,
  });
  server.on('secureConnection', (socket: TLSSocket & { servername?: string | false }) =>
    seen.push({
      protocol: socket.getProtocol(),
      cipher: socket.getCipher().name,
      alpn: socket.alpnProtocol,
      serverName: socket.servername,
      hasClientCertificate: Object.keys(socket.getPeerCertificate()).length > 0,
    }),
  );
  server.on('stream', (stream) => {
    stream.respond(
      { ':status': 200, 'content-type': 'application/grpc' },
      { waitForTrailers: true },
    );
    stream.on('wantTrailers', () => stream.sendTrailers({ 'grpc-status': 0 }));
    stream.end();
  });
  server.listen(0, '127.0.0.1');
  await once(server, 'listening');
  closers.push(() => server.close());
  return { port: (server.address() as AddressInfo).port, seen };
}

/** Why a stream to it ended: Complete, or ConnectionError when there was no TLS. */
function endOf(port: number, rootPath: string): Promise<string> {
  const target = { address: `https://localhost:${port}`, root: rootPath, clusterId: '' };
  const { promise, resolve } = Promise.withResolvers<string>();
  const stream = deltaStreamOpener(target)({
    onResponse: () => undefined,
    onEnd: ({ reason }) => resolve(reason),
  });
  closers.push(() => stream.close());
  return promise;
}

const rootPath = join(dir, 'root-cert.pem');
writeFileSync(rootPath, root.certPem);

describe('TLS to the control plane', () => {
  it('is TLS 1.3 with AES-256-GCM first, h2 and the server’s name, without a certificate of ours', async () => {
    const { port, seen } = await serve();
    assert.equal(await endOf(port, rootPath), 'Complete');
    assert.deepEqual(seen, [
      {
        ...{ protocol: 'TLSv1.3', cipher: 'TLS_AES_256_GCM_SHA384', alpn: 'h2' },
        ...{ serverName: 'localhost', hasClientCertificate: false },
      },
    ]);
  });

  const rows: readonly [claim: string, options: SecureServerOptions, reason: string][] = [
    [
      'takes AES-128-GCM where that is all there is',
      { ciphers: 'TLS_AES_128_GCM_SHA256' },
      'Complete',
    ],
    ['no ChaCha20', { ciphers: 'TLS_CHACHA20_POLY1305_SHA256' }, 'ConnectionError'],
    ['no TLS 1.2', { maxVersion: 'TLSv1.2' }, 'ConnectionError'],
  ];
  for (const [claim, options, reason] of rows) {
    it(claim, async () => {
      const { port, seen } = await serve(options);
      assert.equal(await endOf(port, rootPath), reason);
      assert.equal(seen.length, reason === 'Complete' ? 1 : 0);
    });
  }

  it('trusts its root alone, which is read again for each stream', async () => {
    const { port } = await serve();
    const path = join(dir, 'other-root.pem');
    writeFileSync(path, createRoot('other', systemClock).certPem);
    assert.equal(await endOf(port, path), 'ConnectionError');
    writeFileSync(path, root.certPem);
    assert.equal(await endOf(port, path), 'Complete');
  });
});
