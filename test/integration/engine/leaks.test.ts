// Thousands of connections, ended in every way, leave nothing behind: descriptors, TLS and HTTP/2 objects, queues,
// timers, resident memory. LEAK_CONNECTIONS sets the number.
import assert from 'node:assert/strict';
import { readdirSync } from 'node:fs';
import { after, describe, it } from 'node:test';
import { setFlagsFromString } from 'node:v8';
import { runInNewContext } from 'node:vm';
import { HbonePool, isTunnelFailure } from '../../../common/hbone/tunnel-pool.ts';
import { HboneServer } from '../../../common/hbone/tunnel-server.ts';
import { http2SessionCount } from '../../../engine/http2/http2-session.ts';
import { nativeQueueCount } from '../../../engine/reactor/bytes.ts';
import { startRelay } from '../../../engine/reactor/relay.ts';
import { openTcpListener } from '../../../engine/reactor/socket-options.ts';
import { connectTcp } from '../../../engine/reactor/tcp-connect.ts';
import { TcpListener } from '../../../engine/reactor/tcp-listener.ts';
import { tlsConnectionCount } from '../../../engine/tls/tls-connection.ts';
import { TlsContext } from '../../../engine/tls/tls-context.ts';
import { TestAuthority, spiffe } from './certificates.ts';
import { startReactor, until } from './support.ts';

const CONNECTIONS = Number(process.env['LEAK_CONNECTIONS'] ?? 20_000);
const PARALLEL = 50;

setFlagsFromString('--expose-gc');
const collectGarbage = runInNewContext('gc') as (options: {
  type: 'major';
  execution: 'sync';
  flavor: 'last-resort';
}) => void;
const reactor = startReactor();
const authority = new TestAuthority();
const serverContext = TlsContext.server(authority.issue('server', spiffe('server')));
const clientContext = TlsContext.client(authority.issue('client', spiffe('client')));
after(() => {
  serverContext.close();
  clientContext.close();
  authority.remove();
  reactor.close();
});

function listen(onAccept: ConstructorParameters<typeof TcpListener>[2]): {
  port: number;
  close(): void;
} {
  const bound = openTcpListener({ address: '127.0.0.1', port: 0 });
  const listener = new TcpListener(reactor, bound.fd, onAccept);
  return { port: bound.port, close: () => listener.close() };
}

const counters = { addForward: (): void => undefined, addBackward: (): void => undefined };

async function assertReleased(fds: number): Promise<void> {
  await until(() => http2SessionCount() === 0, 'sessions released');
  await until(() => tlsConnectionCount() === 0, 'connections released');
  await until(() => readdirSync('/proc/self/fd').length <= fds, 'descriptors released');
  await until(() => reactor.timers === 0, 'timers released');
  assert.equal(nativeQueueCount(), 0);
}

describe('leaks', () => {
  it(`holds nothing after ${CONNECTIONS} tunnelled connections`, { timeout: 300_000 }, async () => {
    const app = listen((stream) => {
      stream.handler = {
        onData: (at, length) => void stream.write(at, length),
        onEnd: () => stream.end(),
        onDrain: () => undefined,
        onClose: () => undefined,
      };
      stream.resume();
    });
    const hbone = new HboneServer({
      context: () => serverContext,
      onRequest: (request) => {
        void connectTcp(reactor, { address: '127.0.0.1', port: app.port }).then(
          (upstream) => startRelay(request.accept([]), upstream, counters, () => undefined),
          () => request.refuse(503),
        );
      },
    });
    const exit = listen((tcp) => hbone.accept(tcp));
    const fds = readdirSync('/proc/self/fd').length;
    let resident = 0;
    for (let done = 0; done < CONNECTIONS; done += PARALLEL) {
      await Promise.all(Array.from({ length: PARALLEL }, (_, i) => oneTunnel(exit.port, done + i)));
      // By then the heaps have their size: what still grows is lost.
      if (done === CONNECTIONS / 2) resident = residentAfterCollection();
    }
    await assertReleased(fds);
    const grown = residentAfterCollection() - resident;
    // 4 KB for each of the second half; a lost TLS connection is 50 KB and more.
    assert.ok(grown < 40_000_000, `resident memory grew by ${grown}`);
    hbone.close('test ends');
    exit.close();
    app.close();
  });
});

/**
 * Resident bytes of what is held: without what only waits for the collector (on a busy machine it comes late), and
 * without the room V8 keeps for later (it may grow by 64 MB at any time, as the young generation does).
 */
function residentAfterCollection(): number {
  collectGarbage({ type: 'major', execution: 'sync', flavor: 'last-resort' });
  const { rss, heapTotal, heapUsed } = process.memoryUsage();
  return rss - heapTotal + heapUsed;
}

/** A tunnel on a connection of its own, ended in one of five ways. */
async function oneTunnel(port: number, index: number): Promise<void> {
  const pool = new HbonePool(reactor, {
    dial: (target) => connectTcp(reactor, { address: target.address, port: target.port }),
    context: () => clientContext,
  });
  const result = await pool.connect({
    address: '127.0.0.1',
    port,
    authority: '127.0.0.1:1',
    headers: [],
    sourceIdentity: spiffe('client'),
    expectedIdentities: index % 10 === 9 ? [] : [spiffe('server')],
  });
  if (!isTunnelFailure(result)) {
    const { stream } = result;
    const { promise, resolve } = Promise.withResolvers<undefined>();
    stream.handler = {
      onData: () => {
        if (index % 5 === 0) stream.reset();
        else if (index % 5 === 1) pool.close('in the middle');
        else stream.end();
      },
      onEnd: () => stream.end(),
      onDrain: () => undefined,
      onClose: () => resolve(undefined),
    };
    stream.resume();
    stream.writeBytes(Buffer.alloc(1 + (index % 1000) * 37));
    if (index % 5 === 2) stream.end();
    await promise;
  }
  pool.close('done');
}
