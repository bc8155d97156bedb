// HBONE between our own two ends: TCP -> tunnel -> TCP, with checksums, half-close, refusal, identities, pooling.
import assert from 'node:assert/strict';
import { createHash, randomBytes } from 'node:crypto';
import { once } from 'node:events';
import http2 from 'node:http2';
import net from 'node:net';
import { after, describe, it } from 'node:test';
import { verifyTrustDomain } from '../../../common/hbone/peer-identity.ts';
import { HbonePool, isTunnelFailure } from '../../../common/hbone/tunnel-pool.ts';
import { HboneServer } from '../../../common/hbone/tunnel-server.ts';
import type { TunnelRequest, TunnelTarget } from '../../../common/hbone/types.ts';
import { http2SessionCount } from '../../../engine/http2/http2-session.ts';
import { nativeQueueCount } from '../../../engine/reactor/bytes.ts';
import type { CloseReason, RelayResult } from '../../../engine/reactor/duplex.ts';
import { startRelay } from '../../../engine/reactor/relay.ts';
import { openTcpListener } from '../../../engine/reactor/socket-options.ts';
import { connectTcp } from '../../../engine/reactor/tcp-connect.ts';
import { TcpListener } from '../../../engine/reactor/tcp-listener.ts';
import { tlsConnectionCount } from '../../../engine/tls/tls-connection.ts';
import { TlsContext } from '../../../engine/tls/tls-context.ts';
import { TestAuthority, spiffe } from '../engine/certificates.ts';
import { collect, startReactor, until } from '../engine/support.ts';

const reactor = startReactor();
const authority = new TestAuthority();
const client = authority.issue('client', spiffe('client'));
const server = authority.issue('server', spiffe('server'));
const clientContext = TlsContext.client(client);
const serverContext = TlsContext.server(server);
after(() => {
  clientContext.close();
  serverContext.close();
  authority.remove();
  reactor.close();
});

const counters = { addForward: (): void => undefined, addBackward: (): void => undefined };

interface Exit {
  readonly port: number;
  readonly hbone: HboneServer;
  readonly rejected: CloseReason[];
  readonly results: RelayResult[];
  close(): void;
}

/** An HBONE listener that relays to `authority`; ports 1 and 2 are refused and never answered. */
function startExit(onRequest?: (request: TunnelRequest) => void, address = '127.0.0.1'): Exit {
  const rejected: CloseReason[] = [];
  const results: RelayResult[] = [];
  const hbone = new HboneServer({
    context: () => serverContext,
    verifyPeer: (uris) => verifyTrustDomain(['cluster.local'], uris),
    onRejected: (reason) => void rejected.push(reason),
    onRequest:
      onRequest ??
      ((request) => {
        const port = Number(request.authority.split(':')[1]);
        if (port === 1) {
          request.refuse(401);
          return;
        }
        void connectTcp(reactor, { address: '127.0.0.1', port }).then(
          (app) => {
            const stream = request.accept([['baggage', 'service.name=app']]);
            startRelay(stream, app, counters, (result) => void results.push(result));
          },
          () => request.refuse(503),
        );
      }),
  });
  const bound = openTcpListener({ address, port: 0 });
  const listener = new TcpListener(reactor, bound.fd, (stream) => hbone.accept(stream));
  return {
    port: bound.port,
    hbone,
    rejected,
    results,
    close: () => {
      listener.close();
      hbone.close('test ends');
    },
  };
}

function newPool(options: { maxStreams?: number; idleMs?: number } = {}): HbonePool {
  return new HbonePool(reactor, {
    dial: ({ address, port }) => connectTcp(reactor, { address, port }),
    context: () => clientContext,
    maxStreamsPerConnection: options.maxStreams ?? 100,
    idleTimeoutMs: options.idleMs ?? 300_000,
  });
}

function target(
  exit: { readonly port: number },
  appPort: number,
  expected = [spiffe('server')],
): TunnelTarget {
  return {
    address: '127.0.0.1',
    port: exit.port,
    authority: `127.0.0.1:${appPort}`,
    headers: [['baggage', 'service.name=source']],
    sourceIdentity: spiffe('client'),
    expectedIdentities: expected,
  };
}

/** A TCP listener that tunnels each connection to `appPort`. */
function startEntry(
  pool: HbonePool,
  exit: { readonly port: number },
  appPort: number,
): { port: number; results: RelayResult[]; close(): void } {
  const results: RelayResult[] = [];
  const bound = openTcpListener({ address: '127.0.0.1', port: 0 });
  const listener = new TcpListener(reactor, bound.fd, (app) => {
    void pool.connect(target(exit, appPort)).then((tunnel) => {
      if (isTunnelFailure(tunnel)) {
        app.reset();
        return;
      }
      startRelay(app, tunnel.stream, counters, (result) => void results.push(result));
    });
  });
  return { port: bound.port, results, close: () => listener.close() };
}

