// TCP on the reactor against Node's own sockets: echo, half-close, reset, refusal, time-outs, IPv6, relay.
import assert from 'node:assert/strict';
import { createHash, randomBytes } from 'node:crypto';
import { once } from 'node:events';
import net from 'node:net';
import { after, describe, it } from 'node:test';
import {
  SOL_SOCKET,
  SOL_TCP,
  SO_KEEPALIVE,
  TCP_KEEPIDLE,
  TCP_NODELAY,
  TCP_USER_TIMEOUT,
} from '../../../engine/native/libc.ts';
import { nativeQueueCount } from '../../../engine/reactor/bytes.ts';
import type { RelayResult } from '../../../engine/reactor/duplex.ts';
import { pipeCount } from '../../../engine/reactor/pipe-pool.ts';
import { startRelay } from '../../../engine/reactor/relay.ts';
import { openTcpListener } from '../../../engine/reactor/socket-options.ts';
import { StreamError } from '../../../engine/reactor/stream-error.ts';
import { connectTcp } from '../../../engine/reactor/tcp-connect.ts';
import { TcpListener } from '../../../engine/reactor/tcp-listener.ts';
import type { TcpStream } from '../../../engine/reactor/tcp-stream.ts';
import { socketOption } from '../../support/socket-option.ts';
import { collect, startReactor, until } from './support.ts';

const reactor = startReactor();
after(() => reactor.close());

function listen(
  onAccept: (stream: TcpStream) => void,
  address = '127.0.0.1',
): { listener: TcpListener; port: number } {
  const bound = openTcpListener({ address, port: 0 });
  return { listener: new TcpListener(reactor, bound.fd, onAccept), port: bound.port };
}

/** Accepts and relays to `port`; results are collected. */
function listenRelay(port: number): {
  listener: TcpListener;
  port: number;
  results: RelayResult[];
} {
  const results: RelayResult[] = [];
  const counters = { addForward: () => undefined, addBackward: () => undefined };
  const { listener, port: ownPort } = listen((downstream) => {
    void connectTcp(reactor, { address: '127.0.0.1', port }).then(
      (upstream) =>
        startRelay(downstream, upstream, counters, (result) => void results.push(result)),
      () => downstream.reset(),
    );
  });
  return { listener, port: ownPort, results };
}

async function nodeServer(
  onSocket: (socket: net.Socket) => void,
): Promise<{ server: net.Server; port: number }> {
  const server = net.createServer({ allowHalfOpen: true }, onSocket);
  server.listen(0, '127.0.0.1');
  await once(server, 'listening');
  return { server, port: (server.address() as net.AddressInfo).port };
}

/** Both ends of a connection, made with options other than the kernel's. */
async function checkOptions(address: string): Promise<void> {
  const keepalive = { idleSec: 11, intervalSec: 12, probes: 13 };
  const options = { keepalive, userTimeoutMs: 14_000 };
  const bound = openTcpListener({ address, port: 0, ...options });
  const accepted: TcpStream[] = [];
  const listener = new TcpListener(reactor, bound.fd, (tcp) => void accepted.push(tcp));
  const dialled = await connectTcp(reactor, { address, port: bound.port, ...options });
  await until(() => accepted.length === 1, 'accepted');
  for (const stream of [dialled, ...accepted]) {
    assert.deepEqual(
      {
        nodelay: socketOption(stream.fd, SOL_TCP, TCP_NODELAY),
        isKeptAlive: socketOption(stream.fd, SOL_SOCKET, SO_KEEPALIVE),
        idleSec: socketOption(stream.fd, SOL_TCP, TCP_KEEPIDLE),
        userTimeoutMs: socketOption(stream.fd, SOL_TCP, TCP_USER_TIMEOUT),
      },
      { nodelay: 1, isKeptAlive: 1, idleSec: 11, userTimeoutMs: 14_000 },
    );
    stream.reset();
  }
  listener.close();
}

