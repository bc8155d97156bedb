// The pool's playbook: what is done with it, in order, and what must be seen after each step: how often was dialled, how
// many connections there are, what became of the tunnels. Real TLS and HTTP/2 against our own server. The last part plays
// random steps, from printed seeds, against rules that hold always.
import assert from 'node:assert/strict';
import { after, describe, it } from 'node:test';
import { verifyTrustDomain } from '../../../common/hbone/peer-identity.ts';
import { HbonePool, isTunnelFailure } from '../../../common/hbone/tunnel-pool.ts';
import type { HbonePoolOptions } from '../../../common/hbone/tunnel-pool.ts';
import { HboneServer } from '../../../common/hbone/tunnel-server.ts';
import type { Tunnel, TunnelRequest, TunnelTarget } from '../../../common/hbone/types.ts';
import { http2SessionCount } from '../../../engine/http2/http2-session.ts';
import { closeWatcher, type Duplex } from '../../../engine/reactor/duplex.ts';
import { openTcpListener } from '../../../engine/reactor/socket-options.ts';
import { connectTcp } from '../../../engine/reactor/tcp-connect.ts';
import { TcpListener } from '../../../engine/reactor/tcp-listener.ts';
import { tlsConnectionCount } from '../../../engine/tls/tls-connection.ts';
import { TlsContext } from '../../../engine/tls/tls-context.ts';
import { generator } from '../../support/seeded-random.ts';
import { TestAuthority, spiffe } from '../engine/certificates.ts';
import { startReactor, until } from '../engine/support.ts';

const reactor = startReactor();
const authority = new TestAuthority();
const clientMaterial = authority.issue('client', spiffe('client'));
const clientContext = TlsContext.client(clientMaterial);
const renewedContext = TlsContext.client(clientMaterial);
const serverContext = TlsContext.server(authority.issue('server', spiffe('server')));
after(() => {
  for (const context of [clientContext, renewedContext, serverContext]) context.close();
  authority.remove();
  reactor.close();
});

/** What the server does with a request, by the port in its authority. */
const SILENT = 1;

/** A server, a pool, and the tunnels between them. */
class Scene {
  readonly port: number;
  readonly pool: HbonePool;
  readonly requests: TunnelRequest[] = [];
  /** The server's ends. */
  readonly streams: Duplex[] = [];
  received = 0;
  readonly #server: HboneServer;
  readonly #listener: TcpListener;
  dials = 0;
  /** Held dials go on when called. */
  #held: (() => void)[] = [];
  isHolding = false;
  isRefusing = false;
  context: TlsContext | Promise<TlsContext> = clientContext;
  contextError: string | undefined;
  /** Runs between the handshake of a connection and its use. */
  onSecondContext: (() => void) | undefined;
  readonly ended: string[] = [];

  constructor(options: Partial<HbonePoolOptions> = {}) {
    this.#server = new HboneServer({
      context: () => serverContext,
      verifyPeer: (uris) => verifyTrustDomain(['cluster.local'], uris),
      onRejected: () => undefined,
      onRequest: (request) => {
        this.requests.push(request);
        if (request.authority.endsWith(`:${SILENT}`)) return;
        const stream = request.accept([]);
        this.streams.push(stream);
        stream.handler = {
          ...closeWatcher(() => undefined),
          onData: (_address, length) => void (this.received += length),
        };
        stream.resume();
      },
    });
    const bound = openTcpListener({ address: '127.0.0.1', port: 0 });
    this.port = bound.port;
    this.#listener = new TcpListener(reactor, bound.fd, (stream) => this.#server.accept(stream));
    let looks = 0;
    this.pool = new HbonePool(reactor, {
      dial: async ({ address, port }) => {
        this.dials++;
        looks = 1;
        if (this.isHolding) await new Promise<void>((resolve) => this.#held.push(resolve));
        return connectTcp(reactor, { address, port: this.isRefusing ? 1 : port });
      },
      context: () => {
        if (looks++ === 1) this.onSecondContext?.();
        if (this.contextError !== undefined) throw new Error(this.contextError);
        return this.context;
      },
      ...options,
    });
  }

  get held(): number {
    return this.#held.length;
  }

  go(): void {
    this.isHolding = false;
    for (const one of this.#held.splice(0)) one();
  }

  target(change: Partial<TunnelTarget> = {}): TunnelTarget {
    return {
      address: '127.0.0.1',
      port: this.port,
      authority: '10.0.0.9:80',
      headers: [],
      sourceIdentity: spiffe('client'),
      expectedIdentities: [spiffe('server')],
      ...change,
    };
  }

  /** The tunnel, or why there is none. */
  async open(
    change: Partial<TunnelTarget> = {},
    signal?: AbortSignal,
  ): Promise<Tunnel | { code: string; detail: string }> {
    const result = await this.pool.connect(this.target(change), signal);
    if (!isTunnelFailure(result)) {
      result.stream.handler = closeWatcher(({ code }) => this.ended.push(code));
      result.stream.resume();
    }
    return result;
  }

  /** A tunnel that must come to be. */
  async tunnel(change: Partial<TunnelTarget> = {}): Promise<Tunnel> {
    const result = await this.open(change);
    assert.ok(!('code' in result), JSON.stringify(result));
    return result;
  }

  async failure(change: Partial<TunnelTarget> = {}, signal?: AbortSignal): Promise<string> {
    const result = await this.open(change, signal);
    assert.ok('code' in result, 'there is a tunnel');
    return result.code;
  }

  /** GOAWAY to all. */
  drainServer(): void {
    this.#server.drain();
  }

  async connections(count: number): Promise<void> {
    await until(() => this.pool.connections === count, `${count} connections`);
  }

  async close(): Promise<void> {
    this.go();
    this.pool.close('the scene ends');
    this.#listener.close();
    this.#server.close('the scene ends');
    await this.connections(0);
    await until(() => http2SessionCount() === 0, 'sessions released');
    await until(() => tlsConnectionCount() === 0, 'tls connections released');
  }
}

