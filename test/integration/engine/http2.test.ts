// Our HTTP/2 against node:http2, as server and as client: messages, trailers, resets, GOAWAY, limits, back-pressure.
import assert from 'node:assert/strict';
import { once } from 'node:events';
import http2 from 'node:http2';
import net from 'node:net';
import { after, describe, it } from 'node:test';
import {
  connectHttp2,
  http2SessionCount,
  serveHttp2,
} from '../../../engine/http2/http2-session.ts';
import type {
  HeaderList,
  Http2Session,
  Http2SessionOptions,
  Http2Stream,
} from '../../../engine/http2/types.ts';
import { nativeQueueCount } from '../../../engine/reactor/bytes.ts';
import type { CloseReason } from '../../../engine/reactor/duplex.ts';
import { openTcpListener } from '../../../engine/reactor/socket-options.ts';
import { connectTcp } from '../../../engine/reactor/tcp-connect.ts';
import { TcpListener } from '../../../engine/reactor/tcp-listener.ts';
import { collect, startReactor, until } from './support.ts';

const reactor = startReactor();
after(() => reactor.close());

const OPTIONS: Http2SessionOptions = {
  settings: { maxConcurrentStreams: 100, maxHeaderListSize: 16 * 1024 },
  pingIntervalMs: 0,
  pingTimeoutMs: 0,
};

interface OurServer {
  readonly url: string;
  readonly port: number;
  readonly sessions: Http2Session[];
  readonly reasons: CloseReason[];
  close(): void;
}

/** Our server over plain TCP (prior knowledge). */
function ourServer(
  onStream: (stream: Http2Stream, headers: HeaderList, endStream: boolean) => void,
  options = OPTIONS,
): OurServer {
  const bound = openTcpListener({ address: '127.0.0.1', port: 0 });
  const sessions: Http2Session[] = [];
  const reasons: CloseReason[] = [];
  const listener = new TcpListener(reactor, bound.fd, (tcp) => {
    sessions.push(
      serveHttp2(reactor, tcp, options, {
        onStream: (stream, headers, endStream) => {
          onStream(stream, headers, endStream);
          return undefined;
        },
        onGoaway: () => undefined,
        onClose: (reason) => void reasons.push(reason),
      }),
    );
  });
  return {
    url: `http://127.0.0.1:${bound.port}`,
    port: bound.port,
    sessions,
    reasons,
    close: () => {
      listener.close();
      for (const session of sessions) session.close('test ends');
    },
  };
}

async function nodeRequest(
  client: http2.ClientHttp2Session,
  headers: http2.OutgoingHttpHeaders,
  body?: Buffer,
): Promise<{ status: number; body: Buffer; trailers: http2.IncomingHttpHeaders | undefined }> {
  const request = client.request(headers, { endStream: body === undefined });
  if (body !== undefined) request.end(body);
  let trailers: http2.IncomingHttpHeaders | undefined;
  request.on('trailers', (received: http2.IncomingHttpHeaders) => (trailers = received));
  const chunks: Buffer[] = [];
  request.on('data', (chunk: Buffer) => chunks.push(chunk));
  const [answer] = (await once(request, 'response')) as [http2.IncomingHttpHeaders];
  await once(request, 'close');
  return { status: Number(answer[':status']), body: Buffer.concat(chunks), trailers };
}

async function connectOurs(
  port: number,
  events: { onGoaway?: () => void; onClose?: (reason: CloseReason) => void } = {},
  options = OPTIONS,
): Promise<Http2Session> {
  const tcp = await connectTcp(reactor, { address: '127.0.0.1', port });
  return connectHttp2(reactor, tcp, options, {
    onGoaway: () => events.onGoaway?.(),
    onClose: (reason) => events.onClose?.(reason),
  });
}

async function nodeServer(
  onStream: (stream: http2.ServerHttp2Stream, headers: http2.IncomingHttpHeaders) => void,
): Promise<{ port: number; server: http2.Http2Server; sessions: http2.ServerHttp2Session[] }> {
  const server = http2.createServer();
  const sessions: http2.ServerHttp2Session[] = [];
  server.on('session', (session) => sessions.push(session));
  server.on('stream', (stream, headers) => {
    stream.on('error', () => undefined);
    onStream(stream, headers);
  });
  server.listen(0, '127.0.0.1');
  await once(server, 'listening');
  return { port: (server.address() as net.AddressInfo).port, server, sessions };
}

const GET: HeaderList = [
  [':method', 'GET'],
  [':scheme', 'http'],
  [':authority', 'test'],
  [':path', '/'],
];

