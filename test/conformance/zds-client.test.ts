// Istio's ztunnel as a client of our node agent's socket, by bytes: its hello and its answers as its source has them; and
// clients that are broken, which lose their session and nothing else.
import assert from 'node:assert/strict';
import {
  closeSync,
  mkdtempSync,
  openSync,
  readdirSync,
  readlinkSync,
  rmSync,
  writeSync,
} from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { after, before, describe, it } from 'node:test';
import { ZdsServer } from '../../cni/agent/zds-server.ts';
import { systemClock } from '../../common/clock.ts';
import { connectSeqpacket } from '../../engine/reactor/seqpacket.ts';
import type { SeqpacketSocket } from '../../engine/reactor/seqpacket.ts';
import { eventually } from '../support/netns-mesh.ts';
import { quietLogger } from '../support/quiet-logger.ts';
import { encodeMessage } from './wire.ts';

const HELLO: Buffer = Buffer.from('0801', 'hex');
/** A WorkloadResponse with an Ack that says nothing. */
const ACK: Buffer = Buffer.from('0a00', 'hex');
const refusal = (text: string): Buffer => encodeMessage({ 1: { 1: text } });
const POD = { uid: 'uid-1', name: 'web-1', namespace: 'default', serviceAccount: 'web' };
const ADD = encodeMessage({ 1: { 1: 'uid-1', 2: { 1: 'web-1', 2: 'default', 3: 'web' } } });
const DEL = encodeMessage({ 2: { 2: 'uid-1' } });
const SNAPSHOT_SENT = encodeMessage({ 3: {} });

const dir = mkdtempSync(join(tmpdir(), 'zds-'));
const namespace = openSync('/proc/self/ns/net', 'r');
const pods: { fd: number }[] = [];
const server = new ZdsServer({
  path: join(dir, 'z.sock'),
  logger: quietLogger(),
  clock: systemClock,
  pods: () => pods.map((pod) => ({ ...POD, ...pod })),
  onConnections: () => undefined,
});
let running: Promise<void>;
let client: SeqpacketSocket;

before(() => {
  running = server.run();
});

after(async () => {
  server.close();
  await running;
  closeSync(namespace);
  rmSync(dir, { recursive: true });
});

function connect(hello = HELLO, fds: readonly number[] = []): void {
  client = connectSeqpacket(join(dir, 'z.sock'));
  client.send(hello, fds);
}

/** The next request, in hex, and how many descriptors came with it. */
async function next(): Promise<readonly [string, number]> {
  const { data = Buffer.alloc(0), fds = [] } = (await client.receive()) ?? {};
  for (const fd of fds) closeSync(fd);
  return [data.toString('hex'), fds.length];
}

async function answer(bytes: Buffer, fds: readonly number[] = []): Promise<void> {
  client.send(bytes, fds);
  await new Promise((resolve) => setImmediate(resolve));
}

/** A client whose snapshot is over. */
async function connected(): Promise<void> {
  await eventually('the one before has gone', () => server.connected === 0);
  connect();
  assert.deepEqual(await next(), [SNAPSHOT_SENT.toString('hex'), 0]);
  await answer(ACK);
}

async function hasEnded(): Promise<void> {
  assert.deepEqual(await next(), ['', 0]);
  client.close();
  await eventually('the session has ended', () => server.connected === 0);
}

/** Descriptors of this process that are sockets, each with what tells it from others. */
function socketsOpen(): Map<number, string> {
  const links = readdirSync('/proc/self/fd').map((fd): [number, string] => {
    try {
      return [Number(fd), readlinkSync(`/proc/self/fd/${fd}`)];
    } catch {
      return [Number(fd), ''];
    }
  });
  return new Map(links.filter(([, link]) => link.startsWith('socket:')));
}

