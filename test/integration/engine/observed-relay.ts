// A relay on loopback whose connections are observed, in a tunnel too: what is told, and the bytes at both ends.
import { createHash } from 'node:crypto';
import { once } from 'node:events';
import type net from 'node:net';
import { HttpObserver } from '../../../engine/observe/http-observer.ts';
import { ObserveBudget } from '../../../engine/observe/observe-budget.ts';
import { connectHttp2, serveHttp2 } from '../../../engine/http2/http2-session.ts';
import type { HttpExchange, ObserveEnd } from '../../../engine/observe/types.ts';
import type { Duplex } from '../../../engine/reactor/duplex.ts';
import type { Reactor } from '../../../engine/reactor/reactor.ts';
import { startRelay } from '../../../engine/reactor/relay.ts';
import { openTcpListener } from '../../../engine/reactor/socket-options.ts';
import { connectTcp } from '../../../engine/reactor/tcp-connect.ts';
import { TcpListener } from '../../../engine/reactor/tcp-listener.ts';

/** What was seen at a relay, and where to reach it. */
export interface Observed {
  readonly port: number;
  readonly exchanges: HttpExchange[];
  readonly ends: ObserveEnd[];
  /** Seen by the first of two relays. */
  readonly near: HttpExchange[];
  done: number;
  /** `method status grpc-status`, sorted. */
  told(): string[];
  close(): void;
}

const HTTP2_OPTIONS = {
  settings: { initialWindowSize: 1 << 20, connectionWindowSize: 4 << 20 },
  pingIntervalMs: 0,
  pingTimeoutMs: 0,
};
const counters = { addForward: () => undefined, addBackward: () => undefined };

type Watch = (downstream: Duplex, upstream: Duplex, done: () => void) => void;

/** Carries a connection on in a tunnel: the relays' other sides are HTTP/2 streams, as in the mesh. */
async function openTunnel(reactor: Reactor, port: number, watch: Watch): Promise<Duplex> {
  const noEvents = { onHeaders: () => undefined, onTrailers: () => undefined };
  const bound = openTcpListener({ address: '127.0.0.1', port: 0 });
  const listener = new TcpListener(reactor, bound.fd, (tcp) => {
    listener.close();
    const server = serveHttp2(reactor, tcp, HTTP2_OPTIONS, {
      onStream: (stream) => {
        stream.respond([[':status', '200']], false);
        void connectTcp(reactor, { address: '127.0.0.1', port }).then((upstream) =>
          watch(stream, upstream, () => server.drain()),
        );
        return noEvents;
      },
      onGoaway: () => undefined,
      onClose: () => undefined,
    });
  });
  const tcp = await connectTcp(reactor, { address: '127.0.0.1', port: bound.port });
  const events = { onGoaway: () => undefined, onClose: () => undefined };
  const client = connectHttp2(reactor, tcp, HTTP2_OPTIONS, events);
  const connect = [
    [':method', 'CONNECT'],
    [':authority', 'a:1'],
  ] as const;
  return client.request(connect, false, noEvents);
}

/** A relay to `port` on loopback, each connection observed; in a tunnel, at its far end. */
export function observeAt(reactor: Reactor, port: number, path: 'plain' | 'tunnelled'): Observed {
  const bound = openTcpListener({ address: '127.0.0.1', port: 0 });
  const budget = new ObserveBudget(1, 60_000, performance.now());
  const watchAs =
    (exchanges: HttpExchange[], ends: ObserveEnd[]): Watch =>
    (downstream, upstream, done) => {
      const observer = new HttpObserver(
        {
          now: () => performance.now(),
          onExchange: (exchange) => void exchanges.push(exchange),
          onEnd: (end) => void ends.push(end),
        },
        budget,
      );
      startRelay(downstream, upstream, counters, done, observer);
    };
  const seen: Observed = {
    port: bound.port,
    exchanges: [],
    ends: [],
    near: [],
    done: 0,
    told: () =>
      seen.exchanges
        .map(({ method, status, grpcStatus }) => `${method} ${status} ${grpcStatus ?? '-'}`)
        .sort(),
    close: () => listener.close(),
  };
  const finish = (): void => {
    seen.done++;
  };
  const here = watchAs(seen.exchanges, seen.ends);
  const listener = new TcpListener(reactor, bound.fd, (downstream) => {
    if (path === 'plain') {
      void connectTcp(reactor, { address: '127.0.0.1', port }).then((upstream) =>
        here(downstream, upstream, finish),
      );
      return;
    }
    const far: Watch = (from, to, done) =>
      here(from, to, () => {
        done();
        finish();
      });
    void openTunnel(reactor, port, far).then((upstream) =>
      watchAs(seen.near, [])(downstream, upstream, () => undefined),
    );
  });
  return seen;
}

/** Listens on loopback; the port. */
export async function listening(server: net.Server): Promise<number> {
  server.listen(0, '127.0.0.1');
  await once(server, 'listening');
  return (server.address() as net.AddressInfo).port;
}

export const sha256 = (bytes: Buffer): string => createHash('sha256').update(bytes).digest('hex');

/** Everything until the end. */
export async function bodyOf(stream: AsyncIterable<Buffer>): Promise<Buffer> {
  const parts: Buffer[] = [];
  for await (const part of stream) parts.push(part);
  return Buffer.concat(parts);
}