describe('http2 server', () => {
  it('echoes bodies of all sizes with trailers, many streams at once', async () => {
    const server = ourServer((stream) => {
      stream.respond([[':status', '200']], false);
      stream.handler = {
        onData: (at, length) => {
          if (!stream.write(at, length)) stream.pause();
        },
        onEnd: () => stream.endWithTrailers([['x-checked', 'yes']]),
        onDrain: () => stream.resume(),
        onClose: () => undefined,
      };
      stream.resume();
    });
    const client = http2.connect(server.url);
    const sizes = [0, 1, 100, 16_375, 16_376, 65_535, 65_536, 1_000_000, 3_000_000];
    const answers = await Promise.all(
      sizes.map((size) =>
        nodeRequest(client, { ':method': 'POST' }, Buffer.alloc(size, size % 251)),
      ),
    );
    answers.forEach((answer, i) => {
      assert.equal(answer.status, 200);
      assert.ok(
        answer.body.equals(Buffer.alloc(sizes[i] ?? 0, (sizes[i] ?? 0) % 251)),
        `${sizes[i]}`,
      );
      assert.equal(answer.trailers?.['x-checked'], 'yes');
    });
    client.close();
    await until(() => server.reasons.length === 1, 'session closed');
    server.close();
  });

  it('answers without a body, and with an interim status first', async () => {
    const server = ourServer((stream, headers, endStream) => {
      assert.equal(endStream, true);
      assert.ok(headers.some(([name, value]) => name === 'x-a' && value === '1'));
      stream.respond([[':status', '103']], false);
      stream.respond([[':status', '204']], true);
      stream.resume();
    });
    const client = http2.connect(server.url);
    const answer = await nodeRequest(client, { ':path': '/', 'x-a': '1' });
    assert.equal(answer.status, 204);
    client.close();
    server.close();
  });

  it('refuses header lists above the limit', async () => {
    let seen = 0;
    const server = ourServer(() => seen++);
    const client = http2.connect(server.url);
    client.on('error', () => undefined);
    const request = client.request({ ':path': '/', 'x-long': 'a'.repeat(20_000) });
    const [err] = (await once(request, 'error')) as [Error];
    assert.match(err.message, /INTERNAL_ERROR|ENHANCE|REFUSED|PROTOCOL/);
    assert.equal(seen, 0);
    client.destroy();
    server.close();
  });

  it('tells of a reset and of a connection that breaks', async () => {
    const reasons: CloseReason[] = [];
    const server = ourServer((stream) => {
      stream.handler = {
        onData: () => undefined,
        onEnd: () => undefined,
        onDrain: () => undefined,
        onClose: (reason) => void reasons.push(reason),
      };
      stream.resume();
    });
    const client = http2.connect(server.url);
    client.on('error', () => undefined);
    const first = client.request({ ':method': 'POST' });
    const second = client.request({ ':method': 'POST' });
    for (const request of [first, second]) request.on('error', () => undefined);
    await until(() => server.sessions[0]?.activeStreams === 2, 'streams');
    first.close(http2.constants.NGHTTP2_CANCEL);
    await until(() => reasons.length === 1, 'reset');
    assert.equal(reasons[0]?.code, 'reset');
    client.destroy();
    await until(() => reasons.length === 2, 'broken connection');
    assert.equal(reasons[1]?.code, 'reset');
    server.close();
  });

  it('drains: open streams end, then the connection', async () => {
    const streams: Http2Stream[] = [];
    const server = ourServer((stream) => void streams.push(stream));
    const client = http2.connect(server.url);
    const answer = nodeRequest(client, { ':path': '/' });
    await until(() => streams.length === 1, 'stream');
    server.sessions[0]?.drain();
    await once(client, 'goaway');
    streams[0]?.respond([[':status', '200']], true);
    streams[0]?.resume();
    assert.equal((await answer).status, 200);
    await until(() => server.reasons.length === 1, 'closed');
    server.close();
  });

  it('does not read ahead of a paused stream', async () => {
    const streams: Http2Stream[] = [];
    const server = ourServer((stream) => void streams.push(stream));
    const client = http2.connect(server.url);
    const request = client.request({ ':method': 'POST' });
    request.on('error', () => undefined);
    request.write(Buffer.alloc(1_000_000));
    await until(() => streams.length === 1, 'stream');
    for (let i = 0; i < 50; i++) await new Promise((resolve) => setImmediate(resolve));
    assert.ok(streams[0] !== undefined);
    const received = collect(streams[0], false);
    await until(() => received.bytes === 1_000_000, 'all bytes after resume');
    request.close();
    client.destroy();
    server.close();
  });

  it('ends a session whose peer does not speak HTTP/2 or answers no ping', async () => {
    const server = ourServer(() => undefined);
    const socket = net.connect({ host: '127.0.0.1', port: server.port });
    socket.on('error', () => undefined);
    socket.write('GET / HTTP/1.1\r\nhost: x\r\n\r\n'.padEnd(64, ' '));
    await until(() => server.reasons.length === 1, 'refused');
    assert.equal(server.reasons[0]?.code, 'protocol');
    socket.destroy();
    server.close();
    const impatient = ourServer(() => undefined, {
      ...OPTIONS,
      pingIntervalMs: 10,
      pingTimeoutMs: 30,
    });
    const silent = net.connect({ host: '127.0.0.1', port: impatient.port });
    silent.on('error', () => undefined);
    await until(() => impatient.reasons.length === 1, 'ping timeout');
    assert.equal(impatient.reasons[0]?.code, 'timeout');
    silent.destroy();
    impatient.close();
  });
});

