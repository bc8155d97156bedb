// A peer that misbehaves on an HBONE port, in one of several ways, and says what it saw of the answer. A program
// (ACT HOST PORT AUTHORITY, with CERT and KEY in the environment) for pods' namespaces, functions for loopback.
import { once } from 'node:events';
import { connect as connectHttp2 } from 'node:http2';
import type { ClientHttp2Session, ClientHttp2Stream } from 'node:http2';
import { connect as connectTcp } from 'node:net';
import type { Socket } from 'node:net';
import { connect as connectTls } from 'node:tls';
import type { PeerTls } from './bad-certificates.ts';

/** Where and as whom; `authority` is one that is served. */
export interface Victim {
  readonly host: string;
  readonly port: number;
  readonly tls: PeerTls;
  readonly authority: string;
}

const PREFACE = Buffer.from('PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n');
const EMPTY_SETTINGS = Buffer.from('000000040000000000', 'hex');
const DATA_ON_STREAM_0 = Buffer.from('00000100000000000061', 'hex');
// Begins a ClientHello of 506 bytes.
const HALF_HELLO = Buffer.from('16030101fa010001f60303', 'hex');
const LARGE_HEADER = 'x'.repeat(70_000);
const FRAME_HEADER_BYTES = 9;
const FRAME_RST_STREAM = 3;
const FRAME_GOAWAY = 7;

/** What can be done; resolves when the connection, or what is of interest on it, has ended. */
export const ACTS = {
  /** A tunnel with the given certificate: its status, or `ended`. */
  tunnel: async (victim) => {
    const { session } = openSession(victim);
    const status = await statusOf(session, victim.authority);
    session.destroy();
    return status;
  },
  garbage: (victim) => sendPlain(victim, Buffer.from('GET / HTTP/1.1\r\nhost: x\r\n\r\n')),
  /** The first bytes of a handshake, and no more, until the other side gives up. */
  stall: (victim) => sendPlain(victim, HALF_HELLO),
  'reset-in-handshake': async (victim) => {
    const socket = connectTcp(victim.port, victim.host);
    await once(socket, 'connect');
    await new Promise((resolve) => socket.write(HALF_HELLO, resolve));
    socket.resetAndDestroy();
    return 'reset';
  },
  /** A request with 70 kB of headers; then a good one on the same connection. */
  'large-headers': async (victim) => {
    const { session } = openSession(victim);
    const large = await statusOf(session, victim.authority, { 'x-large': LARGE_HEADER });
    const next = await statusOf(session, victim.authority);
    session.destroy();
    return `${large} ${next}`;
  },
  /** A CONNECT with a path, which HTTP/2 forbids. */
  'malformed-request': (victim) => sendFrames(victim, connectWithPath(victim.authority)),
  /** A DATA frame that belongs to no stream. */
  'broken-http2': (victim) => sendFrames(victim, DATA_ON_STREAM_0),
  /** An open tunnel, in use, whose connection is reset. */
  'reset-connection': async (victim) => {
    const { session, socket } = openSession(victim);
    const stream = await openStream(session, victim.authority);
    stream.on('error', () => undefined);
    socket.resetAndDestroy();
    return 'reset';
  },
  /** An open tunnel, in use, whose stream is reset; then a good one on the same connection. */
  'reset-stream': async (victim) => {
    const { session } = openSession(victim);
    const stream = await openStream(session, victim.authority);
    stream.on('error', () => undefined);
    stream.close(2);
    const next = await statusOf(session, victim.authority);
    session.destroy();
    return next;
  },
} as const satisfies Record<string, (victim: Victim) => Promise<string>>;

/** Does it. */
export function act(name: string, victim: Victim): Promise<string> {
  const found = Object.entries(ACTS).find(([one]) => one === name);
  if (found === undefined) throw new Error(`no act ${name}`);
  return found[1](victim);
}

/** Until the connection has ended, in whichever way. */
function ended(socket: Socket): Promise<string> {
  socket.on('error', () => undefined);
  socket.resume();
  return new Promise((resolve) => socket.once('close', () => resolve('ended')));
}

