// Copying under stress, as Istio ztunnel's `copystress`: any amount in any pieces, both directions at once, readers that
// pause, ends in any order; every byte arrives once and in its place. Through a relay between two sockets and through
// tunnels that share a connection. What each end does is drawn from a seed.
import assert from 'node:assert/strict';
import { createHash } from 'node:crypto';
import { once } from 'node:events';
import { connect, createServer, type AddressInfo, type Socket } from 'node:net';
import { setImmediate as nextTurn } from 'node:timers/promises';
import { after, describe, it } from 'node:test';
import { HbonePool, isTunnelFailure } from '../../../common/hbone/tunnel-pool.ts';
import { HboneServer } from '../../../common/hbone/tunnel-server.ts';
import type { Duplex, RelayResult } from '../../../engine/reactor/duplex.ts';
import { startRelay } from '../../../engine/reactor/relay.ts';
import { openTcpListener } from '../../../engine/reactor/socket-options.ts';
import { connectTcp } from '../../../engine/reactor/tcp-connect.ts';
import { TcpListener } from '../../../engine/reactor/tcp-listener.ts';
import { TlsContext } from '../../../engine/tls/tls-context.ts';
import { checkedBytes, checkedDigest } from '../../support/checked-bytes.ts';
import { generator } from '../../support/seeded-random.ts';
import { TestAuthority, spiffe } from '../engine/certificates.ts';
import { startReactor, until } from '../engine/support.ts';

const CONNECTIONS = 40;
const MAX_BYTES = 3_000_000;
const MAX_PIECE = 400_000;
const reactor = startReactor();
const authority = new TestAuthority();
const clientContext = TlsContext.client(authority.issue('client', spiffe('client')));
const serverContext = TlsContext.server(authority.issue('server', spiffe('server')));
after(() => {
  clientContext.close();
  serverContext.close();
  authority.remove();
  reactor.close();
});

const counters = { addForward: (): void => undefined, addBackward: (): void => undefined };

/** From 1 to `max`, small ones as often as large ones. */
function anySize(random: () => number, max: number): number {
  return Math.floor(Math.exp(random() * Math.log(max)));
}

/** Sends what `name` stands for in any pieces with any pauses, then ends. */
async function speak(socket: Socket, name: string, count: number, random: () => number) {
  const bytes = Buffer.concat([...checkedBytes(name, count)]);
  for (let at = 0; at < count;) {
    const piece = bytes.subarray(at, at + anySize(random, MAX_PIECE));
    at += piece.length;
    const hasRoom = socket.write(piece);
    if (!hasRoom && random() < 0.9) await once(socket, 'drain');
    for (let pauses = random() < 0.3 ? 20 * random() : 0; pauses > 0; pauses--) await nextTurn();
  }
  socket.end();
}

/** What arrives until the end, by a reader that pauses: its digest and length. */
async function hear(socket: Socket, random: () => number): Promise<string> {
  const hash = createHash('sha256');
  let length = 0;
  for await (const chunk of socket.iterator({ destroyOnReturn: false })) {
    const bytes = chunk as Buffer;
    hash.update(bytes);
    length += bytes.length;
    for (let pauses = random() < 0.1 ? 30 * random() : 0; pauses > 0; pauses--) await nextTurn();
  }
  return `${length} ${hash.digest('hex')}`;
}

/** What one end of a connection does. */
interface Part {
  readonly name: string;
  readonly count: number;
  readonly random: () => number;
  /** Hears only when it has said all. If both did, they would wait for each other. */
  readonly isLate: boolean;
}

function partOf(side: 'client' | 'server', seed: number): Part {
  const random = generator(side === 'client' ? seed : 1000 + seed);
  const kind = random();
  const some = kind < 0.5 ? anySize(random, MAX_BYTES) : Math.floor(random() * MAX_BYTES);
  const isLate = side === 'client' && random() < 0.2;
  return { name: `${side} ${seed}`, count: kind < 0.1 ? 0 : some, random, isLate };
}

