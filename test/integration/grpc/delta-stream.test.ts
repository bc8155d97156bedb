// The delta stream of a proxy against a bare HTTP/2 server: how its ends are told apart, how long it waits, how much it takes.
import assert from 'node:assert/strict';
import { once } from 'node:events';
import { createServer } from 'node:http2';
import type { Http2Session, ServerHttp2Stream } from 'node:http2';
import { connect, createServer as createTcpServer } from 'node:net';
import type { AddressInfo, Server, Socket } from 'node:net';
import { after, describe, it } from 'node:test';
import { create, toBinary } from '@bufbuild/protobuf';
import { deltaStreamOpener } from '../../../common/grpc/delta-stream.ts';
import type { StreamEnd } from '../../../common/xds/delta-client.ts';
import { DeltaDiscoveryResponseSchema } from '../../../common/xds/gen/discovery_pb.ts';

const MIB = 1 << 20;
const closers: (() => void)[] = [];
after(() => closers.forEach((close) => close()));

const portOf = (server: Pick<Server, 'address'>): number => (server.address() as AddressInfo).port;

/** A gRPC message: its prefix, and as much of its body as is given. */
function grpcMessage(body: Uint8Array, length = body.length): Buffer {
  const prefix = Buffer.alloc(5);
  prefix.writeUInt32BE(length, 1);
  return Buffer.concat([prefix, body]);
}

/** A server that answers each stream as the test says. */
async function serve(
  answer: (stream: ServerHttp2Stream, session: Http2Session) => void,
): Promise<{ readonly port: number; readonly sessions: Http2Session[] }> {
  const server = createServer();
  const sessions: Http2Session[] = [];
  server.on('session', (session) => sessions.push(session));
  server.on('stream', (stream) => {
    stream.on('error', () => undefined);
    if (stream.session !== undefined) answer(stream, stream.session);
  });
  server.listen(0, '127.0.0.1');
  await once(server, 'listening');
  closers.push(() => {
    sessions.forEach((session) => session.destroy());
    server.close();
  });
  return { port: portOf(server), sessions };
}

const HEADERS = { ':status': 200, 'content-type': 'application/grpc' } as const;

/** Answers with headers, then this status in trailers. */
const endWith =
  (code: number, message: string) =>
  (stream: ServerHttp2Stream): void => {
    stream.respond(HEADERS, { waitForTrailers: true });
    stream.on('wantTrailers', () =>
      stream.sendTrailers({ 'grpc-status': code, 'grpc-message': message }),
    );
    stream.end();
  };

interface Opened {
  readonly ended: Promise<StreamEnd>;
  readonly bytes: () => number;
}

function open(port: number): Opened {
  let bytes = 0;
  const { promise, resolve } = Promise.withResolvers<StreamEnd>();
  const target = { address: `http://127.0.0.1:${port}`, root: '', clusterId: '' };
  const stream = deltaStreamOpener(target)({
    onResponse: ({ resources }) => {
      for (const { value } of resources) bytes += value.length;
    },
    onEnd: resolve,
  });
  closers.push(() => stream.close());
  return { ended: promise, bytes: () => bytes };
}

const endOf = async (port: number): Promise<string> => (await open(port).ended).reason;

describe('the ends of a stream', () => {
  it('nobody listens: ConnectionError', async () => {
    const server = createTcpServer().listen(0, '127.0.0.1');
    await once(server, 'listening');
    const port = portOf(server);
    server.close();
    assert.equal(await endOf(port), 'ConnectionError');
  });

  it('refused before it has begun, by any status: ConnectionError', async () => {
    for (const code of [2, 14, 16]) {
      const { port } = await serve((stream) =>
        stream.respond({ ...HEADERS, 'grpc-status': code }, { endStream: true }),
      );
      assert.equal(await endOf(port), 'ConnectionError', String(code));
    }
  });

  const cases: readonly (readonly [code: number, message: string, reason: string])[] = [
    [0, '', 'Complete'],
    [1, 'cancelled', 'Reconnect'],
    [2, 'unknown', 'Reconnect'],
    [4, 'deadline', 'Reconnect'],
    [14, 'transport is closing', 'Reconnect'],
    [14, 'received prior goaway: code: NO_ERROR', 'Reconnect'],
    [14, 'server is busy', 'Error'],
    [7, 'denied', 'Error'],
    [13, 'internal', 'Error'],
  ];
  for (const [code, message, reason] of cases) {
    it(`status ${code} "${message}": ${reason}`, async () => {
      const { port } = await serve(endWith(code, message));
      assert.equal(await endOf(port), reason);
    });
  }

  it('a server that goes, with GOAWAY or without a word: Reconnect', async () => {
    for (const isOrderly of [true, false]) {
      const { port } = await serve((stream, session) => {
        stream.respond(HEADERS);
        setImmediate(() => {
          if (isOrderly) session.goaway();
          session.destroy();
        });
      });
      assert.equal(await endOf(port), 'Reconnect', String(isOrderly));
    }
  });

  it('a server that takes the connection and says nothing: ConnectionError after 5 s', async () => {
    const sockets: Socket[] = [];
    const server = createTcpServer((socket) => sockets.push(socket)).listen(0, '127.0.0.1');
    await once(server, 'listening');
    closers.push(() => {
      sockets.forEach((socket) => socket.destroy());
      server.close();
    });
    const { reason, detail } = await open(portOf(server)).ended;
    assert.deepEqual([reason, detail], ['ConnectionError', 'no connection within 5 s']);
  });
});

describe('a stream', () => {
  it('takes a message of 64 MiB, and none that says it has more than 200', async () => {
    const value = new Uint8Array(64 * MIB);
    const push = create(DeltaDiscoveryResponseSchema, {
      resources: [{ name: 'big', resource: { typeUrl: 'x', value } }],
    });
    const { port } = await serve((stream) => {
      stream.respond(HEADERS);
      stream.write(grpcMessage(toBinary(DeltaDiscoveryResponseSchema, push)));
      stream.write(grpcMessage(new Uint8Array(), 200 * MIB + 1));
    });
    const opened = open(port);
    const { reason, detail } = await opened.ended;
    assert.equal(opened.bytes(), value.length);
    assert.equal(reason, 'Error');
    assert.match(detail, /RESOURCE_EXHAUSTED/);
  });

  it('is pinged every 30 s, and ends when no answer comes within 10', async (test) => {
    test.mock.timers.enable({ apis: ['setTimeout'] });
    const { port, sessions } = await serve((stream) => stream.respond(HEADERS));
    const joined: Socket[] = [];
    const relay = createTcpServer((near) => {
      const far = connect(port, '127.0.0.1');
      for (const socket of [near, far]) socket.on('error', () => undefined);
      near.pipe(far).pipe(near);
      joined.push(near, far);
    }).listen(0, '127.0.0.1');
    await once(relay, 'listening');
    closers.push(() => {
      joined.forEach((socket) => socket.destroy());
      relay.close();
    });
    const { ended } = open(portOf(relay));
    while (sessions.length === 0) await new Promise(setImmediate);
    const [session] = sessions;
    assert.ok(session);
    await once(session, 'stream');
    const pinged = once(session, 'ping');
    test.mock.timers.tick(30_000);
    await pinged;
    const [, far] = joined;
    far?.unpipe();
    far?.pause();
    test.mock.timers.tick(30_000);
    await new Promise(setImmediate);
    test.mock.timers.tick(10_000);
    const { reason } = await ended;
    assert.equal(reason, 'Reconnect');
  });
});