type Play = readonly [
  claim: string,
  options: Partial<HbonePoolOptions>,
  play: (scene: Scene) => Promise<void>,
];

const PLAYS: readonly Play[] = [
  [
    'create: the first tunnel dials, the second shares',
    {},
    async (scene) => {
      await scene.tunnel();
      await scene.tunnel();
      assert.deepEqual([scene.dials, scene.pool.connections], [1, 1]);
    },
  ],
  [
    'concurrent first requests: a thousand wait for one dial, and share as many connections as the limit asks',
    { maxStreamsPerConnection: 100 },
    async (scene) => {
      scene.isHolding = true;
      const all = Array.from({ length: 1000 }, () => scene.tunnel());
      await until(() => scene.held === 1, 'a dial');
      assert.equal(scene.dials, 1);
      scene.go();
      await Promise.all(all);
      assert.deepEqual([scene.dials, scene.pool.connections], [10, 10]);
    },
  ],
  [
    'limit of streams: the next connection is dialled when one is full, and a place that is free again is used',
    { maxStreamsPerConnection: 2 },
    async (scene) => {
      const [first] = [await scene.tunnel(), await scene.tunnel()];
      await scene.tunnel();
      assert.equal(scene.dials, 2);
      first.stream.reset();
      await scene.tunnel();
      await scene.tunnel();
      assert.equal(scene.dials, 2);
      await scene.tunnel();
      assert.equal(scene.dials, 3);
    },
  ],
  [
    'keys: another identity of ours, other expected ones, another address or port have connections of their own',
    {},
    async (scene) => {
      await scene.tunnel();
      await scene.tunnel({ sourceIdentity: spiffe('second') });
      await scene.tunnel({ expectedIdentities: [spiffe('server'), spiffe('b')] });
      assert.equal(scene.dials, 3);
      await scene.tunnel({ expectedIdentities: [spiffe('b'), spiffe('server')] });
      assert.equal(scene.dials, 3, 'their order means nothing');
      assert.equal(await scene.failure({ address: '127.0.0.2' }), 'connect');
      assert.equal(await scene.failure({ port: 1 }), 'connect');
      assert.equal(scene.dials, 5);
    },
  ],
  [
    'idle: closed when nothing has used it for so long, and not before; streams keep it',
    { idleTimeoutMs: 60 },
    async (scene) => {
      const tunnel = await scene.tunnel();
      const endMs = Date.now() + 200;
      await until(() => Date.now() > endMs, 'time');
      assert.equal(scene.pool.connections, 1);
      tunnel.stream.reset();
      await scene.connections(0);
      await scene.tunnel();
      assert.equal(scene.dials, 2);
    },
  ],
  [
    'held up: readers that stand still fill the window of a connection, the next tunnels go beside it',
    {},
    async (scene) => {
      const stalled: Tunnel[] = [];
      for (let i = 0; i < 4; i++) stalled.push(await scene.tunnel());
      // The server's handler is paused: nobody takes what comes.
      for (const request of scene.streams) request.pause();
      for (const { stream } of stalled) stream.writeBytes(Buffer.alloc(5_000_000));
      const endMs = Date.now() + 100;
      await until(() => Date.now() > endMs, 'what fits has gone');
      assert.equal(scene.dials, 1);
      const beside = await scene.tunnel();
      beside.stream.writeBytes(Buffer.alloc(100_000));
      await until(() => scene.received === 100_000, 'who comes beside is served');
      assert.equal(scene.dials, 2);
    },
  ],
  [
    'GOAWAY: what runs goes on, what is new dials',
    {},
    async (scene) => {
      const old = await scene.tunnel();
      scene.drainServer();
      // The notice comes at once, the connection ends with its last stream.
      await until(() => !old.stream.isClosed && scene.requests.length === 1, 'running');
      await until(() => {
        void scene.open();
        return scene.dials > 1;
      }, 'another dial');
      assert.equal(old.stream.isClosed, false);
      assert.deepEqual(scene.ended, []);
    },
  ],
  [
    'drain: what runs goes on to its end, its connection with it; what is new dials',
    {},
    async (scene) => {
      const old = await scene.tunnel();
      scene.pool.drain();
      await scene.tunnel();
      assert.deepEqual([scene.dials, scene.pool.connections], [2, 2]);
      assert.equal(old.stream.isClosed, false);
      old.stream.reset();
      await scene.connections(1);
    },
  ],
  [
    'close: ends all, also what drains',
    {},
    async (scene) => {
      await scene.tunnel();
      scene.pool.drain();
      await scene.tunnel();
      scene.pool.close('the pod has gone');
      await scene.connections(0);
      await until(() => scene.ended.length === 2, 'both streams');
      assert.equal(await scene.failure(), 'connect');
      assert.equal(scene.dials, 2);
    },
  ],
  [
    'close in the middle of a dial: no connection is left behind',
    {},
    async (scene) => {
      scene.isHolding = true;
      const waiting = [scene.failure(), scene.failure()];
      await until(() => scene.held === 1, 'a dial');
      scene.pool.close('the pod has gone');
      scene.go();
      assert.deepEqual(await Promise.all(waiting), ['connect', 'connect']);
      await until(() => tlsConnectionCount() === 0, 'nothing is left');
    },
  ],
  [
    'close between the handshake and the session: no connection is left behind',
    {},
    async (scene) => {
      scene.onSecondContext = () => {
        scene.context = Promise.resolve(clientContext);
        queueMicrotask(() => scene.pool.close('the pod has gone'));
      };
      assert.equal(await scene.failure(), 'connect');
      await until(() => tlsConnectionCount() === 0, 'nothing is left');
      await scene.connections(0);
    },
  ],
  [
    'the certificate goes between the handshake and the session: no connection is left behind',
    {},
    async (scene) => {
      scene.onSecondContext = () => {
        scene.contextError = 'the identity is no longer needed';
      };
      assert.equal(await scene.failure(), 'certificate');
      await until(() => tlsConnectionCount() === 0, 'nothing is left');
      await scene.connections(0);
    },
  ],
  [
    'no certificate: nothing is dialled',
    {},
    async (scene) => {
      scene.contextError = 'no answer';
      assert.equal(await scene.failure(), 'certificate');
      assert.deepEqual([scene.dials, scene.pool.connections], [0, 0]);
    },
  ],
  [
    'failed dial: all who wait are told at once, who comes later dials anew',
    {},
    async (scene) => {
      scene.isRefusing = true;
      scene.isHolding = true;
      const waiting = Array.from({ length: 20 }, () => scene.failure());
      await until(() => scene.held === 1, 'a dial');
      scene.go();
      assert.deepEqual(new Set(await Promise.all(waiting)), new Set(['connect']));
      assert.deepEqual([scene.dials, scene.pool.connections], [1, 0]);
      scene.isRefusing = false;
      await scene.tunnel();
    },
  ],
  [
    'failed handshake: a server with another identity counts as none, each who waited is told',
    {},
    async (scene) => {
      const waiting = [1, 2, 3].map(() => scene.failure({ expectedIdentities: [spiffe('x')] }));
      assert.deepEqual(await Promise.all(waiting), ['identity', 'identity', 'identity']);
      assert.deepEqual([scene.dials, scene.pool.connections], [1, 0]);
      await scene.tunnel();
    },
  ],
  [
    'rotation: a connection whose handshake began before it serves who waits, and nobody later',
    {},
    async (scene) => {
      scene.isHolding = true;
      const waiting = [scene.tunnel(), scene.tunnel()];
      await until(() => scene.held === 1, 'a dial');
      scene.context = renewedContext;
      scene.pool.drain();
      scene.go();
      const [first] = await Promise.all(waiting);
      assert.equal(scene.dials, 1);
      await until(() => {
        void scene.open();
        return scene.dials === 2;
      }, 'another dial');
      assert.equal(first?.stream.isClosed, false);
    },
  ],
  [
    'the caller gives up while it dials: it is told at once, the others get the connection',
    {},
    async (scene) => {
      scene.isHolding = true;
      const abort = new AbortController();
      const first = scene.failure({}, abort.signal);
      const second = scene.tunnel();
      await until(() => scene.held === 1, 'a dial');
      abort.abort();
      assert.equal(await first, 'timeout');
      assert.equal(scene.held, 1);
      scene.go();
      await second;
      assert.equal(scene.dials, 1);
    },
  ],
  [
    'the caller gives up while it waits for an answer: the stream is reset, the connection stays',
    { responseTimeoutMs: 10_000 },
    async (scene) => {
      const abort = new AbortController();
      const waiting = scene.failure({ authority: `10.0.0.9:${SILENT}` }, abort.signal);
      await until(() => scene.requests.length === 1, 'the request');
      abort.abort();
      assert.equal(await waiting, 'timeout');
      await scene.tunnel();
      assert.equal(scene.dials, 1);
    },
  ],
  [
    'no answer to CONNECT: ends after its time',
    { responseTimeoutMs: 50 },
    async (scene) => {
      assert.equal(await scene.failure({ authority: `10.0.0.9:${SILENT}` }), 'timeout');
      await scene.tunnel();
      assert.equal(scene.dials, 1);
    },
  ],
  [
    'limit of connections: one that is used stays, the oldest idle one makes room',
    { maxConnections: 2 },
    async (scene) => {
      const one = await scene.tunnel({ sourceIdentity: 'one' });
      const two = await scene.tunnel({ sourceIdentity: 'two' });
      assert.equal(await scene.failure({ sourceIdentity: 'three' }), 'limit');
      two.stream.reset();
      // It counts as idle when its reset has been sent.
      await new Promise<void>((resolve) => reactor.after(5, resolve));
      await scene.tunnel({ sourceIdentity: 'three' });
      await scene.connections(2);
      assert.equal(one.stream.isClosed, false);
      assert.equal(scene.dials, 3);
    },
  ],
  [
    'destinations: none is remembered when its connections have gone, or when there were never any',
    { idleTimeoutMs: 20 },
    async (scene) => {
      for (const account of ['a', 'b', 'c']) {
        const tunnel = await scene.tunnel({ sourceIdentity: spiffe(account) });
        tunnel.stream.reset();
      }
      scene.isRefusing = true;
      for (const account of ['d', 'e']) await scene.failure({ sourceIdentity: spiffe(account) });
      await scene.connections(0);
      await until(() => scene.pool.destinations === 0, 'nothing is remembered');
    },
  ],
  [
    'an address leaves the mesh: only its connections drain',
    {},
    async (scene) => {
      const old = await scene.tunnel();
      scene.pool.drainAddresses((address) => address === '127.0.0.9');
      await scene.tunnel();
      assert.equal(scene.dials, 1);
      scene.pool.drainAddresses((address) => address === '127.0.0.1');
      await scene.tunnel();
      assert.deepEqual([scene.dials, old.stream.isClosed], [2, false]);
    },
  ],
];

