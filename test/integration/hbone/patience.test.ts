// How long tunnels last, and how they are given up: nothing ends one that is idle, by a clock that is
// moved on by hours; what we give up is told by RST_STREAM with CANCEL, to a peer that is not ours.
import assert from 'node:assert/strict';
import { once } from 'node:events';
import http2 from 'node:http2';
import { createServer, type AddressInfo, type Server } from 'node:net';
import { after, describe, it } from 'node:test';
import { HbonePool, isTunnelFailure } from '../../../common/hbone/tunnel-pool.ts';
import { HboneServer } from '../../../common/hbone/tunnel-server.ts';
import type { Tunnel, TunnelTarget } from '../../../common/hbone/types.ts';
import type { RelayResult } from '../../../engine/reactor/duplex.ts';
import { Reactor } from '../../../engine/reactor/reactor.ts';
import { startRelay } from '../../../engine/reactor/relay.ts';
import { openTcpListener } from '../../../engine/reactor/socket-options.ts';
import { connectTcp } from '../../../engine/reactor/tcp-connect.ts';
import { TcpListener } from '../../../engine/reactor/tcp-listener.ts';
import { TlsContext } from '../../../engine/tls/tls-context.ts';
import { TestAuthority, spiffe } from '../engine/certificates.ts';
import { collect, until } from '../engine/support.ts';

/** Its clock can be set forward; all its timers go by that. */
class ForwardReactor extends Reactor {
  #aheadMs = 0;

  override now(): number {
    return super.now() + this.#aheadMs;
  }

  /** So much later; what has come due has happened, and been answered over the sockets of this machine. */
  async forward(ms: number): Promise<void> {
    this.#aheadMs += ms;
    const enough = this.turns + 6;
    await until(() => this.turns >= enough, 'turns');
  }
}

const reactor = new ForwardReactor({ maxWaitMs: 1 });
reactor.start();
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

const CANCEL = http2.constants.NGHTTP2_CANCEL;
const HOURS = 3;
/** Less than what a peer has for the answer to a ping. */
const STEP_MS = 15_000;

function newPool(responseTimeoutMs?: number): HbonePool {
  return new HbonePool(reactor, {
    dial: ({ address, port }) => connectTcp(reactor, { address, port }),
    context: () => clientContext,
    ...(responseTimeoutMs === undefined ? {} : { responseTimeoutMs }),
  });
}

function targetAt(port: number, appPort = 80): TunnelTarget {
  return {
    ...{ address: '127.0.0.1', port, authority: `127.0.0.1:${appPort}`, headers: [] },
    ...{ sourceIdentity: spiffe('client'), expectedIdentities: [spiffe('server')] },
  };
}

async function opened(pool: HbonePool, target: TunnelTarget): Promise<Tunnel> {
  const tunnel = await pool.connect(target);
  if (isTunnelFailure(tunnel)) return assert.fail(tunnel.detail);
  return tunnel;
}

async function echoServer(): Promise<Server> {
  const app = createServer((socket) => socket.on('error', () => undefined).pipe(socket));
  app.listen(0, '127.0.0.1');
  await once(app, 'listening');
  return app;
}

describe('a tunnel that is idle for hours', () => {
  it('stays, and so does its connection; without a tunnel that goes after five minutes', async () => {
    const app = await echoServer();
    const { port } = app.address() as AddressInfo;
    const results: RelayResult[] = [];
    const counters = { addForward: () => undefined, addBackward: () => undefined };
    const hbone = new HboneServer({
      context: () => serverContext,
      onRequest: (request) => {
        void connectTcp(reactor, { address: '127.0.0.1', port }).then((stream) =>
          startRelay(request.accept([]), stream, counters, (result) => results.push(result)),
        );
      },
    });
    const bound = openTcpListener({ address: '127.0.0.1', port: 0 });
    const listener = new TcpListener(reactor, bound.fd, (stream) => hbone.accept(stream));
    const pool = newPool();
    const { stream } = await opened(pool, targetAt(bound.port, port));
    const received = collect(stream);
    stream.writeBytes(Buffer.from('before '));
    await until(() => received.text() === 'before ', 'the echo');
    for (let ms = 0; ms < HOURS * 3_600_000; ms += STEP_MS) await reactor.forward(STEP_MS);
    assert.deepEqual([results, pool.connections, hbone.connections], [[], 1, 1]);
    stream.writeBytes(Buffer.from('and after'));
    stream.end();
    await received.end;
    assert.equal(received.text(), 'before and after');
    assert.equal((await received.closed).code, 'ok');
    for (let ms = 0; ms < 270_000; ms += STEP_MS) await reactor.forward(STEP_MS);
    assert.equal(pool.connections, 1);
    for (let ms = 0; ms < 330_000; ms += STEP_MS) await reactor.forward(STEP_MS);
    assert.equal(pool.connections, 0);
    pool.close('test ends');
    listener.close();
    hbone.close('test ends');
    app.close();
  });
});