async function nodeServer(onSocket: (socket: net.Socket) => void): Promise<net.Server> {
  const app = net.createServer({ allowHalfOpen: true }, (socket) => {
    // Tests reset tunnels on purpose.
    socket.on('error', () => undefined);
    onSocket(socket);
  });
  app.listen(0, '127.0.0.1');
  await once(app, 'listening');
  return app;
}

function portOf(app: net.Server): number {
  return (app.address() as net.AddressInfo).port;
}

describe('hbone', () => {
  it('carries 100 MB both ways with checksums and half-close', async () => {
    const app = await nodeServer((socket) => socket.pipe(socket));
    const exit = startExit();
    const pool = newPool();
    const entry = startEntry(pool, exit, portOf(app));
    const payload = randomBytes(100 * 1024 * 1024);
    const hash = createHash('sha256');
    const socket = net.connect({ host: '127.0.0.1', port: entry.port, allowHalfOpen: true });
    socket.on('data', (chunk: Buffer) => hash.update(chunk));
    socket.end(payload);
    await once(socket, 'end');
    assert.equal(hash.digest('hex'), createHash('sha256').update(payload).digest('hex'));
    await until(() => entry.results.length === 1 && exit.results.length === 1, 'results');
    assert.deepEqual(entry.results[0], {
      forwardBytes: payload.length,
      backwardBytes: payload.length,
      reason: { code: 'ok', detail: '' },
      failedSide: undefined,
    });
    assert.equal(exit.results[0]?.reason.code, 'ok');
    entry.close();
    pool.close('test ends');
    exit.close();
    app.close();
  });

  it('shares connections, dials once for many, and honours the stream limit', async () => {
    const app = await nodeServer((socket) => socket.pipe(socket));
    const exit = startExit();
    const pool = newPool({ maxStreams: 50 });
    const tunnels = await Promise.all(
      Array.from({ length: 120 }, () => pool.connect(target(exit, portOf(app)))),
    );
    assert.ok(tunnels.every((tunnel) => !isTunnelFailure(tunnel)));
    assert.equal(pool.connections, 3);
    for (const tunnel of tunnels) if (!isTunnelFailure(tunnel)) tunnel.stream.reset();
    pool.close('test ends');
    exit.close();
    app.close();
  });

  it('tells a failed dial to all who wait for it, and dials anew for who comes later', async () => {
    const gone = await nodeServer(() => undefined);
    const port = portOf(gone);
    gone.close();
    await once(gone, 'close');
    let dials = 0;
    const pool = new HbonePool(reactor, {
      dial: (to) => {
        dials++;
        return connectTcp(reactor, { address: to.address, port: to.port });
      },
      context: () => clientContext,
    });
    const waiting = Array.from({ length: 20 }, () => pool.connect(target({ port }, 80)));
    for (const result of await Promise.all(waiting)) {
      assert.ok(isTunnelFailure(result));
      assert.equal(result.code, 'connect');
    }
    assert.equal(dials, 1);
    assert.ok(isTunnelFailure(await pool.connect(target({ port }, 80))));
    assert.equal(dials, 2);
    pool.close('test ends');
  });

  it('reports refusals with their status and the identity of the server', async () => {
    const app = await nodeServer((socket) => socket.end());
    const exit = startExit();
    const pool = newPool();
    const denied = await pool.connect(target(exit, 1));
    assert.deepEqual(denied, { code: 'status', detail: 'http status: 401', status: 401 });
    const tunnel = await pool.connect(target(exit, portOf(app)));
    assert.ok(!isTunnelFailure(tunnel));
    assert.equal(tunnel.serverIdentity, spiffe('server'));
    assert.ok(tunnel.responseHeaders.some(([name]) => name === 'baggage'));
    tunnel.stream.reset();
    pool.close('test ends');
    exit.close();
    app.close();
  });

  it('refuses a server that is not expected, and any with an empty list', async () => {
    const exit = startExit();
    const pool = newPool();
    for (const expected of [[spiffe('other')], []]) {
      const result = await pool.connect(target(exit, 9, expected));
      assert.ok(isTunnelFailure(result));
      assert.equal(result.code, 'identity');
    }
    pool.close('test ends');
    exit.close();
  });

  it('refuses a client of another authority', async () => {
    const stranger = new TestAuthority();
    const material = stranger.issue('client', spiffe('client'));
    const context = TlsContext.client({ ...material, rootsPem: authority.rootsPem });
    const exit = startExit();
    const pool = new HbonePool(reactor, {
      dial: ({ address, port }) => connectTcp(reactor, { address, port }),
      context: () => context,
    });
    const result = await pool.connect(target(exit, 9));
    assert.ok(isTunnelFailure(result));
    assert.equal(result.code, 'tls');
    await until(() => exit.rejected.length === 1, 'rejection');
    assert.equal(exit.rejected[0]?.code, 'tls');
    pool.close('test ends');
    exit.close();
    context.close();
    stranger.remove();
  });

  it('tells a request that its client has gone', async () => {
    let aborted = 0;
    const requests: TunnelRequest[] = [];
    const exit = startExit((request) => {
      requests.push(request);
      request.onAbort = () => aborted++;
    });
    const pool = newPool();
    const result = pool.connect(target(exit, 9), AbortSignal.timeout(50));
    const failure = await result;
    assert.ok(isTunnelFailure(failure));
    assert.equal(failure.code, 'timeout');
    await until(() => aborted === 1, 'abort');
    requests[0]?.refuse(503);
    assert.equal(requests[0]?.peerIdentity, spiffe('client'));
    pool.close('test ends');
    exit.close();
  });

  it('moves to a new connection after GOAWAY, and closes idle ones', async () => {
    const app = await nodeServer((socket) => socket.pipe(socket));
    const exit = startExit();
    const pool = newPool({ idleMs: 50 });
    const first = await pool.connect(target(exit, portOf(app)));
    assert.ok(!isTunnelFailure(first));
    exit.hbone.drain();
    await until(() => http2SessionCount() === 2, 'session');
    first.stream.reset();
    await until(() => http2SessionCount() === 0, 'drained');
    exit.close();
    const next = startExit();
    const second = await pool.connect(target(next, portOf(app)));
    assert.ok(!isTunnelFailure(second));
    second.stream.reset();
    await until(() => pool.connections === 0, 'idle connection closed');
    pool.close('test ends');
    next.close();
    app.close();
  });

  it('holds a fast writer back while the reader sleeps', async () => {
    const sockets: net.Socket[] = [];
    const app = await nodeServer((socket) => {
      socket.pause();
      sockets.push(socket);
    });
    const exit = startExit();
    const pool = newPool();
    const entry = startEntry(pool, exit, portOf(app));
    const writer = net.connect({ host: '127.0.0.1', port: entry.port });
    writer.on('error', () => undefined);
    const chunk = Buffer.alloc(1 << 20);
    let written = 0;
    const fill = (): void => {
      while (written < 100 && writer.write(chunk)) written++;
    };
    writer.on('drain', fill);
    writer.on('connect', fill);
    let last = -1;
    await until(() => sockets.length === 1, 'connection');
    // Stalled: nothing more is taken within many turns. What is under way is bounded by windows and socket buffers.
    while (written !== last) {
      last = written;
      for (let i = 0; i < 200; i++) await new Promise((resolve) => setImmediate(resolve));
    }
    assert.ok(written < 60, `stalled after ${written} MiB`);
    sockets[0]?.resume();
    await until(() => written === 100, 'flow goes on');
    writer.resetAndDestroy();
    await until(() => entry.results.length === 1, 'result');
    entry.close();
    pool.close('test ends');
    exit.close();
    app.close();
  });

  it('sees the reset of a writer that is held back', async () => {
    const app = await nodeServer((socket) => void socket.pause());
    const exit = startExit();
    const pool = newPool();
    const entry = startEntry(pool, exit, portOf(app));
    const writer = net.connect({ host: '127.0.0.1', port: entry.port });
    writer.on('error', () => undefined);
    writer.write(Buffer.alloc(60 << 20));
    let last = -1;
    await once(writer, 'connect');
    while (writer.bytesWritten - writer.writableLength !== last) {
      last = writer.bytesWritten - writer.writableLength;
      for (let i = 0; i < 300; i++) await new Promise((resolve) => setImmediate(resolve));
    }
    writer.resetAndDestroy();
    await until(() => entry.results.length === 1 && exit.results.length === 1, 'results');
    assert.deepEqual([entry.results[0]?.reason.code, entry.results[0]?.failedSide], ['reset', 'a']);
    entry.close();
    pool.close('test ends');
    exit.close();
    app.close();
  });

  it('works over IPv6', async () => {
    const app = await nodeServer((socket) => socket.pipe(socket));
    const exit = startExit(undefined, '::1');
    const pool = newPool();
    const tunnel = await pool.connect({ ...target(exit, portOf(app)), address: '::1' });
    assert.ok(!isTunnelFailure(tunnel));
    const received = collect(tunnel.stream);
    tunnel.stream.writeBytes(Buffer.from('hello'));
    tunnel.stream.end();
    assert.equal((await received.closed).code, 'ok');
    assert.equal(received.text(), 'hello');
    pool.close('test ends');
    exit.close();
    app.close();
  });

  it('serves CONNECT to node:http2, and refuses anything else', async () => {
    const app = await nodeServer((socket) => socket.pipe(socket));
    const exit = startExit();
    const session = http2.connect(`https://127.0.0.1:${exit.port}`, {
      ca: authority.rootsPem,
      cert: client.certChainPem,
      key: client.privateKeyPem,
      checkServerIdentity: () => undefined,
    });
    session.on('error', () => undefined);
    const tunnel = session.request({
      ':method': 'CONNECT',
      ':authority': `127.0.0.1:${portOf(app)}`,
    });
    const [answer] = (await once(tunnel, 'response')) as [http2.IncomingHttpHeaders];
    assert.equal(answer[':status'], 200);
    tunnel.end(Buffer.alloc(300_000, 5));
    let bytes = 0;
    tunnel.on('data', (chunk: Buffer) => (bytes += chunk.length));
    await once(tunnel, 'end');
    assert.equal(bytes, 300_000);
    const get = session.request({ ':path': '/' });
    const [refusal] = (await once(get, 'response')) as [http2.IncomingHttpHeaders];
    assert.equal(refusal[':status'], 400);
    session.destroy();
    exit.close();
    app.close();
  });

  it('opens tunnels through node:http2', async () => {
    const node = http2.createSecureServer({
      ca: authority.rootsPem,
      cert: server.certChainPem,
      key: server.privateKeyPem,
      requestCert: true,
    });
    const seen: http2.IncomingHttpHeaders[] = [];
    node.on('stream', (stream, headers) => {
      seen.push(headers);
      stream.on('error', () => undefined);
      stream.respond({ ':status': 200 });
      stream.pipe(stream);
    });
    node.listen(0, '127.0.0.1');
    await once(node, 'listening');
    const { port } = node.address() as net.AddressInfo;
    const pool = newPool();
    const tunnel = await pool.connect({ ...target({ port }, 80), port });
    assert.ok(!isTunnelFailure(tunnel));
    const received = collect(tunnel.stream, false);
    for (let i = 0; i < 40; i++) tunnel.stream.writeBytes(Buffer.alloc(50_000, i));
    tunnel.stream.end();
    assert.equal((await received.closed).code, 'ok');
    assert.equal(received.bytes, 2_000_000);
    assert.equal(seen[0]?.[':method'], 'CONNECT');
    assert.equal(seen[0][':authority'], '127.0.0.1:80');
    assert.equal(seen[0][':path'], undefined);
    pool.close('test ends');
    node.close();
  });

  it('delivers all of a response whose server wants no more of the request, as Envoy’s', async () => {
    const peer = http2.createSecureServer({
      ...{ ca: authority.rootsPem, cert: server.certChainPem, key: server.privateKeyPem },
      requestCert: true,
    });
    peer.on('stream', (stream) => {
      stream.on('error', () => undefined);
      stream.respond({ ':status': 200 });
      // END_STREAM, then RST_STREAM with NO_ERROR.
      stream.end(Buffer.alloc(3_000_000, 7), () => stream.close(http2.constants.NGHTTP2_NO_ERROR));
    });
    peer.listen(0, '127.0.0.1');
    await once(peer, 'listening');
    const { port } = peer.address() as net.AddressInfo;
    const pool = newPool();
    const entry = startEntry(pool, { port }, 8080);
    const socket = net.connect({ port: entry.port, host: '127.0.0.1', allowHalfOpen: true });
    socket.write('a request, and more to come');
    // The stream is reset while most of the response waits for its reader.
    await new Promise((done) => setTimeout(done, 300));
    const failures: NodeJS.ErrnoException[] = [];
    socket.on('error', (err) => void failures.push(err));
    let length = 0;
    socket.on('data', (chunk) => (length += chunk.length));
    await once(socket, 'end');
    assert.deepEqual([length, failures], [3_000_000, []]);
    // A socket that has read its end learns of a reset when it writes.
    await until(() => {
      if (!socket.destroyed) socket.write('this is for nobody');
      return failures.length > 0;
    }, 'the reset');
    entry.close();
    pool.close('test ends');
    peer.close();
  });

  it('holds nothing when all is closed', async () => {
    await until(() => reactor.registered === 0, 'descriptors released');
    await until(() => http2SessionCount() === 0, 'sessions released');
    await until(() => tlsConnectionCount() === 0, 'connections released');
    await until(() => reactor.timers === 0, 'timers released');
    assert.equal(nativeQueueCount(), 0);
  });
});
