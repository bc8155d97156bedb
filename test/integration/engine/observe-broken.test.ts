// What cannot be followed passes all the same: garbage, heads without end and broken HPACK reach the other side as they were
// sent, at once and byte for byte, and the connection goes on in both directions.
import assert from 'node:assert/strict';
import { randomBytes } from 'node:crypto';
import { once } from 'node:events';
import net from 'node:net';
import { after, describe, it } from 'node:test';
import { mirrorSessionCount } from '../../../engine/observe/mirror-session.ts';
import type { ObserveEnd } from '../../../engine/observe/types.ts';
import { nativeQueueCount } from '../../../engine/reactor/bytes.ts';
import { listening, observeAt, sha256 } from './observed-relay.ts';
import { startReactor, until } from './support.ts';

const reactor = startReactor();
after(() => {
  reactor.close();
  assert.equal(mirrorSessionCount(), 0);
  assert.equal(nativeQueueCount(), 0);
});

/** Both ends of one connection, and what arrived at each. */
interface Ends {
  readonly client: net.Socket;
  readonly server: net.Socket;
  readonly atClient: Buffer[];
  readonly atServer: Buffer[];
}

const collected = (socket: net.Socket): Buffer[] => {
  const parts: Buffer[] = [];
  socket.on('data', (part: Buffer) => parts.push(part));
  return parts;
};

const lengthOf = (parts: readonly Buffer[]): number =>
  parts.reduce((sum, { length }) => sum + length, 0);

const PREFACE = Buffer.from('PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n');
const REQUEST = Buffer.from('GET / HTTP/1.1\r\nHost: a\r\n\r\n');
const MEGABYTE = 1 << 20;

/** A frame of HTTP/2 (RFC 9113 4.1). */
function frame(type: number, flags: number, stream: number, payload: Buffer): Buffer {
  const head = Buffer.alloc(9);
  head.writeUIntBE(payload.length, 0, 3);
  head.writeUInt8(type, 3);
  head.writeUInt8(flags, 4);
  head.writeUInt32BE(stream, 5);
  return Buffer.concat([head, payload]);
}

const SETTINGS = frame(4, 0, 0, Buffer.alloc(0));
const HEADERS = 1;
const CONTINUATION = 9;
const END_HEADERS = 4;
const hpack = (...bytes: number[]): Buffer =>
  Buffer.concat([PREFACE, SETTINGS, frame(HEADERS, END_HEADERS, 1, Buffer.from(bytes))]);

/** What each side says, and the word for why nobody looks any more. */
const CASES: ReadonlyArray<readonly [string, ObserveEnd, Buffer, Buffer]> = [
  ['noise from both', 'not_http', randomBytes(5000).fill(0x80, 0, 1), randomBytes(5000)],
  [
    'a request, then noise',
    'parse_error',
    Buffer.concat([REQUEST, randomBytes(99).fill(0, 0, 9)]),
    Buffer.alloc(0),
  ],
  ['an answer of noise', 'parse_error', REQUEST, randomBytes(5000).fill(0xff, 0, 9)],
  [
    'a head of a megabyte',
    'limit',
    Buffer.from(`GET / HTTP/1.1\r\nX: ${'y'.repeat(MEGABYTE)}`),
    Buffer.alloc(0),
  ],
  ['a path of a megabyte', 'limit', Buffer.from(`GET /${'y'.repeat(MEGABYTE)}`), Buffer.alloc(0)],
  [
    'an answer with a head of a megabyte',
    'limit',
    REQUEST,
    Buffer.from(`HTTP/1.1 200 OK\r\nX: ${'y'.repeat(MEGABYTE)}`),
  ],
  [
    'fields without end',
    'limit',
    Buffer.from(`GET / HTTP/1.1\r\n${'a: b\r\n'.repeat(20_000)}`),
    Buffer.alloc(0),
  ],
  [
    'two lengths that differ',
    'parse_error',
    Buffer.from('POST / HTTP/1.1\r\nContent-Length: 5\r\nContent-Length: 6\r\n\r\nhello'),
    Buffer.alloc(0),
  ],
  ['HPACK: an index beyond the table', 'parse_error', hpack(0xff, 0xff, 0xff, 0x7f), SETTINGS],
  ['HPACK: a number without end', 'parse_error', hpack(...Array<number>(20).fill(0xff)), SETTINGS],
  ['HPACK: a string longer than its frame', 'parse_error', hpack(0x40, 0x7f, 0x01), SETTINGS],
  [
    'HPACK: broken Huffman code',
    'parse_error',
    hpack(0x40, 0x84, 0xff, 0xff, 0xff, 0xff),
    SETTINGS,
  ],
  [
    'a header block without end',
    'limit',
    Buffer.concat([
      PREFACE,
      SETTINGS,
      frame(HEADERS, 0, 1, Buffer.alloc(16_000, Buffer.from([0x00, 0x01, 0x61, 0x01, 0x62]))),
      ...Array.from({ length: 60 }, () =>
        frame(
          CONTINUATION,
          0,
          1,
          Buffer.alloc(16_000, Buffer.from([0x00, 0x01, 0x61, 0x01, 0x62])),
        ),
      ),
    ]),
    SETTINGS,
  ],
  [
    'a frame of 16 MB',
    'parse_error',
    Buffer.concat([
      PREFACE,
      SETTINGS,
      Buffer.from([0xff, 0xff, 0xff, 1, 4, 0, 0, 0, 1]),
      randomBytes(9999),
    ]),
    SETTINGS,
  ],
  [
    'a stream of the wrong side',
    'parse_error',
    Buffer.concat([PREFACE, SETTINGS, frame(HEADERS, END_HEADERS, 2, Buffer.from([0x82]))]),
    SETTINGS,
  ],
  [
    'an HTTP/2 preface, then noise from both',
    'parse_error',
    Buffer.concat([PREFACE, Buffer.from([0, 0, 4, HEADERS]), randomBytes(40_000).fill(0xee, 0, 9)]),
    randomBytes(40_000),
  ],
];

