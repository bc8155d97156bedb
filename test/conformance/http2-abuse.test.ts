// Peers with a good certificate that abuse HTTP/2 on 15008: each is cut off and counted, memory stays bounded, and a
// tunnel beside it goes on. Frames are written by hand; the control plane is the double of istiod.
import assert from 'node:assert/strict';
import { once } from 'node:events';
import type { ClientHttp2Stream } from 'node:http2';
import { createServer } from 'node:net';
import { connect as connectTls } from 'node:tls';
import type { TLSSocket } from 'node:tls';
import { after, before, describe, it } from 'node:test';
import {
  CONTINUATION,
  DATA,
  END_HEADERS,
  HEADERS,
  PING,
  PREFACE,
  RST_STREAM,
  SETTINGS,
  connectBlock,
  frame,
} from '../support/http2-frames.ts';
import { eventually } from '../support/netns-mesh.ts';
import { NearZtunnel } from './hbone-peers.ts';
import { Istiod } from './istiod.ts';
import { ProxyProcess } from './proxy.ts';
import { play } from './transcript.ts';

const POD = '127.0.0.9';
const ID = 'spiffe://cluster.local/ns/default/sa/server';
const MAX_GROWTH_BYTES = 48 << 20;
/** All that one abuse may send before it must have been cut off. */
const MAX_SENT_BYTES = 64 << 20;
const BLOCK_BYTES = 256 << 10;

const CONNECT = connectBlock(`${POD}:9090`);
const FILLER = Buffer.concat([Buffer.from([0, 1, 0x61, 100]), Buffer.alloc(100, 0x62)]);

/** What is sent after the preface: frame number n, from 0, without end. */
const ABUSES: Readonly<Record<string, (n: number) => Buffer<ArrayBuffer>>> = {
  'rapid reset': (n) =>
    Buffer.concat([
      frame(HEADERS, END_HEADERS, 2 * n + 1, CONNECT),
      frame(RST_STREAM, 0, 2 * n + 1, Buffer.from([0, 0, 0, 8])),
    ]),
  'a CONTINUATION flood': (n) =>
    n === 0 ? frame(HEADERS, 0, 1, CONNECT) : frame(CONTINUATION, 0, 1, FILLER),
  'empty CONTINUATION frames': (n) =>
    n === 0 ? frame(HEADERS, 0, 1, CONNECT) : frame(CONTINUATION, 0, 1),
  'a SETTINGS flood': () => frame(SETTINGS, 0, 0),
  'a SETTINGS frame of a thousand entries': () =>
    frame(SETTINGS, 0, 0, Buffer.alloc(6000, Buffer.from([0, 3, 0, 0, 0, 1]))),
  'a PING flood': () => frame(PING, 0, 0, Buffer.alloc(8)),
  'bad HPACK': (n) => frame(HEADERS, END_HEADERS, 2 * n + 1, Buffer.alloc(5, 0xff)),
  'a frame larger than agreed': (n) => frame(DATA, 0, 2 * n + 1, Buffer.alloc((1 << 20) + 1)),
  'streams without end': (n) => frame(HEADERS, END_HEADERS, 2 * n + 1, CONNECT),
};

/** 4,000 bytes put into the dynamic table, and then named 16,000 times: 64 MB of headers in 20 kB. */
const BOMB = Buffer.concat([
  connectBlock(`${POD}:9092`),
  Buffer.from([0x40, 1, 0x61, 0x7f, 0xa1, 0x1e]),
  Buffer.alloc(4000, 0x62),
  Buffer.alloc(16_000, 0xbe),
]);
/** INITIAL_WINDOW_SIZE of 0. */
const ZERO_WINDOWS = frame(SETTINGS, 0, 0, Buffer.from([0, 4, 0, 0, 0, 0]));
const STALLED_STREAMS = 190;
/** Under the 65,535 that hold until settings are acknowledged. */
const STALLED_BYTES = 60 << 10;

const istiod = new Istiod();
const proxy = new ProxyProcess();
const near = new NearZtunnel(istiod.peer(ID));
const appSaw = { bombs: 0, bytes: 0 };
const bombed = createServer(() => {
  appSaw.bombs++;
});
const app = createServer((socket) => {
  socket.on('data', (chunk: Buffer) => (appSaw.bytes += chunk.length));
  socket.on('error', () => undefined);
  socket.pipe(socket);
});

before(async () => {
  const address = `https://127.0.0.1:${await istiod.listen()}`;
  const root = proxy.file('root.pem', istiod.root.certPem);
  proxy.start({
    ...{ PROXY_MODE: 'dedicated', PROXY_WORKLOAD_INFO: 'default/client/client', NETWORK: 'here' },
    ...{ XDS_ADDRESS: address, XDS_ROOT_CA: root, ALT_XDS_HOSTNAME: 'istiod.test' },
    ...{ CA_ADDRESS: address, CA_ROOT_CA: root, ALT_CA_HOSTNAME: 'istiod.test' },
    ...{ NODE_NAME: 'node-1', INSTANCE_IP: '10.1.2.3', ISTIO_META_CLUSTER_ID: 'east' },
    ...{ POD_NAME: 'ztunnel-x', POD_NAMESPACE: 'istio-system', SERVICE_ACCOUNT: 'ztunnel' },
    ...{ ISTIO_META_FLAVOUR: 'plain', ENABLE_ORIG_SRC: 'false' },
  });
  await play('warm-up', istiod, proxy);
  app.listen(9090, POD);
  await once(app, 'listening');
  await near.open(POD);
});