function sendPlain({ host, port }: Victim, bytes: Buffer): Promise<string> {
  const socket = connectTcp(port, host, () => socket.write(bytes));
  return ended(socket);
}

function openTls({ host, port, tls }: Victim): { secure: Socket; socket: Socket } {
  const socket = connectTcp(port, host);
  socket.on('error', () => undefined);
  const secure = connectTls({ ...tls, socket, rejectUnauthorized: false, ALPNProtocols: ['h2'] });
  secure.on('error', () => undefined);
  return { secure, socket };
}

function openSession(victim: Victim): { session: ClientHttp2Session; socket: Socket } {
  const { secure, socket } = openTls(victim);
  const session = connectHttp2('https://mesh', {
    createConnection: () => secure,
    maxSendHeaderBlockLength: 10 * LARGE_HEADER.length,
  });
  session.on('error', () => undefined);
  return { session, socket };
}

/** A tunnel that has carried a line in both directions. */
async function openStream(
  session: ClientHttp2Session,
  authority: string,
): Promise<ClientHttp2Stream> {
  const stream = session.request({ ':method': 'CONNECT', ':authority': authority });
  stream.write('a line\n');
  await once(stream, 'data');
  return stream;
}

/** Status of a CONNECT that is then ended in order, or the code of the reset it met, or `ended`. */
function statusOf(
  session: ClientHttp2Session,
  authority: string,
  headers: Readonly<Record<string, string>> = {},
): Promise<string> {
  return new Promise((resolve) => {
    let status: string | undefined;
    const stream = session.request({ ...headers, ':method': 'CONNECT', ':authority': authority });
    stream.on('error', () => undefined);
    stream.on('response', (response) => {
      status = String(response[':status']);
      stream.end();
      stream.resume();
    });
    // A connection that ends closes its streams first, with codes of Node's own.
    stream.on('close', () => {
      setTimeout(() => {
        resolve(
          status ??
            (session.closed || session.destroyed ? 'ended' : `reset ${String(stream.rstCode)}`),
        );
      }, 20);
    });
  });
}

function connectWithPath(authority: string): Buffer {
  // HPACK literals without indexing: names 2 (:method) and 1 (:authority), and entry 4, `:path: /`.
  const block = Buffer.concat([
    Buffer.from([2, 7]),
    Buffer.from('CONNECT'),
    Buffer.from([0x84, 1, authority.length]),
    Buffer.from(authority),
  ]);
  const endHeaders = 4;
  return Buffer.concat([Buffer.from([0, 0, block.length, 1, endHeaders, 0, 0, 0, 1]), block]);
}

/** Sends bytes after the preface; `reset` or `goaway` is the answer, or `ended`. */
function sendFrames(victim: Victim, bytes: Buffer): Promise<string> {
  const { secure } = openTls(victim);
  secure.write(Buffer.concat([PREFACE, EMPTY_SETTINGS, bytes]));
  let received = Buffer.alloc(0);
  return new Promise((resolve) => {
    secure.on('data', (chunk: Buffer) => {
      received = Buffer.concat([received, chunk]);
      while (received.length >= FRAME_HEADER_BYTES) {
        const length = FRAME_HEADER_BYTES + received.readUIntBE(0, 3);
        if (received.length < length) return;
        const type = received[3];
        received = received.subarray(length);
        if (type === FRAME_RST_STREAM) resolve('reset');
        if (type === FRAME_GOAWAY) resolve('goaway');
        if (type === FRAME_RST_STREAM || type === FRAME_GOAWAY) secure.end();
      }
    });
    void ended(secure).then(resolve);
  });
}

if (process.argv[1] === import.meta.filename) {
  const [name = '', host = '', port = '0', authority = ''] = process.argv.slice(2);
  const tls = { cert: process.env['CERT'] ?? '', key: process.env['KEY'] ?? '' };
  const seen = await act(name, { host, port: Number(port), tls, authority });
  process.stdout.write(`${seen}\n`, () => process.exit(0));
}
