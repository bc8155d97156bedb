// Windows and DATA of tunnels against a peer that writes its frames by hand: what RFC 9113 sections 5.2, 6.1 and 6.9 ask of a
// receiver and of a sender, and what a peer may not do.
import assert from 'node:assert/strict';
import { once } from 'node:events';
import net from 'node:net';
import { after, afterEach, describe, it } from 'node:test';
import { serveHttp2 } from '../../../engine/http2/http2-session.ts';
import { OwnedSession } from '../../../engine/http2/owned-session.ts';
import type { Http2Session, Http2Stream } from '../../../engine/http2/types.ts';
import type { CloseReason } from '../../../engine/reactor/duplex.ts';
import { startRelay } from '../../../engine/reactor/relay.ts';
import { connectTcp } from '../../../engine/reactor/tcp-connect.ts';
import { openTcpListener } from '../../../engine/reactor/socket-options.ts';
import { TcpListener } from '../../../engine/reactor/tcp-listener.ts';
import {
  CONTINUATION,
  DATA,
  END_HEADERS,
  END_STREAM,
  GOAWAY,
  HEADERS,
  PREFACE,
  RST_STREAM,
  SETTINGS,
  WINDOW_UPDATE,
  connectBlock,
  frame,
  paddedData,
  readFrames,
  setting,
  windowUpdate,
  type Frame,
} from '../../support/http2-frames.ts';
import { collect, startReactor, until, type Collected } from './support.ts';

const reactor = startReactor();
after(() => reactor.close());

const STREAM_WINDOW = 100_000;
const CONNECTION_WINDOW = 150_000;
const INITIAL_WINDOW_SIZE = 4;
const FLOW_CONTROL_ERROR = 3;
const PROTOCOL_ERROR = 1;
const OPTIONS = {
  settings: { initialWindowSize: STREAM_WINDOW, connectionWindowSize: CONNECTION_WINDOW },
  pingIntervalMs: 0,
  pingTimeoutMs: 0,
};
const CONNECT = connectBlock('10.0.0.1:80');
const PIECE = Buffer.alloc(16_000, 0x61);

interface Tunnel {
  readonly stream: Http2Stream;
  readonly collected: Collected;
}

/** A server of ours and a peer on a plain socket. */
class Pair {
  readonly tunnels: Tunnel[] = [];
  readonly frames: Frame[] = [];
  session: Http2Session | undefined;
  reason: CloseReason | undefined;
  readonly #listener: TcpListener;
  readonly #port: number;
  #socket: net.Socket | undefined;
  /** Streams are read only after `resume`. */
  isPaused = false;

  constructor() {
    const bound = openTcpListener({ address: '127.0.0.1', port: 0 });
    this.#port = bound.port;
    this.#listener = new TcpListener(reactor, bound.fd, (tcp) => {
      this.session = serveHttp2(reactor, tcp, OPTIONS, {
        onStream: (stream) => {
          stream.respond([[':status', '200']], false);
          const collected = collect(stream);
          if (this.isPaused) stream.pause();
          this.tunnels.push({ stream, collected });
          return undefined;
        },
        onGoaway: () => undefined,
        onClose: (reason) => (this.reason = reason),
      });
    });
  }

  /** Connects, and opens tunnels 1, 3, ... */
  async open(settings: Buffer, count = 1): Promise<void> {
    const socket = net.connect(this.#port, '127.0.0.1');
    this.#socket = socket;
    await once(socket, 'connect');
    socket.on('error', () => undefined);
    readFrames(socket, (one) => void this.frames.push(one));
    this.send(PREFACE, settings);
    for (let i = 0; i < count; i++) this.send(frame(HEADERS, END_HEADERS, 2 * i + 1, CONNECT));
    await until(() => this.tunnels.length === count, 'tunnels open');
  }

  send(...bytes: readonly Uint8Array[]): void {
    this.#socket?.write(Buffer.concat(bytes));
  }

  tunnel(index = 0): Tunnel {
    const tunnel = this.tunnels[index];
    assert.ok(tunnel);
    return tunnel;
  }

  of(type: number, stream: number): Frame[] {
    return this.frames.filter((one) => one.type === type && one.stream === stream);
  }

  /** What was given back to the peer's window, beyond what the session began with. */
  opened(stream: number): number {
    const initial = stream === 0 ? CONNECTION_WINDOW - 65_535 : 0;
    const sum = this.of(WINDOW_UPDATE, stream).reduce(
      (n, one) => n + one.payload.readUInt32BE(),
      0,
    );
    return sum - initial;
  }

  async expectGoaway(errorCode: number): Promise<void> {
    await until(() => this.of(GOAWAY, 0).length > 0, 'GOAWAY');
    assert.equal(this.of(GOAWAY, 0)[0]?.payload.readUInt32BE(4), errorCode);
    await until(() => this.reason !== undefined, 'the session ends');
    assert.equal(this.reason?.code, 'protocol');
  }

  close(): void {
    this.#socket?.destroy();
    this.session?.close('test ends');
    this.#listener.close();
  }
}