describe('Istio’s ztunnel', () => {
  it('says hello and is sent the snapshot, a request at a time, a namespace with each pod', async () => {
    pods.push({ fd: namespace });
    connect();
    assert.deepEqual(await next(), [ADD.toString('hex'), 1]);
    await answer(ACK);
    assert.deepEqual(await next(), [SNAPSHOT_SENT.toString('hex'), 0]);
    await answer(ACK);
    pods.length = 0;
  });

  it('is told of pods that come and go', async () => {
    const added = server.add({ ...POD, fd: namespace });
    assert.deepEqual(await next(), [ADD.toString('hex'), 1]);
    await answer(ACK);
    await added;
    const removed = server.remove(POD.uid);
    assert.deepEqual(await next(), [DEL.toString('hex'), 0]);
    await answer(ACK);
    await removed;
  });

  it('refuses a pod with its reason, which the runtime is told, and stays', async () => {
    const added = server.add({ ...POD, fd: namespace });
    await next();
    await answer(refusal('failure to start proxy : address in use'));
    await assert.rejects(added, /failure to start proxy : address in use/);
    assert.equal(server.connected, 1);
    client.close();
  });

  const HELLOS: readonly (readonly [string, Buffer])[] = [
    ['of no version', Buffer.from('0800', 'hex')],
    ['of a later version', Buffer.from('0802', 'hex')],
    ['that is no message', Buffer.from('ffffff', 'hex')],
    ['that is an answer', ACK],
  ];
  for (const [claim, hello] of HELLOS) {
    it(`with a hello ${claim} is sent nothing`, async () => {
      connect(hello);
      await hasEnded();
    });
  }

  const ANSWERS: readonly (readonly [string, Buffer, number])[] = [
    ['without content', Buffer.from('1000', 'hex'), 0],
    ['that is no message', Buffer.from('ffffff', 'hex'), 0],
    ['with a descriptor', ACK, 1],
    ['with as many descriptors as can be', ACK, 16],
    ['that is cut short', refusal('in use').subarray(0, -3), 0],
  ];
  for (const [claim, bytes, count] of ANSWERS) {
    it(`with an answer ${claim} loses its session; its descriptors are closed`, async () => {
      await connected();
      const open = readdirSync('/proc/self/fd').length;
      const added = server.add({ ...POD, fd: namespace }).catch(() => undefined);
      await next();
      await answer(
        bytes,
        Array.from({ length: count }, () => namespace),
      );
      await hasEnded();
      await added;
      // The client's and the server's end have gone too.
      await eventually('closed', () => readdirSync('/proc/self/fd').length <= open - 2);
    });
  }

  it('with an answer that is too long loses its session', async () => {
    await eventually('the one before has gone', () => server.connected === 0);
    const before = new Set(socketsOpen().values());
    client = connectSeqpacket(join(dir, 'z.sock'));
    const own = [...socketsOpen()].find(([, socket]) => !before.has(socket))?.[0];
    assert.ok(own !== undefined);
    client.send(HELLO);
    assert.deepEqual(await next(), [SNAPSHOT_SENT.toString('hex'), 0]);
    // Our own sender would refuse it.
    writeSync(own, Buffer.alloc(20_000, 1));
    await hasEnded();
  });

  it('with more fields than are known in hello and answer is understood', async () => {
    await eventually('the one before has gone', () => server.connected === 0);
    connect(encodeMessage({ 1: 1, 9: 'later' }));
    assert.deepEqual(await next(), [SNAPSHOT_SENT.toString('hex'), 0]);
    await answer(encodeMessage({ 1: { 7: 'later' }, 9: 1 }));
    const removed = server.remove(POD.uid);
    assert.deepEqual(await next(), [DEL.toString('hex'), 0]);
    await answer(ACK);
    await removed;
    client.close();
  });

  it('that answers what was not asked loses its session', async () => {
    await connected();
    await answer(ACK);
    await hasEnded();
  });

  it('that goes without an answer fails the pod that waits for it', async () => {
    await connected();
    const added = server.add({ ...POD, fd: namespace });
    await next();
    client.close();
    await assert.rejects(added, /connection closed/);
  });
});
