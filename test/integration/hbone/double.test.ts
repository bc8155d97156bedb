// Double HBONE: our client through a network gateway (node:http2 over node:tls) to our server: both identities, the
// headers of each tunnel, half-close, checksums both ways, refusals of either layer, and nothing left over.
import assert from 'node:assert/strict';
import { createHash, randomBytes } from 'node:crypto';
import { once } from 'node:events';
import http2 from 'node:http2';
import net from 'node:net';
import { after, describe, it } from 'node:test';
import { openInnerTunnel } from '../../../common/hbone/inner-tunnel.ts';
import { verifyTrustDomain } from '../../../common/hbone/peer-identity.ts';
import { CLIENT_SESSION } from '../../../common/hbone/settings.ts';
import { HbonePool, isTunnelFailure } from '../../../common/hbone/tunnel-pool.ts';
import { HboneServer } from '../../../common/hbone/tunnel-server.ts';
import type { Tunnel, TunnelFailure } from '../../../common/hbone/types.ts';
import { http2SessionCount } from '../../../engine/http2/http2-session.ts';
import type { HeaderList } from '../../../engine/http2/types.ts';
import { nativeQueueCount } from '../../../engine/reactor/bytes.ts';
import { startRelay } from '../../../engine/reactor/relay.ts';
import { openTcpListener } from '../../../engine/reactor/socket-options.ts';
import { connectTcp } from '../../../engine/reactor/tcp-connect.ts';
import { TcpListener } from '../../../engine/reactor/tcp-listener.ts';
import { streamTlsCount } from '../../../engine/tls/stream-tls.ts';
import { tlsConnectionCount } from '../../../engine/tls/tls-connection.ts';
import { TlsContext } from '../../../engine/tls/tls-context.ts';
import { TestAuthority, spiffe } from '../engine/certificates.ts';
import { startReactor, until } from '../engine/support.ts';

const reactor = startReactor();
const authority = new TestAuthority();
const gatewayIdentity = authority.issue('gateway', spiffe('gateway'));
const clientContext = TlsContext.client(authority.issue('client', spiffe('client')));
const serverContext = TlsContext.server(authority.issue('server', spiffe('server')));
const counters = { addForward: (): void => undefined, addBackward: (): void => undefined };
const HOST = 'web.default.svc.cluster.local:80';

/** The remote node proxy: relays to the application of the test; port 1 is refused. */
const seen: { authority: string; identity: string | undefined; headers: HeaderList }[] = [];
let appPort = 0;
const server = new HboneServer({
  context: () => serverContext,
  verifyPeer: (uris) => verifyTrustDomain(['cluster.local'], uris),
  onRequest: (request) => {
    seen.push({
      authority: request.authority,
      identity: request.peerIdentity,
      headers: request.headers,
    });
    if (request.authority.endsWith(':1')) {
      request.refuse(503);
      return;
    }
    void connectTcp(reactor, { address: '127.0.0.1', port: appPort }).then((app) => {
      startRelay(request.accept([['baggage', 'service.name=far']]), app, counters, () => undefined);
    });
  },
});
const bound = openTcpListener({ address: '127.0.0.1', port: 0 });
const listener = new TcpListener(reactor, bound.fd, (stream) => server.accept(stream));

/** The gateway: terminates the outer tunnel and knows nothing of the inner one. */
const outer: string[] = [];
const gateway = http2.createSecureServer({
  cert: gatewayIdentity.certChainPem,
  key: gatewayIdentity.privateKeyPem,
  ca: authority.rootsPem,
  requestCert: true,
  rejectUnauthorized: true,
});
gateway.on('stream', (stream, headers) => {
  const network = headers['x-forwarded-network'];
  outer.push(`${headers[':method']} ${headers[':authority']} ${String(network)}`);
  const socket = net.connect({ port: bound.port, host: '127.0.0.1', allowHalfOpen: true }, () => {
    stream.respond({ ':status': 200 });
    stream.pipe(socket).pipe(stream);
  });
  socket.on('error', () => stream.close());
  stream.on('error', () => socket.destroy());
  stream.on('close', () => socket.destroy());
});
gateway.listen(0, '127.0.0.1');
await once(gateway, 'listening');

const pool = new HbonePool(reactor, {
  dial: ({ address, port }) => connectTcp(reactor, { address, port }),
  context: () => clientContext,
});

after(async () => {
  pool.close('test ends');
  listener.close();
  server.close('test ends');
  gateway.close();
  await until(() => tlsConnectionCount() + streamTlsCount() === 0, 'tls connections are gone');
  await until(() => http2SessionCount() === 0, 'sessions are gone');
  assert.equal(nativeQueueCount(), 0);
  clientContext.close();
  serverContext.close();
  authority.remove();
  reactor.close();
});

