// A session whose transport asks it to wait in the middle of a stream's frames: what comes for the stream meanwhile, bytes or
// its end, goes out when the transport has room again.
import assert from 'node:assert/strict';
import { after, describe, it } from 'node:test';
import { connectHttp2, serveHttp2 } from '../../../engine/http2/http2-session.ts';
import type { Http2Stream } from '../../../engine/http2/types.ts';
import type { Duplex } from '../../../engine/reactor/duplex.ts';
import { openTcpListener } from '../../../engine/reactor/socket-options.ts';
import { connectTcp } from '../../../engine/reactor/tcp-connect.ts';
import { TcpListener } from '../../../engine/reactor/tcp-listener.ts';
import { collect, startReactor, until, type Collected } from './support.ts';

const reactor = startReactor();
after(() => reactor.close());

const OPTIONS = {
  settings: { initialWindowSize: 1 << 20, connectionWindowSize: 4 << 20 },
  pingIntervalMs: 0,
  pingTimeoutMs: 0,
};
const NO_EVENTS = { onHeaders: () => undefined, onTrailers: () => undefined };
const BLOCK = 128 * 1024;

/** A transport that takes everything and, once told, asks to wait until `release`. */
class Gate implements Duplex {
  isShut = false;
  hasAskedToWait = false;
  readonly #inner: Duplex;

  constructor(inner: Duplex) {
    this.#inner = inner;
  }

  get handler(): Duplex['handler'] {
    return this.#inner.handler;
  }

  set handler(handler: Duplex['handler']) {
    this.#inner.handler = handler;
  }

  get isClosed(): boolean {
    return this.#inner.isClosed;
  }

  write(address: number, length: number): boolean {
    const hasRoom = this.#inner.write(address, length);
    this.hasAskedToWait ||= this.isShut;
    return hasRoom && !this.isShut;
  }

  writeBytes(bytes: Uint8Array): boolean {
    return this.#inner.writeBytes(bytes) && !this.isShut;
  }

  release(): void {
    this.isShut = false;
    this.#inner.handler.onDrain();
  }

  end(): void {
    this.#inner.end();
  }

  reset(): void {
    this.#inner.reset();
  }

  pause(): void {
    this.#inner.pause();
  }

  resume(): void {
    this.#inner.resume();
  }
}

/** A client's stream whose transport is a gate, and what the server receives of it. */
async function open(): Promise<{
  gate: Gate;
  stream: Http2Stream;
  received: Collected;
  close: () => void;
}> {
  let received: Collected | undefined;
  const bound = openTcpListener({ address: '127.0.0.1', port: 0 });
  const listener = new TcpListener(reactor, bound.fd, (tcp) => {
    serveHttp2(reactor, tcp, OPTIONS, {
      onStream: (stream) => {
        received = collect(stream);
        stream.respond([[':status', '200']], false);
        return NO_EVENTS;
      },
      onGoaway: () => undefined,
      onClose: () => undefined,
    });
  });
  const gate = new Gate(await connectTcp(reactor, { address: '127.0.0.1', port: bound.port }));
  const client = connectHttp2(reactor, gate, OPTIONS, {
    onGoaway: () => undefined,
    onClose: () => undefined,
  });
  let isAnswered = false;
  const request = [
    [':method', 'CONNECT'],
    [':authority', 'a:1'],
  ] as const;
  const stream = client.request(request, false, {
    ...NO_EVENTS,
    onHeaders: () => {
      isAnswered = true;
    },
  });
  await until(() => isAnswered && received !== undefined, 'the stream is open');
  assert.ok(received);
  return {
    gate,
    stream,
    received,
    close: () => {
      client.close('test is over');
      listener.close();
    },
  };
}

describe('a blocked transport', () => {
  for (const [name, meanwhile, extra] of [
    ['bytes', (stream: Http2Stream) => void stream.writeBytes(Buffer.alloc(10, 'x')), 10],
    ['the end', (stream: Http2Stream) => stream.end(), 0],
  ] as const) {
    it(`does not lose ${name} that came while the last frame waited for room`, async () => {
      const { gate, stream, received, close } = await open();
      gate.isShut = true;
      // A block of frames, and a last one for which there is no room in it.
      stream.writeBytes(Buffer.alloc(BLOCK, 'y'));
      await until(() => gate.hasAskedToWait, 'the transport is full');
      meanwhile(stream);
      gate.release();
      await until(() => received.bytes === BLOCK + extra, 'all bytes arrive', 3000);
      if (extra === 0) await until(() => received.ended, 'the end arrives', 3000);
      close();
    });
  }
});