describe('pool playbook', () => {
  for (const [claim, options, play] of PLAYS) {
    it(claim, async () => {
      const scene = new Scene(options);
      try {
        await play(scene);
      } finally {
        await scene.close();
      }
    });
  }

  for (const seed of [1, 2, 3, 4]) {
    it(`random steps, seed ${seed}: every request is answered, limits hold, nothing is left`, async () => {
      const random = generator(seed);
      const limit = 1 + Math.floor(random() * 4);
      const scene = new Scene({ maxStreamsPerConnection: limit, responseTimeoutMs: 2000 });
      const answers: Promise<unknown>[] = [];
      const open: Tunnel[] = [];
      const identities = ['one', 'two'];
      for (let step = 0; step < 120; step++) {
        const dice = random();
        if (dice < 0.5) {
          const sourceIdentity = identities[Math.floor(random() * 2)] ?? '';
          const signal = random() < 0.2 ? AbortSignal.timeout(Math.floor(random() * 5)) : undefined;
          answers.push(
            scene.open({ sourceIdentity }, signal).then((result) => {
              if (!('code' in result)) open.push(result);
              else assert.match(result.code, /^(timeout|connect|h2)$/);
            }),
          );
        } else if (dice < 0.75)
          open.splice(Math.floor(random() * open.length), 1)[0]?.stream.reset();
        else if (dice < 0.8) scene.pool.drain();
        else if (dice < 0.83) scene.drainServer();
        else if (dice < 0.86) scene.isRefusing = !scene.isRefusing;
        else await new Promise((resolve) => setTimeout(resolve, random() * 3));
      }
      scene.isRefusing = false;
      await Promise.all(answers);
      const running = open.filter(({ stream }) => !stream.isClosed).length;
      assert.ok(
        scene.pool.connections >= Math.ceil(running / limit),
        'no connection above its limit',
      );
      await scene.close();
      assert.ok(open.every(({ stream }) => stream.isClosed));
    });
  }
});