describe('tcp', () => {
  it('sets its options on what it dials and accepts', async () => {
    for (const address of ['127.0.0.1', '::1']) await checkOptions(address);
  });

  it('dials all the same when the source cannot be kept, and says so', async () => {
    const bound = openTcpListener({ address: '127.0.0.1', port: 0 });
    const accepted: TcpStream[] = [];
    const listener = new TcpListener(reactor, bound.fd, (tcp) => void accepted.push(tcp));
    let refusals = 0;
    const dialled = await connectTcp(reactor, {
      address: '127.0.0.1',
      port: bound.port,
      // Of another family: no right makes that a source.
      sourceAddress: 'fd00::1',
      onSourceRefused: () => refusals++,
    });
    await until(() => accepted.length === 1, 'accepted');
    assert.equal(accepted[0]?.peer.address, '127.0.0.1');
    assert.equal(refusals, 1);
    for (const stream of [dialled, ...accepted]) stream.reset();
    listener.close();
  });

  for (const address of ['127.0.0.1', '::1']) {
    it(`echoes and half-closes over ${address}`, async () => {
      const { listener, port } = listen((stream) => {
        stream.handler = {
          onData: (at, length) => void stream.write(at, length),
          onEnd: () => stream.end(),
          onDrain: () => undefined,
          onClose: () => undefined,
        };
        stream.resume();
      }, address);
      const client = net.connect({ host: address, port, allowHalfOpen: true });
      client.end('hello');
      const [answer] = (await once(client, 'data')) as [Buffer];
      assert.equal(answer.toString(), 'hello');
      await once(client, 'end');
      listener.close();
    });
  }

  it('tells addresses, v4-mapped ones unmapped', async () => {
    const accepted: TcpStream[] = [];
    const { listener, port } = listen((stream) => void accepted.push(stream), '::');
    const client = net.connect({ host: '127.0.0.1', port });
    await once(client, 'connect');
    await until(() => accepted.length === 1, 'accept');
    const stream = accepted[0];
    assert.deepEqual(stream?.peer, { address: '127.0.0.1', port: client.localPort });
    assert.deepEqual(stream.local, { address: '127.0.0.1', port });
    assert.deepEqual(stream.originalDst(), { address: '127.0.0.1', port });
    stream.reset();
    await once(client, 'error');
    listener.close();
  });

  const isRoot = process.getuid?.() === 0;
  it(
    'shows another source address, from below the ports that kernels choose if asked',
    { skip: isRoot ? false : 'needs the right to set IP_TRANSPARENT' },
    async () => {
      const seen: string[] = [];
      const { server, port } = await nodeServer((socket) => {
        seen.push(`${socket.remoteAddress ?? ''} ${(socket.remotePort ?? 0) < 32_768}`);
        socket.destroy();
      });
      for (const isSourcePortLow of [false, true]) {
        const to = { address: '127.0.0.1', port, sourceAddress: '127.0.0.9', isSourcePortLow };
        const stream = await connectTcp(reactor, to);
        assert.equal(stream.local.address, '127.0.0.9');
        await until(() => seen.length === (isSourcePortLow ? 2 : 1), 'the connection');
        stream.reset();
      }
      assert.deepEqual(seen.sort(), ['127.0.0.9 false', '127.0.0.9 true']);
      server.close();
    },
  );

  it('is told within the call that a neighbour has accepted, or refused', async () => {
    const { server, port } = await nodeServer((socket) => socket.end('hello'));
    const { turns } = reactor;
    const stream = await connectTcp(reactor, { address: '127.0.0.1', port });
    assert.equal(reactor.turns, turns);
    const collected = collect(stream);
    await collected.end;
    assert.equal(collected.text(), 'hello');
    stream.end();
    server.close();
    await once(server, 'close');
    const before = reactor.turns;
    await assert.rejects(connectTcp(reactor, { address: '127.0.0.1', port }), StreamError);
    assert.equal(reactor.turns, before);
  });

  it('reads what lies in a socket before its owner begins, and leaves the end to it', async () => {
    const accepted: TcpStream[] = [];
    const { listener, port } = listen((stream) => void accepted.push(stream));
    const clients = Array.from({ length: 4 }, () => net.connect({ host: '127.0.0.1', port }));
    clients[1]?.write('some');
    clients[2]?.end('all');
    clients[3]?.end();
    const full = Buffer.alloc(100_000, 'x');
    await until(() => accepted.length === 4, 'connections');
    const byPort = (client?: net.Socket): TcpStream => {
      const found = accepted.find(({ peer }) => peer.port === client?.localPort);
      assert.ok(found !== undefined);
      return found;
    };
    const [silent, some, all, ended] = clients.map(byPort) as [
      TcpStream,
      TcpStream,
      TcpStream,
      TcpStream,
    ];
    await until(() => some.readEarly().length === 4, 'what it sent');
    await until(() => String(all.readEarly()) === 'all', 'what it sent');
    for (const one of [silent, some, all, ended]) assert.equal(one.readEarly().length, 0);
    clients[0]?.write(full);
    await until(() => silent.readEarly().length === 16_375, 'a part');
    const rest = collect(silent);
    await until(() => rest.bytes === full.length - 16_375, 'the rest');
    for (const one of [all, ended]) {
      const after = collect(one);
      await after.end;
      assert.equal(after.bytes, 0);
    }
    for (const one of accepted) one.reset();
    assert.equal(silent.readEarly().length, 0);
    for (const client of clients) client.on('error', () => undefined).destroy();
    listener.close();
  });

  it('fails to connect with a reason', async () => {
    const { server, port } = await nodeServer(() => undefined);
    server.close();
    await once(server, 'close');
    const refused = connectTcp(reactor, { address: '127.0.0.1', port });
    await assert.rejects(
      refused,
      (err) => err instanceof StreamError && err.reason.code === 'refused',
    );
    // No machine answers there; what the network says about it differs.
    await assert.rejects(
      connectTcp(reactor, { address: '192.0.2.1', port: 9, timeoutMs: 30 }),
      StreamError,
    );
    const controller = new AbortController();
    const aborted = connectTcp(reactor, {
      address: '127.0.0.1',
      port,
      signal: controller.signal,
    });
    controller.abort();
    await assert.rejects(aborted, StreamError);
    await assert.rejects(connectTcp(reactor, { address: 'name', port: 1 }), /not an ip address/);
  });

  it('passes 32 MiB both ways through a relay, with the counts right', async () => {
    const bytes = 32 * 1024 * 1024;
    const { server, port } = await nodeServer((socket) => socket.pipe(socket));
    const relay = listenRelay(port);
    const client = net.connect({ host: '127.0.0.1', port: relay.port, allowHalfOpen: true });
    const payload = randomBytes(bytes);
    const hash = createHash('sha256');
    client.on('data', (chunk: Buffer) => hash.update(chunk));
    client.end(payload);
    await once(client, 'end');
    assert.equal(hash.digest('hex'), createHash('sha256').update(payload).digest('hex'));
    await until(() => relay.results.length === 1, 'result');
    assert.deepEqual(relay.results[0], {
      forwardBytes: bytes,
      backwardBytes: bytes,
      reason: { code: 'ok', detail: '' },
      failedSide: undefined,
    });
    assert.ok(pipeCount() > 0, 'the kernel moved the pages');
    relay.listener.close();
    server.close();
  });

  it('copies a flow again that has become small, and loses nothing on the way', async () => {
    const { server, port } = await nodeServer((socket) => socket.pipe(socket));
    const relay = listenRelay(port);
    const client = net.connect({ host: '127.0.0.1', port: relay.port, allowHalfOpen: true });
    const sent = createHash('sha256');
    const received = createHash('sha256');
    let back = 0;
    client.on('data', (chunk: Buffer) => {
      received.update(chunk);
      back += chunk.length;
    });
    let total = 0;
    for (const size of [8 << 20, 1, 100, 20_000, 4 << 20, 3, 7, 1 << 20, 5]) {
      const chunk = randomBytes(size);
      sent.update(chunk);
      total += size;
      client.write(chunk);
      // Each waits for the one before: a large one, then silence, then a small one.
      await until(() => back === total, `${size} bytes back`);
    }
    client.end();
    await once(client, 'end');
    assert.equal(received.digest('hex'), sent.digest('hex'));
    await until(() => relay.results.length === 1, 'result');
    relay.listener.close();
    server.close();
  });

  it('passes on a reset', async () => {
    const { server, port } = await nodeServer((socket) => {
      socket.on('error', () => undefined);
      socket.once('data', () => socket.resetAndDestroy());
    });
    const relay = listenRelay(port);
    const client = net.connect({ host: '127.0.0.1', port: relay.port });
    client.write('x');
    const [err] = (await once(client, 'error')) as [NodeJS.ErrnoException];
    assert.equal(err.code, 'ECONNRESET');
    await until(() => relay.results.length === 1, 'result');
    assert.deepEqual([relay.results[0]?.reason.code, relay.results[0]?.failedSide], ['reset', 'b']);
    relay.listener.close();
    server.close();
  });

  it('holds a fast writer back while the reader sleeps', async () => {
    const sockets: net.Socket[] = [];
    const { server, port } = await nodeServer((socket) => {
      socket.pause();
      sockets.push(socket);
    });
    const relay = listenRelay(port);
    const client = net.connect({ host: '127.0.0.1', port: relay.port });
    const chunk = Buffer.alloc(1 << 20);
    let written = 0;
    const fill = (): void => {
      while (written < 200 && client.write(chunk)) written++;
    };
    client.on('drain', fill);
    fill();
    await until(() => sockets.length === 1 && client.writableNeedDrain, 'stall');
    for (let i = 0; i < 100; i++) await new Promise((resolve) => setImmediate(resolve));
    assert.ok(written < 100, `stalled after ${written} MiB`);
    sockets[0]?.resume();
    await until(() => written === 200, 'flow goes on');
    sockets[0]?.resetAndDestroy();
    client.on('error', () => undefined);
    await until(() => relay.results.length === 1, 'result');
    relay.listener.close();
    server.close();
  });

  it('holds nothing when all is closed', async () => {
    await until(() => reactor.registered === 0, 'descriptors released');
    await until(() => reactor.timers === 0, 'timers released');
    assert.equal(nativeQueueCount(), 0);
    // Flows that were reset with bytes in their pipe have closed it; a few empty ones are kept.
    assert.ok(pipeCount() <= 4);
    const stream = listen((s) => collect(s));
    stream.listener.close();
  });
});