async function open(
  more: { authority?: string; expected?: readonly string[] } = {},
): Promise<Tunnel | TunnelFailure> {
  const address = gateway.address();
  const target = {
    address: '127.0.0.1',
    port: typeof address === 'object' ? (address?.port ?? 0) : 0,
    authority: more.authority ?? HOST,
    headers: [['baggage', 'service.name=client']],
    sourceIdentity: spiffe('client'),
    expectedIdentities: [spiffe('gateway')],
  } as const;
  const tunnel = await pool.connect(target);
  if (isTunnelFailure(tunnel)) return tunnel;
  return openInnerTunnel(reactor, tunnel.stream, {
    context: clientContext,
    authority: target.authority,
    headers: [...target.headers, ['x-forwarded-network', 'near']],
    expectedIdentities: more.expected ?? [spiffe('server')],
    session: CLIENT_SESSION,
    timeoutMs: 5000,
  });
}

/** A TCP port whose connections go through a double tunnel. */
async function entry(): Promise<{ port: number; close(): void }> {
  const entrance = openTcpListener({ address: '127.0.0.1', port: 0 });
  const opened = new TcpListener(reactor, entrance.fd, (app) => {
    void open().then((tunnel) => {
      assert.ok(!isTunnelFailure(tunnel), JSON.stringify(tunnel));
      startRelay(app, tunnel.stream, counters, () => tunnel.release?.());
    });
  });
  return Promise.resolve({ port: entrance.port, close: () => opened.close() });
}

async function withApp(onSocket: (socket: net.Socket) => void): Promise<net.Server> {
  const app = net.createServer({ allowHalfOpen: true }, (socket) => {
    // One test resets its tunnel on purpose.
    socket.on('error', () => undefined);
    onSocket(socket);
  });
  app.listen(0, '127.0.0.1');
  await once(app, 'listening');
  appPort = (app.address() as net.AddressInfo).port;
  return app;
}

describe('double hbone', () => {
  it('carries 8 MB each way with both half-closes, and proves the far end', async () => {
    const payload = randomBytes(8 << 20);
    const received = createHash('sha256');
    const app = await withApp((socket) => {
      socket.on('data', (chunk: Buffer) => received.update(chunk));
      // The answer begins when all has come: the request's half-close has arrived.
      socket.on('end', () => socket.end(payload));
    });
    const entrance = await entry();
    const client = net.connect({ port: entrance.port, host: '127.0.0.1', allowHalfOpen: true });
    client.end(payload);
    const answer = createHash('sha256');
    client.on('data', (chunk: Buffer) => answer.update(chunk));
    await once(client, 'end');
    const wanted = createHash('sha256').update(payload).digest('hex');
    assert.equal(received.digest('hex'), wanted);
    assert.equal(answer.digest('hex'), wanted);
    assert.equal(outer.at(-1), `CONNECT ${HOST} undefined`);
    assert.partialDeepStrictEqual(seen.at(-1), { authority: HOST, identity: spiffe('client') });
    assert.ok(seen.at(-1)?.headers.some(([name]) => name === 'x-forwarded-network'));
    entrance.close();
    app.close();
    await until(() => streamTlsCount() === 0, 'the inner connection is gone');
  });

  it('many at once share the outer connection and none of the inner ones', async () => {
    const app = await withApp((socket) => socket.pipe(socket));
    const entrance = await entry();
    const before = pool.connections;
    const clients = Array.from({ length: 20 }, async (_, index) => {
      const client = net.connect({ port: entrance.port, host: '127.0.0.1', allowHalfOpen: true });
      client.end(`hello ${index}`);
      let text = '';
      for await (const chunk of client) text += String(chunk);
      return text;
    });
    const texts = await Promise.all(clients);
    assert.deepEqual(
      texts,
      texts.map((_, index) => `hello ${index}`),
    );
    assert.ok(pool.connections - before <= 1);
    entrance.close();
    app.close();
  });

  it('says what the inner layer refused: identity, nobody expected, status', async () => {
    const wrong = await open({ expected: [spiffe('other')] });
    assert.partialDeepStrictEqual(wrong, { code: 'identity' });
    assert.partialDeepStrictEqual(await open({ expected: [] }), { code: 'identity' });
    assert.partialDeepStrictEqual(await open({ authority: 'web:1' }), {
      code: 'status',
      status: 503,
    });
    await until(() => streamTlsCount() === 0, 'the inner connections are gone');
  });

  it('the inner identity is the one that is told', async () => {
    const app = await withApp((socket) => socket.pipe(socket));
    const tunnel = await open();
    assert.ok(!isTunnelFailure(tunnel));
    assert.equal(tunnel.serverIdentity, spiffe('server'));
    assert.deepEqual(
      tunnel.responseHeaders.find(([name]) => name === 'baggage'),
      ['baggage', 'service.name=far'],
    );
    tunnel.stream.reset();
    tunnel.release?.();
    app.close();
    await until(() => streamTlsCount() === 0, 'the inner connection is gone');
  });
});