let pair = new Pair();
afterEach(() => {
  pair.close();
  pair = new Pair();
});
after(() => pair.close());

const NO_SETTINGS = frame(SETTINGS, 0, 0);

describe('receiving', () => {
  it('gives back what was taken, of the stream and of the connection', async () => {
    await pair.open(NO_SETTINGS);
    for (let i = 0; i < 40; i++) {
      pair.send(frame(DATA, 0, 1, PIECE));
      const sent = (i + 1) * PIECE.length;
      await until(() => pair.tunnel().collected.bytes === sent, 'all came');
      await until(() => sent - pair.opened(1) < STREAM_WINDOW, 'the stream opens');
      await until(() => sent - pair.opened(0) < CONNECTION_WINDOW, 'the connection opens');
      assert.ok(pair.opened(1) <= sent && pair.opened(0) <= sent, 'no more than was taken');
    }
  });

  it('gives nothing back while nobody reads', async () => {
    pair.isPaused = true;
    await pair.open(NO_SETTINGS);
    for (let i = 0; i < 6; i++) pair.send(frame(DATA, 0, 1, PIECE));
    pair.send(frame(SETTINGS, 0, 0));
    await until(() => pair.of(SETTINGS, 0).filter(({ flags }) => flags === 1).length === 2, 'ack');
    assert.equal(pair.opened(1) + pair.opened(0), 0);
    pair.tunnel().stream.resume();
    await until(() => pair.opened(1) === 6 * PIECE.length, 'all is given back');
  });

  it('a tunnel that nobody reads takes its part of the connection, and the rest is given back all the same', async () => {
    await pair.open(NO_SETTINGS, 2);
    pair.tunnel(0).stream.pause();
    for (let i = 0; i < 6; i++) pair.send(frame(DATA, 0, 1, PIECE));
    const stalled = 6 * PIECE.length;
    assert.ok(stalled > CONNECTION_WINDOW / 2, 'more than half of the connection');
    for (let sent = PIECE.length; sent < 1_000_000; sent += PIECE.length) {
      pair.send(frame(DATA, 0, 3, PIECE));
      await until(() => pair.tunnel(1).collected.bytes === sent, 'all came');
      const left = (): number => CONNECTION_WINDOW + pair.opened(0) - stalled - sent;
      await until(() => left() >= PIECE.length, 'the connection opens');
    }
    assert.equal(pair.tunnel(0).collected.bytes, 0);
  });

  it('what was taken is given back when nobody reads what comes after it', async () => {
    await pair.open(NO_SETTINGS, 2);
    pair.tunnel(0).stream.pause();
    // Not as much as the peer has left: nothing is due yet.
    const taken = 3 * PIECE.length;
    for (let i = 0; i < 3; i++) pair.send(frame(DATA, 0, 3, PIECE));
    await until(() => pair.tunnel(1).collected.bytes === taken, 'all came');
    assert.equal(pair.opened(0), 0);
    for (let i = 0; i < 6; i++) pair.send(frame(DATA, 0, 1, PIECE));
    await until(() => pair.opened(0) === taken, 'the connection opens');
    assert.equal(pair.tunnel(0).collected.bytes, 0);
  });

  it('more than the window of a stream ends the session', async () => {
    pair.isPaused = true;
    await pair.open(NO_SETTINGS);
    for (let i = 0; i < 7; i++) pair.send(frame(DATA, 0, 1, PIECE));
    await pair.expectGoaway(FLOW_CONTROL_ERROR);
  });

  it('more than the window of the connection ends the session', async () => {
    pair.isPaused = true;
    await pair.open(NO_SETTINGS, 2);
    for (let i = 0; i < 5; i++) pair.send(frame(DATA, 0, 1, PIECE), frame(DATA, 0, 3, PIECE));
    await pair.expectGoaway(FLOW_CONTROL_ERROR);
  });

  it('what a tunnel that was reset sends still opens the connection for others', async () => {
    await pair.open(NO_SETTINGS, 2);
    pair.tunnel().stream.reset();
    await until(() => pair.of(RST_STREAM, 1).length === 1, 'the reset');
    for (let i = 0; i < 6; i++) pair.send(frame(DATA, 0, 1, PIECE));
    pair.send(frame(DATA, 0, 3, PIECE), frame(DATA, 0, 3, PIECE), frame(DATA, 0, 3, PIECE));
    await until(() => pair.tunnel(1).collected.bytes === 3 * PIECE.length, 'the other goes on');
    await until(() => pair.opened(0) > 0, 'the connection opens');
  });

  it('padding is dropped, and counts against the windows', async () => {
    await pair.open(NO_SETTINGS);
    let sent = 0;
    for (let i = 0; i < 100; i++) {
      const piece = paddedData(1, PIECE.subarray(0, i * 10), i % 256);
      sent += piece.length - 9;
      pair.send(piece);
    }
    const bytes = (99 * 100 * 10) / 2;
    await until(() => pair.tunnel().collected.bytes === bytes, 'the bytes come');
    pair.send(frame(DATA, 0, 1, PIECE), frame(DATA, 0, 1, PIECE), frame(DATA, 0, 1, PIECE));
    sent += 3 * PIECE.length;
    await until(() => sent - pair.opened(1) <= STREAM_WINDOW / 2, 'padding is given back');
  });

  it('padding longer than its frame ends the session', async () => {
    await pair.open(NO_SETTINGS);
    pair.send(frame(DATA, 8, 1, Buffer.from([5, 1, 2])));
    await pair.expectGoaway(PROTOCOL_ERROR);
  });

  it('DATA between HEADERS and CONTINUATION ends the session', async () => {
    await pair.open(NO_SETTINGS);
    pair.send(frame(HEADERS, 0, 3, CONNECT), frame(DATA, 0, 1, PIECE));
    pair.send(frame(CONTINUATION, END_HEADERS, 3));
    await pair.expectGoaway(PROTOCOL_ERROR);
    assert.equal(pair.tunnel().collected.bytes, 0);
  });

  it('DATA after END_STREAM is refused, of a stream that never was ends the session', async () => {
    await pair.open(NO_SETTINGS);
    pair.send(frame(DATA, END_STREAM, 1, PIECE));
    await pair.tunnel().collected.end;
    pair.send(frame(DATA, 0, 1, PIECE));
    await until(() => pair.of(RST_STREAM, 1).length + pair.of(GOAWAY, 0).length > 0, 'refused');
    assert.equal(pair.tunnel().collected.bytes, PIECE.length);
    pair.send(frame(DATA, 0, 77, PIECE));
    await until(() => pair.reason !== undefined, 'the session ends');
  });
});