/** Says its own and hears the other's. */
async function converse(socket: Socket, { name, count, random, isLate }: Part): Promise<string> {
  const heard = isLate ? undefined : hear(socket, random);
  await speak(socket, name, count, random);
  return heard ?? hear(socket, random);
}

/** What is heard of all of a side, in any order. */
function saidBy(side: 'client' | 'server'): string[] {
  const parts = Array.from({ length: CONNECTIONS }, (_, seed) => partOf(side, seed));
  return parts.map(({ name, count }) => `${count} ${checkedDigest(name, count)}`).sort();
}

interface Path {
  readonly port: number;
  readonly results: RelayResult[];
  close(): void;
}

/** A listener that carries each connection on by `open`. */
function listenPath(open: () => Promise<Duplex>, closeMore: () => void): Path {
  const results: RelayResult[] = [];
  const bound = openTcpListener({ address: '127.0.0.1', port: 0 });
  const listener = new TcpListener(reactor, bound.fd, (stream) => {
    void open().then((upstream) => {
      startRelay(stream, upstream, counters, (result) => results.push(result));
    });
  });
  const close = (): void => {
    listener.close();
    closeMore();
  };
  return { port: bound.port, results, close };
}

function relayTo(port: number): Path {
  return listenPath(
    () => connectTcp(reactor, { address: '127.0.0.1', port }),
    () => undefined,
  );
}

function tunnelTo(appPort: number): Path {
  const hbone = new HboneServer({
    context: () => serverContext,
    onRequest: (request) => {
      void connectTcp(reactor, { address: '127.0.0.1', port: appPort }).then((app) =>
        startRelay(request.accept([]), app, counters, () => undefined),
      );
    },
  });
  const bound = openTcpListener({ address: '127.0.0.1', port: 0 });
  const listener = new TcpListener(reactor, bound.fd, (stream) => hbone.accept(stream));
  const pool = new HbonePool(reactor, {
    dial: ({ address, port }) => connectTcp(reactor, { address, port }),
    context: () => clientContext,
  });
  const target = {
    ...{ address: '127.0.0.1', port: bound.port, authority: `127.0.0.1:${appPort}`, headers: [] },
    ...{ sourceIdentity: spiffe('client'), expectedIdentities: [spiffe('server')] },
  };
  const open = async (): Promise<Duplex> => {
    const tunnel = await pool.connect(target);
    return isTunnelFailure(tunnel) ? assert.fail(tunnel.detail) : tunnel.stream;
  };
  return listenPath(open, () => {
    pool.close('test ends');
    listener.close();
    hbone.close('test ends');
  });
}

for (const [what, pathTo] of [
  ['a relay between two sockets', relayTo],
  ['tunnels that share a connection', tunnelTo],
] as const) {
  describe(`through ${what}`, () => {
    it(`copystress: ${CONNECTIONS} connections, any sizes and pieces, both directions: every byte in its place`, async () => {
      let accepted = 0;
      const byServer: Promise<string>[] = [];
      const app = createServer({ allowHalfOpen: true }, (socket) => {
        byServer.push(converse(socket, partOf('server', accepted++)));
      });
      app.listen(0, '127.0.0.1');
      await once(app, 'listening');
      const path = pathTo((app.address() as AddressInfo).port);
      const talk = async (seed: number): Promise<string> => {
        const socket = connect({ port: path.port, host: '127.0.0.1', allowHalfOpen: true });
        return converse(socket, partOf('client', seed));
      };
      try {
        const byClients = await Promise.all(
          Array.from({ length: CONNECTIONS }, (_, seed) => talk(seed)),
        );
        assert.deepEqual(byClients.sort(), saidBy('server'));
        assert.deepEqual((await Promise.all(byServer)).sort(), saidBy('client'));
        await until(() => path.results.length === CONNECTIONS, 'all have ended');
        const codes = new Set(path.results.map(({ reason }) => reason.code));
        assert.deepEqual(codes, new Set(['ok']));
      } finally {
        path.close();
        app.close();
      }
    });
  });
}
