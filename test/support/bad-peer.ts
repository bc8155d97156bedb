// A peer that misbehaves on an HBONE port, in one of several ways, and says what it saw of the answer. A program
// (ACT HOST PORT AUTHORITY, with CERT and KEY in the environment) for pods' namespaces, functions for loopback.
import { once } from 'node:events';
import { connect as connectHttp2 } from 'node:http2';
import type { ClientHttp2Session, ClientHttp2Stream } from 'node:http2';
import { connect as connectTcp } from 'node:net';
import type { Socket } from 'node:net';
import { connect as connectTls } from 'node:tls';
import type { PeerTls } from './bad-certificates.ts';
import {
  DATA,
  END_HEADERS,
  END_STREAM,
  GOAWAY,
  HEADERS,
  PREFACE,
  RST_STREAM,
  SETTINGS,
  connectBlock,
  frame,
  readFrames,
  uint32,
} from './http2-frames.ts';

/** Where and as whom; `authority` is one that is served. */
export interface Victim {
  readonly host: string;
  readonly port: number;
  readonly tls: PeerTls;
  readonly authority: string;
}

const A_LINE = Buffer.from('a line\n');
// Begins a ClientHello of 506 bytes.
const HALF_HELLO = Buffer.from('16030101fa010001f60303', 'hex');
const LARGE_HEADER = 'x'.repeat(70_000);
/** All that a peer may say of itself, for somebody else: the client of the tests at 10.77.0.1. */
const FORGED_HEADERS = {
  baggage: 'k8s.namespace.name=default,k8s.deployment.name=client,service.name=client',
  forwarded: 'for=10.77.0.1;host="10.77.0.4:8080"',
  'x-forwarded-for': '10.77.0.1',
  'x-forwarded-client-cert': 'URI=spiffe://cluster.local/ns/default/sa/client',
  'x-istio-source': 'client',
};
const EMPTY_SETTINGS = frame(SETTINGS, 0, 0);
const INTERNAL_ERROR = uint32(2);
const HPACK_STATUS_200 = 0x88;
const HPACK_PATH_ROOT = 0x84;

/** What can be done; resolves when the connection, or what is of interest on it, has ended. */
export const ACTS = {
  /** A tunnel with the given certificate: its status, or `ended`. */
  tunnel: async (victim) => {
    const { session } = openSession(victim);
    const status = await statusOf(session, victim.authority);
    session.destroy();
    return status;
  },
  /** A tunnel that claims to be another's: its status, and what the application answers to a line. */
  forge: async (victim) => {
    const { session } = openSession(victim);
    const stream = session.request({
      ...{ ':method': 'CONNECT', ':authority': victim.authority, ...FORGED_HEADERS },
    });
    stream.on('error', () => undefined);
    let status = 'ended';
    let answer = '';
    stream.on('response', (response) => (status = String(response[':status'])));
    stream.on('data', (chunk: Buffer) => (answer += chunk.toString()));
    stream.end('a line\n');
    await new Promise((resolve) => stream.once('close', resolve));
    session.destroy();
    return `${status} ${answer.trim()}`.trim();
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
  'malformed-request': (victim) =>
    sendFrames(victim, connectFrame(1, victim.authority, [HPACK_PATH_ROOT])),
  /** A DATA frame that belongs to no stream. */
  'broken-http2': (victim) => sendFrames(victim, frame(DATA, 0, 0, A_LINE)),
  /** An open tunnel, in use, whose connection is reset. */
  'reset-connection': async (victim) => {
    const { session, socket } = openSession(victim);
    const stream = await openStream(session, victim.authority);
    stream.on('error', () => undefined);
    socket.resetAndDestroy();
    return 'reset';
  },
  /** An open tunnel, in use, whose stream is reset; then a good one on the same connection. */
  'reset-stream': (victim) => {
    const request = (id: number): Buffer => connectFrame(id, victim.authority);
    // By hand: Node ends a stream in order before it resets it, if there is time.
    const { secure } = openTls(victim);
    secure.write(Buffer.concat([PREFACE, EMPTY_SETTINGS, request(1), frame(DATA, 0, 1, A_LINE)]));
    return new Promise((resolve) => {
      readFrames(secure, ({ type, stream, flags, payload }) => {
        if (type === DATA && stream === 1 && payload.length > 0) {
          secure.write(Buffer.concat([frame(RST_STREAM, 0, 1, INTERNAL_ERROR), request(3)]));
        }
        if (type === HEADERS && stream === 3 && payload[0] === HPACK_STATUS_200) {
          secure.write(frame(DATA, END_STREAM, 3));
        }
        if (type === DATA && stream === 3 && (flags & END_STREAM) !== 0) {
          resolve('200');
          secure.end();
        }
      });
      void ended(secure).then(resolve);
    });
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

/** HEADERS of a CONNECT; `path` makes it malformed. */
function connectFrame(stream: number, authority: string, path: readonly number[] = []): Buffer {
  return frame(HEADERS, END_HEADERS, stream, connectBlock(authority, path));
}

/** Sends bytes after the preface; `reset` or `goaway` is the answer, or `ended`. */
function sendFrames(victim: Victim, bytes: Buffer): Promise<string> {
  const { secure } = openTls(victim);
  secure.write(Buffer.concat([PREFACE, EMPTY_SETTINGS, bytes]));
  return new Promise((resolve) => {
    readFrames(secure, ({ type }) => {
      if (type !== RST_STREAM && type !== GOAWAY) return;
      resolve(type === GOAWAY ? 'goaway' : 'reset');
      secure.end();
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