describe('sending', () => {
  it('stays within the windows, and ends with the last bytes', async () => {
    await pair.open(setting(INITIAL_WINDOW_SIZE, 10));
    const { stream, collected } = pair.tunnel();
    stream.writeBytes(Buffer.alloc(25, 0x62));
    stream.end();
    const lengths = (): number[] => pair.of(DATA, 1).map(({ payload }) => payload.length);
    await until(() => lengths().length === 1, 'as much as the window takes');
    pair.send(windowUpdate(1, 10));
    await until(() => lengths().length === 2, 'as much as it takes now');
    pair.send(windowUpdate(1, 100));
    await until(() => lengths().length === 3, 'the rest');
    assert.deepEqual(lengths(), [10, 10, 5]);
    assert.deepEqual(
      pair.of(DATA, 1).map(({ flags }) => flags),
      [0, 0, END_STREAM],
    );
    pair.send(frame(DATA, END_STREAM, 1));
    assert.equal((await collected.closed).code, 'ok');
    assert.equal(pair.session?.activeStreams, 0);
  });

  it('an end needs no window', async () => {
    await pair.open(setting(INITIAL_WINDOW_SIZE, 0));
    const { stream, collected } = pair.tunnel();
    stream.end();
    await until(() => pair.of(DATA, 1).length === 1, 'the end');
    pair.send(frame(DATA, END_STREAM, 1));
    assert.equal((await collected.closed).code, 'ok');
  });

  it('streams that are reset while they wait for a window are not kept', async () => {
    await pair.open(setting(INITIAL_WINDOW_SIZE, 0), 5);
    const { session } = pair;
    assert.ok(session instanceof OwnedSession);
    for (const { stream } of pair.tunnels) stream.writeBytes(PIECE);
    await until(() => session.blockedStreams === 5, 'all wait');
    for (const id of [1, 3, 5, 7]) pair.send(frame(RST_STREAM, 0, id, Buffer.from([0, 0, 0, 8])));
    await until(() => session.activeStreams === 1, 'four are gone');
    assert.equal(session.blockedStreams, 1);
  });

  it('a window that shrinks below zero is waited for', async () => {
    await pair.open(setting(INITIAL_WINDOW_SIZE, 20));
    const { stream } = pair.tunnel();
    stream.writeBytes(Buffer.alloc(30));
    await until(() => pair.of(DATA, 1).length === 1, 'the first 20');
    pair.send(setting(INITIAL_WINDOW_SIZE, 5), windowUpdate(1, 16));
    await until(() => pair.of(DATA, 1).length === 2, 'one more: 20 - 15 + 16 - 20');
    assert.equal(pair.of(DATA, 1)[1]?.payload.length, 1);
    pair.send(setting(INITIAL_WINDOW_SIZE, 100));
    await until(() => pair.of(DATA, 1).length === 3, 'the rest');
    assert.equal(pair.of(DATA, 1)[2]?.payload.length, 9);
  });

  it('the window of the connection holds for all streams', async () => {
    await pair.open(setting(INITIAL_WINDOW_SIZE, 1 << 20), 2);
    for (const { stream } of pair.tunnels) stream.writeBytes(Buffer.alloc(60_000));
    const sum = (): number =>
      [1, 3].flatMap((id) => pair.of(DATA, id)).reduce((n, { payload }) => n + payload.length, 0);
    await until(() => sum() === 65_535, 'the default window');
    pair.send(windowUpdate(0, 60_000));
    await until(() => sum() === 120_000, 'the rest');
  });

  it('a stream whose window grows too wide is reset, others go on', async () => {
    await pair.open(NO_SETTINGS, 2);
    pair.send(windowUpdate(1, 0x7fff_ffff));
    await until(() => pair.of(RST_STREAM, 1).length === 1, 'the reset');
    assert.equal(pair.of(RST_STREAM, 1)[0]?.payload.readUInt32BE(), FLOW_CONTROL_ERROR);
    pair.send(frame(DATA, 0, 3, PIECE));
    await until(() => pair.tunnel(1).collected.bytes === PIECE.length, 'the other goes on');
  });

  it('what such a stream has brought before still reaches the socket it is joined to', async () => {
    await pair.open(NO_SETTINGS);
    const app = net.createServer((socket) => void socket.on('error', () => undefined).resume());
    app.listen(0, '127.0.0.1');
    await once(app, 'listening');
    const { port } = app.address() as net.AddressInfo;
    const socket = await connectTcp(reactor, { address: '127.0.0.1', port });
    let forward = 0;
    const counters = { addForward: (n: number) => (forward += n), addBackward: () => undefined };
    const ended = new Promise<void>((resolve) => {
      startRelay(pair.tunnel().stream, socket, counters, () => resolve());
    });
    pair.send(frame(DATA, 0, 1, PIECE), windowUpdate(1, 0x7fff_ffff));
    await ended;
    app.close();
    assert.equal(forward, PIECE.length);
  });

  it('a connection whose window grows too wide ends', async () => {
    await pair.open(NO_SETTINGS);
    pair.send(windowUpdate(0, 0x7fff_ffff));
    await pair.expectGoaway(FLOW_CONTROL_ERROR);
  });

  for (const [what, id] of [
    ['stream', 1],
    ['connection', 0],
  ] as const) {
    it(`an increment of none for the ${what} ends the session`, async () => {
      await pair.open(NO_SETTINGS);
      pair.send(windowUpdate(id, 0));
      await pair.expectGoaway(PROTOCOL_ERROR);
    });
  }
});
