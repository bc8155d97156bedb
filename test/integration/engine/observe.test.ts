// HTTP observed on its way through a relay, between node:http and node:http2 as client and server: every request is told with
// its answer, and the bytes are what they would be unobserved.
import assert from 'node:assert/strict';
import { randomBytes } from 'node:crypto';
import { once } from 'node:events';
import http from 'node:http';
import http2 from 'node:http2';
import net from 'node:net';
import { after, describe, it } from 'node:test';
import { mirrorSessionCount } from '../../../engine/observe/mirror-session.ts';
import { nativeQueueCount } from '../../../engine/reactor/bytes.ts';
import { bodyOf, listening, observeAt, sha256 } from './observed-relay.ts';
import type { Observed } from './observed-relay.ts';
import { startReactor, until } from './support.ts';

const reactor = startReactor();
after(() => reactor.close());

const dialled: net.Socket[] = [];

/** A connection for a session: closed sessions of Node leave theirs unread, and the process waits for it. */
function dial(port: number): net.Socket {
  const socket = net.connect(port, '127.0.0.1');
  dialled.push(socket);
  return socket;
}

for (const path of ['plain', 'tunnelled'] as const) {
  const observe = (port: number): Observed => observeAt(reactor, port, path);

  describe(`http/1 on its way, ${path}`, () => {
    it('tells keep-alive requests with chunked and sized bodies, byte for byte the same', async () => {
      const server = http.createServer((request, response) => {
        void bodyOf(request).then((body) => {
          response.writeHead(request.url === '/missing' ? 404 : 200);
          response.write(sha256(body));
          response.end();
        });
      });
      const seen = observe(await listening(server));
      const agent = new http.Agent({ keepAlive: true, maxSockets: 1 });
      const ask = (method: string, path: string, body?: Buffer, length?: number): Promise<string> =>
        new Promise((resolve, reject) => {
          const headers = length === undefined ? {} : { 'content-length': length };
          const options = { port: seen.port, host: '127.0.0.1', method, path, agent, headers };
          const request = http.request(options, (response) => {
            bodyOf(response).then((answer) => resolve(answer.toString()), reject);
          });
          request.on('error', reject);
          request.end(body);
        });
      const bulk = randomBytes(3 << 20);
      assert.equal(await ask('POST', '/', bulk), sha256(bulk));
      assert.equal(await ask('PUT', '/', bulk, bulk.length), sha256(bulk));
      assert.equal(await ask('HEAD', '/'), '');
      assert.equal(await ask('GET', '/missing'), sha256(Buffer.alloc(0)));
      agent.destroy();
      await until(() => seen.done === 1, 'the relay ends');
      assert.deepEqual(seen.told(), ['GET 404 -', 'HEAD 200 -', 'POST 200 -', 'PUT 200 -']);
      assert.deepEqual(seen.ends, ['ended']);
      assert.ok(seen.exchanges.every(({ durationMs }) => durationMs > 0 && durationMs < 5000));
      seen.close();
      server.close();
    });

    it('carries a body both ways at once, faster than either side reads', async () => {
      const server = http.createServer((request, response) => void request.pipe(response));
      const seen = observe(await listening(server));
      const bulk = randomBytes(24 << 20);
      const request = http.request({ port: seen.port, method: 'POST', agent: false });
      request.end(bulk);
      const [response] = (await once(request, 'response')) as [http.IncomingMessage];
      assert.equal(sha256(await bodyOf(response)), sha256(bulk));
      request.destroy();
      await until(() => seen.done === 1, 'the relay ends');
      assert.deepEqual(seen.told(), ['POST 200 -']);
      seen.close();
      server.close();
    });

    it('matches pipelined requests with their answers', async () => {
      const server = http.createServer((request, response) => {
        response.writeHead(Number(request.url?.slice(1)), { 'content-length': 2 });
        response.end(request.method === 'HEAD' ? undefined : 'ok');
      });
      const seen = observe(await listening(server));
      const client = net.connect(seen.port, '127.0.0.1');
      const words = ['GET /200', 'HEAD /201', 'DELETE /404', 'GET /500'];
      client.end(words.map((word) => `${word} HTTP/1.1\r\nHost: a\r\n\r\n`).join(''));
      await bodyOf(client);
      await until(() => seen.done === 1, 'the relay ends');
      assert.deepEqual(
        seen.exchanges.map(({ method, status }) => `${method} /${status}`),
        words,
      );
      seen.close();
      server.close();
    });

    it('an upgrade is told, and the rest is not looked at', async () => {
      const server = http.createServer();
      server.on('upgrade', (_request, socket: net.Socket) => {
        socket.write(
          'HTTP/1.1 101 Switching Protocols\r\nUpgrade: x\r\nConnection: Upgrade\r\n\r\n',
        );
        socket.pipe(socket);
      });
      const seen = observe(await listening(server));
      const request = http.get({
        port: seen.port,
        headers: { connection: 'Upgrade', upgrade: 'x' },
      });
      const [, socket] = (await once(request, 'upgrade')) as [unknown, net.Socket];
      const bulk = randomBytes(1 << 20);
      socket.end(bulk);
      assert.equal(sha256(await bodyOf(socket)), sha256(bulk));
      await until(() => seen.done === 1, 'the relay ends');
      assert.deepEqual([seen.told(), seen.ends], [['GET 101 -'], ['upgraded']]);
      seen.close();
      server.close();
    });

    it('a request without an answer, and an answer that lasts until the end', async () => {
      const server = net.createServer((socket) => {
        socket.once('data', (data) => {
          if (data.toString().startsWith('GET /close'))
            socket.end('HTTP/1.0 200 OK\r\n\r\nall of it');
          else socket.destroy();
        });
      });
      const seen = observe(await listening(server));
      for (const path of ['/close', '/never']) {
        const client = net.connect(seen.port, '127.0.0.1');
        client.on('error', () => undefined);
        client.write(`GET ${path} HTTP/1.1\r\nHost: a\r\n\r\n`);
        await once(client.resume(), 'close');
      }
      await until(() => seen.done === 2, 'the relays end');
      assert.deepEqual(seen.told(), ['GET 0 -', 'GET 200 -']);
      seen.close();
      server.close();
    });
  });

  describe(`what is not http, ${path}`, () => {
    for (const [name, first, end] of [
      ['a server that speaks first', 'x'.repeat(300), 'server_first'],
      ['a greeting, then a client that is no http', 'SSH-2.0-x\r\n', 'not_http'],
    ] as const) {
      it(`${name} is left alone, byte for byte`, async () => {
        const server = net.createServer((socket) => {
          socket.write(first);
          socket.pipe(socket);
        });
        const seen = observe(await listening(server));
        const client = net.connect(seen.port, '127.0.0.1');
        await once(client, 'readable');
        const bulk = randomBytes(2 << 20);
        client.end(bulk);
        const answer = await bodyOf(client);
        assert.equal(sha256(answer), sha256(Buffer.concat([Buffer.from(first), bulk])));
        await until(() => seen.done === 1, 'the relay ends');
        assert.deepEqual([seen.told(), seen.ends], [[], [end]]);
        seen.close();
        server.close();
      });
    }
  });

  describe(`http/2 on its way, ${path}`, () => {
    /** Answers with `:status` and trailers as the request asks, and the body's checksum. */
    function answering(settings: http2.Settings): http2.Http2Server {
      const server = http2.createServer({ settings });
      server.on('stream', (stream, headers) => {
        void bodyOf(stream).then(
          (body) => {
            const status = Number(headers['x-status'] ?? 200);
            const grpc = headers['x-grpc'];
            const type = grpc === undefined ? 'text/plain' : 'application/grpc+proto';
            const answer = { ':status': status, 'content-type': type };
            stream.respond(answer, { waitForTrailers: grpc !== undefined });
            stream.on('wantTrailers', () => stream.sendTrailers({ 'grpc-status': String(grpc) }));
            stream.end(headers['x-echo'] === undefined ? sha256(body) : body);
          },
          () => undefined,
        );
        stream.on('error', () => undefined);
      });
      return server;
    }

    function ask(
      session: http2.ClientHttp2Session,
      headers: http2.OutgoingHttpHeaders,
      body = Buffer.alloc(0),
    ): Promise<Buffer> {
      const stream = session.request({ ':method': 'POST', ...headers });
      stream.end(body);
      return bodyOf(stream);
    }

    for (const [name, client, server] of [
      ['the default settings', {}, {}],
      [
        'large windows and frames, small and large tables',
        { initialWindowSize: 8 << 20, maxFrameSize: 1 << 20, headerTableSize: 32_768 },
        { initialWindowSize: 4 << 20, maxFrameSize: 512 << 10, headerTableSize: 0 },
      ],
      ['the largest windows', { initialWindowSize: 0x7fffffff }, { initialWindowSize: 0x7fffffff }],
      ['no push, few streams', { enablePush: false }, { maxConcurrentStreams: 5 }],
    ] as const) {
      it(`tells every request with its status, with ${name}`, async () => {
        const upstream = answering(server);
        const seen = observe(await listening(upstream));
        const session = http2.connect('http://a', {
          settings: client,
          createConnection: () => dial(seen.port),
        });
        await once(session, 'remoteSettings');
        const bulk = randomBytes(1 << 20);
        const asked: Promise<Buffer>[] = [];
        for (let at = 0; at < 60; at++) {
          const custom = { 'x-status': 200 + (at % 3) * 100, [`x-${at}`]: 'y'.repeat(at * 5) };
          asked.push(ask(session, custom, at % 10 === 0 ? bulk : Buffer.from('small')));
        }
        const sums = await Promise.all(asked);
        assert.equal(sums[0]?.toString(), sha256(bulk));
        const back = await Promise.all([1, 2, 3].map(() => ask(session, { 'x-echo': 'y' }, bulk)));
        assert.ok(back.every((body) => sha256(body) === sha256(bulk)));
        await ask(session, { 'x-grpc': '0' });
        await ask(session, { 'x-grpc': '14' });
        session.close();
        await until(() => seen.done === 1, 'the relay ends');
        assert.deepEqual(seen.ends, ['ended']);
        const expected = Array.from({ length: 60 }, (_, at) => `POST ${200 + (at % 3) * 100} -`);
        expected.push('POST 200 -', 'POST 200 -', 'POST 200 -', 'POST 200 0', 'POST 200 14');
        assert.deepEqual(seen.told(), expected.sort());
        assert.equal(seen.exchanges.filter(({ isGrpc }) => isGrpc).length, 2);
        seen.close();
        upstream.close();
      });
    }

    it('follows a client that answers what the server said first', async () => {
      const upstream = answering({});
      const seen = observe(await listening(upstream));
      const socket = dial(seen.port);
      // The SETTINGS of the server are there before the client says a word: its first bytes acknowledge them.
      await once(socket, 'readable');
      const session = http2.connect('http://a', { createConnection: () => socket });
      await ask(session, {});
      session.close();
      await until(() => seen.done === 1, 'the relay ends');
      assert.deepEqual([seen.told(), seen.ends], [['POST 200 -'], ['ended']]);
      seen.close();
      upstream.close();
    });

    it('tells cancelled requests, and goes on', async () => {
      const upstream = http2.createServer();
      upstream.on('stream', (stream, headers) => {
        stream.on('error', () => undefined);
        if (headers[':path'] === '/hang') return;
        if (headers[':path'] === '/reset') stream.close(http2.constants.NGHTTP2_INTERNAL_ERROR);
        else stream.respond({ ':status': 204 }, { endStream: true });
      });
      const seen = observe(await listening(upstream));
      const session = http2.connect('http://a', { createConnection: () => dial(seen.port) });
      const hanging = session.request({ ':path': '/hang' });
      hanging.on('error', () => undefined);
      await once(hanging, 'ready');
      const reset = session.request({ ':path': '/reset' });
      reset.on('error', () => undefined);
      await new Promise((resolve) => reset.once('close', resolve));
      hanging.close(http2.constants.NGHTTP2_CANCEL);
      await once(hanging, 'close');
      // An answer before the request's body has come.
      const early = session.request({ ':method': 'POST' });
      await once(early, 'response');
      early.end('late');
      await once(early.resume(), 'close');
      await bodyOf(session.request({ ':path': '/again' }));
      session.close();
      await until(() => seen.done === 1, 'the relay ends');
      assert.deepEqual(seen.ends, ['ended']);
      assert.deepEqual(seen.told(), ['GET 0 -', 'GET 0 -', 'GET 204 -', 'POST 204 -']);
      seen.close();
      upstream.close();
    });
  });
}

after(() => {
  for (const socket of dialled) socket.destroy();
  assert.equal(mirrorSessionCount(), 0);
  assert.equal(nativeQueueCount(), 0);
});
