// What peers send, mutated: recorded HTTP/2 and TLS conversations with flipped, dropped and repeated bytes, cut
// anywhere. The process must survive, and every session, connection and queue must be released. Seeded.
import assert from 'node:assert/strict';
import { once } from 'node:events';
import http2 from 'node:http2';
import net from 'node:net';
import { after, describe, it } from 'node:test';
import tls from 'node:tls';
import { HboneServer } from '../../../common/hbone/tunnel-server.ts';
import {
  connectHttp2,
  http2SessionCount,
  serveHttp2,
} from '../../../engine/http2/http2-session.ts';
import { nativeQueueCount } from '../../../engine/reactor/bytes.ts';
import { openTcpListener } from '../../../engine/reactor/socket-options.ts';
import { connectTcp } from '../../../engine/reactor/tcp-connect.ts';
import { TcpListener } from '../../../engine/reactor/tcp-listener.ts';
import type { TcpStream } from '../../../engine/reactor/tcp-stream.ts';
import { startTls, tlsConnectionCount } from '../../../engine/tls/tls-connection.ts';
import { TlsContext } from '../../../engine/tls/tls-context.ts';
import { TestAuthority, spiffe } from '../../integration/engine/certificates.ts';
import { startReactor, until } from '../../integration/engine/support.ts';
import { seededRandom } from '../../support/seeded-random.ts';

const ROUNDS = Number(process.env['FUZZ_ROUNDS'] ?? 400);
const SEED = Number(process.env['FUZZ_SEED'] ?? 20_261_122);
const OPTIONS = {
  settings: { maxConcurrentStreams: 20, maxHeaderListSize: 8192 },
  pingIntervalMs: 0,
  pingTimeoutMs: 0,
};

const reactor = startReactor();
const authority = new TestAuthority();
const material = authority.issue('server', spiffe('server'));
const client = authority.issue('client', spiffe('client'));
const serverContext = TlsContext.server(material);
const clientContext = TlsContext.client(client);
after(() => {
  serverContext.close();
  clientContext.close();
  authority.remove();
  reactor.close();
});

const random = seededRandom(SEED);

function mutate(sample: Buffer): Buffer {
  let bytes = Buffer.from(sample);
  for (let i = random(6); i >= 0; i--) {
    const at = random(bytes.length);
    const length = Math.min(1 + random(40), bytes.length - at);
    switch (random(5)) {
      case 0:
        bytes[at] = random(256);
        break;
      case 1:
        bytes[at] = (bytes[at] ?? 0) ^ (1 << random(8));
        break;
      case 2:
        bytes = Buffer.concat([bytes.subarray(0, at), bytes.subarray(at + length)]);
        break;
      case 3:
        bytes = Buffer.concat([bytes.subarray(0, at + length), bytes.subarray(at)]);
        break;
      default:
        bytes = bytes.subarray(0, Math.max(1, at));
    }
    if (bytes.length === 0) bytes = Buffer.from([0]);
  }
  return bytes;
}

function listen(onAccept: (tcp: TcpStream) => void): { port: number; close(): void } {
  const bound = openTcpListener({ address: '127.0.0.1', port: 0 });
  const listener = new TcpListener(reactor, bound.fd, onAccept);
  return { port: bound.port, close: () => listener.close() };
}

/** Bytes a node:http2 or node:tls client sends first to a listener that records them, and bytes answered. */
async function record(
  start: (port: number) => { destroy(): void },
  answer: Buffer | undefined,
): Promise<Buffer> {
  const chunks: Buffer[] = [];
  const server = net.createServer((socket) => {
    socket.on('error', () => undefined);
    if (answer !== undefined) socket.write(answer);
    socket.on('data', (chunk: Buffer) => chunks.push(chunk));
  });
  server.listen(0, '127.0.0.1');
  await once(server, 'listening');
  const running = start((server.address() as net.AddressInfo).port);
  await until(() => chunks.length > 0, 'first bytes');
  const deadline = Date.now() + 50;
  await until(() => Date.now() > deadline, 'more bytes');
  running.destroy();
  server.close();
  return Buffer.concat(chunks);
}

function clientSample(): Promise<Buffer> {
  return record(
    (port) => {
      const session = http2.connect(`http://127.0.0.1:${port}`);
      session.on('error', () => undefined);
      const post = session.request({ ':method': 'POST', ':path': '/a', 'x-h': 'v'.repeat(300) });
      post.on('error', () => undefined);
      post.end(Buffer.alloc(3000, 1));
      const tunnel = session.request({ ':method': 'CONNECT', ':authority': '10.0.0.1:80' });
      tunnel.on('error', () => undefined);
      tunnel.write('hello');
      const cancelled = session.request({ ':path': '/c' });
      cancelled.on('error', () => undefined);
      setImmediate(() => cancelled.close(8));
      return session;
    },
    Buffer.from([0, 0, 0, 4, 0, 0, 0, 0, 0]),
  );
}

async function serverSample(): Promise<Buffer> {
  const server = http2.createServer();
  server.on('stream', (stream) => {
    stream.on('error', () => undefined);
    stream.respond({ ':status': 200, 'x-h': 'v'.repeat(100) }, { waitForTrailers: true });
    stream.on('wantTrailers', () => stream.sendTrailers({ 'x-t': '1' }));
    stream.end(Buffer.alloc(3000, 2));
  });
  server.listen(0, '127.0.0.1');
  await once(server, 'listening');
  const chunks: Buffer[] = [];
  const socket = net.connect((server.address() as net.AddressInfo).port, '127.0.0.1');
  socket.on('error', () => undefined);
  socket.on('data', (chunk: Buffer) => chunks.push(chunk));
  socket.write(await clientSample());
  await until(() => Buffer.concat(chunks).length > 3000, 'answers');
  socket.destroy();
  server.close();
  return Buffer.concat(chunks);
}