for (const path of ['plain', 'tunnelled'] as const) {
  describe(`what cannot be followed passes, ${path}`, () => {
    /** Runs `talk` over one observed connection; how looking ended. */
    async function overOne(talk: (ends: Ends) => Promise<void>): Promise<readonly ObserveEnd[]> {
      const accepted: net.Socket[] = [];
      const upstream = net.createServer({ allowHalfOpen: true }, (socket) => accepted.push(socket));
      const seen = observeAt(reactor, await listening(upstream), path);
      const client = net.connect({ port: seen.port, host: '127.0.0.1', allowHalfOpen: true });
      await once(client, 'connect');
      await until(() => accepted.length === 1, 'the connection');
      const [server] = accepted;
      assert.ok(server);
      await talk({ client, server, atClient: collected(client), atServer: collected(server) });
      client.end();
      server.end();
      await until(() => seen.done === 1, 'the relay ends');
      seen.close();
      upstream.close();
      return seen.ends;
    }

    for (const [name, end, said, answered] of CASES) {
      it(`${name}: ${end}, and nothing is missing`, async () => {
        const ends = await overOne(async ({ client, server, atClient, atServer }) => {
          client.write(said);
          await until(() => lengthOf(atServer) === said.length, 'what the client said');
          server.write(answered);
          await until(() => lengthOf(atClient) === answered.length, 'what the server said');
          const [up, down] = [randomBytes(3 * MEGABYTE), randomBytes(3 * MEGABYTE)];
          client.write(up);
          server.write(down);
          await until(() => lengthOf(atServer) === said.length + up.length, 'more of the client');
          await until(
            () => lengthOf(atClient) === answered.length + down.length,
            'more of the server',
          );
          assert.equal(sha256(Buffer.concat(atServer)), sha256(Buffer.concat([said, up])));
          assert.equal(sha256(Buffer.concat(atClient)), sha256(Buffer.concat([answered, down])));
        });
        assert.deepEqual(ends, [end]);
      });
    }

    for (const [name, said] of [
      ['a head of HTTP/1', Buffer.concat([REQUEST.subarray(0, -2), Buffer.from('X: y')])],
      ['a preface and a head of HTTP/2', hpack(0x82, 0x84, 0x86, 0x40, 0x0a).subarray(0, -2)],
      ['noise', Buffer.from('\u0001\u0002\u0003\u0004\u0005')],
    ] as const) {
      it(`${name} that stops halfway waits for nothing: each byte arrives before the next is sent`, async () => {
        await overOne(async ({ client, atServer }) => {
          client.setNoDelay();
          for (let at = 0; at < said.length; at++) {
            client.write(said.subarray(at, at + 1));
            await until(() => lengthOf(atServer) === at + 1, `byte ${at}`);
          }
          assert.deepEqual(Buffer.concat(atServer), said);
        });
      });
    }
  });
}