describe('http2 client', () => {
  it('sends requests and reads answers with trailers', async () => {
    const { port, server } = await nodeServer((stream, headers) => {
      stream.respond({ ':status': 200, 'x-path': headers[':path'] }, { waitForTrailers: true });
      stream.on('wantTrailers', () => stream.sendTrailers({ 'x-sum': '42' }));
      stream.pipe(stream);
    });
    const session = await connectOurs(port);
    const seen: HeaderList[] = [];
    const stream = session.request(
      GET.map(([n, v]) => [n, n === ':method' ? 'POST' : v]),
      false,
      {
        onHeaders: (headers) => void seen.push(headers),
        onTrailers: (headers) => void seen.push(headers),
      },
    );
    const body = collect(stream);
    for (let i = 0; i < 100; i++) stream.writeBytes(Buffer.alloc(10_000, i));
    stream.end();
    const reason = await body.closed;
    assert.equal(reason.code, 'ok');
    assert.equal(body.bytes, 1_000_000);
    assert.ok(Buffer.concat(body.chunks).subarray(-10_000).equals(Buffer.alloc(10_000, 99)));
    assert.deepEqual(
      seen[0]?.find(([name]) => name === 'x-path'),
      ['x-path', '/'],
    );
    assert.deepEqual(seen[1], [['x-sum', '42']]);
    session.close('test ends');
    server.close();
  });

  it('knows the limit of the peer and its GOAWAY', async () => {
    const { port, server, sessions } = await nodeServer(() => undefined);
    const events: string[] = [];
    const session = await connectOurs(port, {
      onGoaway: () => void events.push('goaway'),
      onClose: () => void events.push('close'),
    });
    const stream = session.request(GET, false, {
      onHeaders: () => undefined,
      onTrailers: () => undefined,
    });
    const body = collect(stream);
    await until(() => sessions.length === 1, 'session');
    assert.equal(session.canOpenStream, true);
    sessions[0]?.settings({ maxConcurrentStreams: 1 });
    await until(() => !session.canOpenStream, 'the limit');
    sessions[0]?.settings({ maxConcurrentStreams: 2 });
    await until(() => session.canOpenStream, 'a higher limit');
    sessions[0]?.goaway(0, 2 ** 31 - 1);
    await until(() => events.includes('goaway'), 'goaway');
    assert.equal(session.canOpenStream, false);
    assert.throws(() =>
      session.request(GET, true, { onHeaders: () => undefined, onTrailers: () => undefined }),
    );
    sessions[0]?.destroy();
    await body.closed;
    await until(() => events.includes('close'), 'close');
    server.close();
  });

  it('survives a peer that resets streams in the middle of a transfer', async () => {
    const { port, server } = await nodeServer((stream) => {
      stream.respond({ ':status': 200 });
      stream.once('data', () => stream.close(http2.constants.NGHTTP2_INTERNAL_ERROR));
    });
    const session = await connectOurs(port);
    for (let i = 0; i < 20; i++) {
      const stream = session.request(
        GET.map(([n, v]) => [n, n === ':method' ? 'POST' : v]),
        false,
        {
          onHeaders: () => undefined,
          onTrailers: () => undefined,
        },
      );
      const body = collect(stream);
      stream.writeBytes(Buffer.alloc(200_000));
      assert.notEqual((await body.closed).code, 'ok');
      stream.writeBytes(Buffer.alloc(10));
    }
    assert.equal(session.isClosed, false);
    session.close('test ends');
    server.close();
  });

  it('holds nothing when all is closed', async () => {
    await until(() => http2SessionCount() === 0, 'sessions released');
    await until(() => reactor.registered === 0, 'descriptors released');
    assert.equal(nativeQueueCount(), 0);
  });
});