after(async () => {
  near.close();
  app.close();
  await proxy.close();
  istiod.close();
});

async function openAbuser(): Promise<TLSSocket> {
  const socket = connectTls({
    ...{ host: POD, port: 15_008, ...istiod.peer(ID), ALPNProtocols: ['h2'] },
    rejectUnauthorized: false,
  });
  socket.on('error', () => undefined);
  await once(socket, 'secureConnect');
  socket.write(Buffer.concat([PREFACE, frame(SETTINGS, 0, 0)]));
  return socket;
}

/** Sends until it is cut off; fails when that does not come. */
async function abuse(next: (n: number) => Buffer<ArrayBuffer>): Promise<void> {
  const socket = await openAbuser();
  socket.resume();
  const state = { isCut: false };
  const closed = new Promise<void>((resolve) =>
    socket.once('close', () => {
      state.isCut = true;
      resolve();
    }),
  );
  let n = 0;
  for (let sent = 0; sent < MAX_SENT_BYTES && !state.isCut;) {
    const frames: Buffer<ArrayBuffer>[] = [];
    let bytes = 0;
    for (; bytes < BLOCK_BYTES; n++) {
      const one = next(n);
      frames.push(one);
      bytes += one.length;
    }
    sent += bytes;
    if (!socket.write(Buffer.concat(frames)))
      await Promise.race([closed, once(socket, 'drain').catch(() => undefined)]);
    else await new Promise((resolve) => setImmediate(resolve));
  }
  const patience = setTimeout(() => socket.destroy(new Error('not cut off')), 25_000);
  socket.resume();
  await closed;
  clearTimeout(patience);
  assert.notEqual(socket.errored?.message, 'not cut off');
}

/** Lines of connections that were cut for what their peer did with HTTP/2. */
async function counted(): Promise<number> {
  const lines = (await proxy.metrics()).split('\n');
  return lines
    .filter((line) => line.startsWith('ambient_') && line.includes('reason="h2_failure"'))
    .reduce((sum, line) => sum + Number(line.slice(line.lastIndexOf(' ') + 1)), 0);
}

function checkGrowth(before: number): void {
  const grown = proxy.residentBytes() - before;
  assert.ok(grown < MAX_GROWTH_BYTES, `${grown >> 20} MB more`);
}

let healthy: ClientHttp2Stream;

async function ping(text: string): Promise<void> {
  healthy.write(text);
  const [answer] = (await once(healthy, 'data')) as [Buffer];
  assert.equal(answer.toString(), text);
}

describe('abuse of HTTP/2 on 15008', () => {
  it('a tunnel runs beside it', async () => {
    const { headers, stream } = await near.request(`${POD}:9090`);
    assert.equal(headers[':status'], 200);
    healthy = stream;
    await ping('before');
  });

  for (const [name, next] of Object.entries(ABUSES)) {
    it(`${name}: cut off, counted, memory bounded, the tunnel goes on`, async () => {
      const [was, resident] = [await counted(), proxy.residentBytes()];
      await abuse(next);
      await eventually('it is counted', async () => (await counted()) > was, 5000);
      checkGrowth(resident);
      await ping(name);
    });
  }

  it('header bombs are refused and never reach the application, memory bounded', async () => {
    const resident = proxy.residentBytes();
    bombed.listen(9092, POD);
    const socket = await openAbuser();
    socket.resume();
    for (let n = 0; n < 20; n++) socket.write(frame(HEADERS, END_HEADERS, 2 * n + 1, BOMB));
    const taken = appSaw.bytes;
    socket.write(
      Buffer.concat([frame(HEADERS, END_HEADERS, 41, CONNECT), frame(DATA, 0, 41, BOMB)]),
    );
    await eventually('all were judged', () => socket.destroyed || appSaw.bytes > taken);
    await ping('beside bombs');
    checkGrowth(resident);
    assert.equal(appSaw.bombs, 0);
    bombed.close();
    socket.destroy();
  });

  it('zero windows: what is not taken waits within bounds, the tunnel goes on', async () => {
    const [resident, taken] = [proxy.residentBytes(), appSaw.bytes];
    const socket = await openAbuser();
    socket.resume();
    socket.write(ZERO_WINDOWS);
    const body = Buffer.alloc(15 << 10);
    for (let n = 0; n < STALLED_STREAMS; n++) {
      socket.write(frame(HEADERS, END_HEADERS, 2 * n + 1, CONNECT));
      for (let sent = 0; sent < STALLED_BYTES; sent += body.length)
        socket.write(frame(DATA, 0, 2 * n + 1, body));
    }
    const all = taken + STALLED_STREAMS * STALLED_BYTES;
    await eventually('the application has it all', () => appSaw.bytes >= all);
    await ping('beside zero windows');
    checkGrowth(resident);
    assert.equal(socket.destroyed, false);
    socket.destroy();
  });
});