describe('a tunnel that we give up', () => {
  /** What a server that is not ours sees: the error code with which each stream ended. */
  async function withServer(
    isAnswering: boolean,
    act: (port: number, seen: () => number) => Promise<unknown>,
  ): Promise<number[]> {
    const codes: number[] = [];
    let seen = 0;
    const node = http2.createSecureServer({
      ...{ ca: authority.rootsPem, cert: server.certChainPem, key: server.privateKeyPem },
      requestCert: true,
    });
    node.on('stream', (stream) => {
      seen++;
      stream.on('error', () => undefined);
      stream.on('close', () => codes.push(stream.rstCode));
      stream.resume();
      if (isAnswering) stream.respond({ ':status': 200 });
    });
    node.listen(0, '127.0.0.1');
    await once(node, 'listening');
    await act((node.address() as AddressInfo).port, () => seen);
    await until(() => codes.length > 0, 'the end of the stream');
    node.close();
    return codes;
  }

  it('before its answer, because the caller has gone: RST_STREAM with CANCEL', async () => {
    const pool = newPool();
    const codes = await withServer(false, (port) =>
      pool.connect(targetAt(port), AbortSignal.timeout(100)),
    );
    pool.close('test ends');
    assert.deepEqual(codes, [CANCEL]);
  });

  it('because no answer came in time: RST_STREAM with CANCEL', async () => {
    const pool = newPool(15_000);
    const codes = await withServer(false, async (port, seen) => {
      const asked = pool.connect(targetAt(port));
      await until(() => seen() === 1, 'the request');
      for (let ms = 0; ms < 20_000; ms += 5000) await reactor.forward(5000);
      const failure = await asked;
      assert.ok(isTunnelFailure(failure));
      assert.equal(failure.code, 'timeout');
    });
    pool.close('test ends');
    assert.deepEqual(codes, [CANCEL]);
  });

  it('in its midst, as its client: RST_STREAM with CANCEL', async () => {
    const pool = newPool();
    const codes = await withServer(true, async (port) => {
      const { stream } = await opened(pool, targetAt(port));
      stream.reset();
    });
    pool.close('test ends');
    assert.deepEqual(codes, [CANCEL]);
  });

  it('in its midst, as its server: RST_STREAM with CANCEL', async () => {
    const hbone = new HboneServer({
      context: () => serverContext,
      onRequest: (request) => {
        const stream = request.accept([]);
        reactor.after(50, () => stream.reset());
      },
    });
    const bound = openTcpListener({ address: '127.0.0.1', port: 0 });
    const listener = new TcpListener(reactor, bound.fd, (stream) => hbone.accept(stream));
    const session = http2.connect(`https://127.0.0.1:${bound.port}`, {
      ...{ ca: authority.rootsPem, cert: client.certChainPem, key: client.privateKeyPem },
      checkServerIdentity: () => undefined,
    });
    const request = session.request({ ':method': 'CONNECT', ':authority': '127.0.0.1:80' });
    request.on('error', () => undefined);
    request.resume();
    await once(request, 'close');
    assert.equal(request.rstCode, CANCEL);
    session.destroy();
    listener.close();
    hbone.close('test ends');
  });
});