async function sendMutated(port: number, sample: Buffer): Promise<void> {
  const socket = net.connect(port, '127.0.0.1');
  socket.on('error', () => undefined);
  socket.on('data', () => undefined);
  const bytes = mutate(sample);
  const cut = random(bytes.length);
  socket.write(bytes.subarray(0, cut));
  socket.write(bytes.subarray(cut));
  if (random(3) === 0) socket.resetAndDestroy();
  else socket.end();
  await closed(socket);
}

function closed(socket: net.Socket): Promise<void> {
  return new Promise((resolve) => {
    if (socket.closed) resolve();
    else socket.once('close', () => resolve());
  });
}

async function assertReleased(): Promise<void> {
  await until(() => http2SessionCount() === 0, 'sessions released');
  await until(() => tlsConnectionCount() === 0, 'connections released');
  await until(() => reactor.registered === 0, 'descriptors released');
  assert.equal(nativeQueueCount(), 0);
}

async function inParallel(rounds: number, run: () => Promise<void>): Promise<void> {
  for (let done = 0; done < rounds; done += 20) {
    await Promise.all(Array.from({ length: 20 }, run));
  }
}

describe(`mutated peer bytes (seed ${SEED})`, () => {
  it('survives mutated HTTP/2 requests', async () => {
    const server = listen((tcp) => {
      serveHttp2(reactor, tcp, OPTIONS, {
        onStream: (stream) => {
          stream.respond([[':status', '200']], false);
          stream.handler = {
            onData: (at, length) => void stream.write(at, length),
            onEnd: () => stream.endWithTrailers([['x-t', '1']]),
            onDrain: () => undefined,
            onClose: () => undefined,
          };
          stream.resume();
          return { onHeaders: () => undefined, onTrailers: () => undefined };
        },
        onGoaway: () => undefined,
        onClose: () => undefined,
      });
    });
    const sample = await clientSample();
    await inParallel(ROUNDS, () => sendMutated(server.port, sample));
    server.close();
    await assertReleased();
  });

  it('survives mutated HTTP/2 answers', async () => {
    const sample = await serverSample();
    const peer = net.createServer((socket) => {
      socket.on('error', () => undefined);
      socket.on('data', () => undefined);
      socket.end(mutate(sample));
    });
    peer.listen(0, '127.0.0.1');
    await once(peer, 'listening');
    const { port } = peer.address() as net.AddressInfo;
    await inParallel(ROUNDS, async () => {
      const tcp = await connectTcp(reactor, { address: '127.0.0.1', port });
      const { promise, resolve } = Promise.withResolvers<undefined>();
      const session = connectHttp2(reactor, tcp, OPTIONS, {
        onGoaway: () => undefined,
        onClose: () => resolve(undefined),
      });
      for (let i = 0; i < 3; i++) {
        const headers = [
          [':method', 'POST'],
          [':scheme', 'http'],
          [':authority', 'a'],
          [':path', '/'],
        ] as const;
        const stream = session.request(headers, false, {
          onHeaders: () => undefined,
          onTrailers: () => undefined,
        });
        stream.resume();
        stream.writeBytes(Buffer.alloc(random(30_000)));
      }
      await promise;
    });
    peer.close();
    await assertReleased();
  });

  it('survives mutated TLS, as server and as client', async () => {
    const hbone = new HboneServer({
      context: () => serverContext,
      handshakeTimeoutMs: 200,
      onRequest: (request) => request.refuse(503),
    });
    const server = listen((tcp) => hbone.accept(tcp));
    const sample = await record((port) => {
      const socket = tls.connect({ port, host: '127.0.0.1', ALPNProtocols: ['h2'] });
      socket.on('error', () => undefined);
      return socket;
    }, undefined);
    await inParallel(ROUNDS / 2, () => sendMutated(server.port, sample));
    server.close();
    const peer = net.createServer((socket) => {
      socket.on('error', () => undefined);
      socket.once('data', (hello: Buffer) => socket.end(mutate(hello)));
    });
    peer.listen(0, '127.0.0.1');
    await once(peer, 'listening');
    const { port } = peer.address() as net.AddressInfo;
    await inParallel(ROUNDS / 4, async () => {
      const tcp = await connectTcp(reactor, { address: '127.0.0.1', port });
      await assert.rejects(startTls(tcp, clientContext, { handshakeTimeoutMs: 200 }));
    });
    peer.close();
    await assertReleased();
  });

  it('survives mutated HTTP/2 inside good TLS', async () => {
    const hbone = new HboneServer({
      context: () => serverContext,
      onRequest: (request) => {
        if (random(2) === 0) {
          request.refuse(503);
          return;
        }
        const stream = request.accept([]);
        stream.handler = {
          onData: (at, length) => void stream.write(at, length),
          onEnd: () => stream.end(),
          onDrain: () => undefined,
          onClose: () => undefined,
        };
        stream.resume();
      },
    });
    const server = listen((tcp) => hbone.accept(tcp));
    const sample = await clientSample();
    await inParallel(ROUNDS / 4, async () => {
      const socket = tls.connect({
        port: server.port,
        host: '127.0.0.1',
        ca: authority.rootsPem,
        cert: client.certChainPem,
        key: client.privateKeyPem,
        ALPNProtocols: ['h2'],
        checkServerIdentity: () => undefined,
      });
      socket.on('error', () => undefined);
      socket.on('data', () => undefined);
      await once(socket, 'secureConnect');
      socket.write(mutate(sample));
      if (random(3) === 0) socket.destroy();
      else socket.end();
      await closed(socket);
    });
    server.close();
    await assertReleased();
  });
});
