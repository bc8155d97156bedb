// Istio's CNI agent over the ZDS socket, packets written by field number, against our node proxy in shared mode with a
// pod's network namespace: hello, snapshot, add, del, a new session that keeps. No node agent of ours is here.
import assert from 'node:assert/strict';
import { spawn } from 'node:child_process';
import type { ChildProcess } from 'node:child_process';
import { closeSync, openSync, readFileSync, readdirSync, readlinkSync, writeSync } from 'node:fs';
import { join } from 'node:path';
import { after, before, describe, it } from 'node:test';
import { systemClock } from '../../common/clock.ts';
import { createRoot } from '../../common/identity/ca.ts';
import { SeqpacketServer } from '../../engine/reactor/seqpacket.ts';
import type { SeqpacketSocket } from '../../engine/reactor/seqpacket.ts';
import { eventually } from '../support/netns-mesh.ts';
import { ProxyProcess } from './proxy.ts';
import { decodeMessage, encodeMessage, messagesOf, textOf } from './wire.ts';
import type { Message } from './wire.ts';

const HELLO = '0801';
const ACK = '0a00';
const UID = '5ac64ea6-0000-4000-8000-000000000001';
const ADD: Message = { 1: { 1: UID, 2: { 1: 'web-1', 2: 'default', 3: 'web' } } };
const KEEP: Message = { 5: { 1: UID } };
const DEL: Message = { 2: { 2: UID } };
const SNAPSHOT_SENT: Message = { 3: {} };
const TOO_LONG_BYTES = 20_000;

const proxy = new ProxyProcess();
const agent = SeqpacketServer.listen(join(proxy.dir, 'zds.sock'));
let pod: ChildProcess;
let session: SeqpacketSocket;

before(async () => {
  const root = createRoot('cluster.local', systemClock);
  pod = spawn('unshare', ['-n', 'sh', '-c', 'ip link set lo up && exec sleep 120']);
  const own = readlinkSync('/proc/self/ns/net');
  await eventually('the pod has a namespace', () => {
    return readlinkSync(`/proc/${pod.pid ?? 0}/ns/net`) !== own;
  });
  proxy.start({
    ...{ INPOD_UDS: agent.path, XDS_ADDRESS: '', LOCAL_XDS: 'workloads: []' },
    ...{ FAKE_CA: 'true', FAKE_CA_ROOT: proxy.file('ca.pem', root.certPem + root.keyPem) },
  });
});

after(async () => {
  session.close();
  agent.close();
  await proxy.close();
  pod.kill('SIGKILL');
});

async function accept(): Promise<string> {
  const socket = await agent.accept();
  assert.ok(socket !== undefined);
  session = socket;
  return received();
}

async function received(): Promise<string> {
  return Buffer.from((await session.receive())?.data ?? []).toString('hex');
}

/** Sends a request, with the pod's namespace if asked for; the answer in hex. */
async function say(message: Message, hasNamespace = false): Promise<string> {
  const fds = hasNamespace ? [openSync(`/proc/${pod.pid ?? 0}/ns/net`, 'r')] : [];
  session.send(encodeMessage(message), fds);
  for (const fd of fds) closeSync(fd);
  return received();
}

/** What the proxy says is wrong with a message that comes with so many descriptors. */
async function errorOf(message: Message | Buffer, descriptors: number): Promise<string> {
  const namespace = `/proc/${pod.pid ?? 0}/ns/net`;
  const fds = Array.from({ length: descriptors }, () => openSync(namespace, 'r'));
  session.send(Buffer.isBuffer(message) ? message : encodeMessage(message), fds);
  for (const fd of fds) closeSync(fd);
  return errorIn(session);
}

/** The text of the next answer. */
async function errorIn(from: SeqpacketSocket): Promise<string> {
  const answer = decodeMessage(Buffer.from((await from.receive())?.data ?? []));
  return messagesOf(answer, 1).map((ack) => textOf(ack, 1))[0] ?? 'nothing';
}

/** Our end of the connection that was taken at a path; written to, it sends what our own sender would refuse. */
function descriptorAt(path: string): number {
  const CONNECTED = '03';
  const inodes = readFileSync('/proc/net/unix', 'utf8')
    .split('\n')
    .map((line) => line.trim().split(/\s+/))
    .filter((fields) => fields[7] === path && fields[5] === CONNECTED)
    .map((fields) => `socket:[${fields[6] ?? ''}]`);
  const found = readdirSync('/proc/self/fd').find((fd) => inodes.includes(linkOf(fd)));
  assert.ok(found !== undefined, path);
  return Number(found);
}

/** Empty where the descriptor has gone. */
function linkOf(fd: string): string {
  try {
    return readlinkSync(`/proc/self/fd/${fd}`);
  } catch {
    return '';
  }
}

async function stateOfPod(): Promise<string | undefined> {
  const { workloadState } = await proxy.dump();
  return (workloadState as Record<string, { state: string }>)[UID]?.state;
}

describe('Istio’s CNI agent', () => {
  it('is greeted with version 1, and the proxy is not ready before the snapshot', async () => {
    assert.equal(await accept(), HELLO);
    await eventually('it is up', async () => (await proxy.readiness()).status === 500);
    assert.match((await proxy.readiness()).text, /workload proxy manager/);
  });

  it('adds a pod with its namespace, ends the snapshot, and the proxy is ready', async () => {
    assert.equal(await say(ADD, true), ACK);
    assert.equal(await say(SNAPSHOT_SENT), ACK);
    await proxy.whenReady();
    assert.equal(await stateOfPod(), 'Up');
  });

  it('adds the same pod again: acknowledged, nothing changes', async () => {
    assert.equal(await say(ADD, true), ACK);
    assert.equal(await stateOfPod(), 'Up');
  });

  it('comes back after a restart and keeps the pod without its namespace', async () => {
    session.close();
    assert.equal(await accept(), HELLO);
    assert.equal(await say(KEEP), ACK);
    assert.equal(await say(SNAPSHOT_SENT), ACK);
    await proxy.whenReady();
    assert.equal(await stateOfPod(), 'Up');
  });

  // What is said; how many descriptors of namespaces come with it; what is answered before the proxy hangs up.
  const BAD: readonly (readonly [string, Message | Buffer, number, RegExp])[] = [
    ['an add without a namespace', ADD, 0, /^failure to read message : add with 0 descriptors/],
    ['an add with two namespaces', ADD, 2, /^failure to read message : add with 2 descriptors/],
    ['an add with 17 namespaces', ADD, 17, /^failure to read message : add with 17 descriptors/],
    ['an add with 253 namespaces', ADD, 253, /^failure to read message : add with 253 descr/],
    ['a del with a namespace', DEL, 1, /^failure to read message : del with 1 descriptors/],
    ['an add of nobody', { 1: { 1: UID } }, 1, /^failure to read message : .*workload info/],
    ['a message without content', { 4: 1 }, 0, /^failure to read message : .*payload/],
    ['bytes that are no message', Buffer.from('ffffff', 'hex'), 0, /^failure to read message/],
    ['a message that is cut short', encodeMessage(ADD).subarray(0, -3), 1, /^failure to read/],
    ['a keep after the snapshot', KEEP, 0, /^failure to process message : keep after/],
    ['a second snapshot', SNAPSHOT_SENT, 0, /^failure to process message : second snapshot/],
  ];
  for (const [claim, message, descriptors, answer] of BAD) {
    it(`sends ${claim}: told so, it may come again, and the pod is served all the while`, async () => {
      assert.match(await errorOf(message, descriptors), answer);
      assert.equal((await session.receive())?.data, undefined);
      assert.equal(await stateOfPod(), 'Up');
      session.close();
      assert.equal(await accept(), HELLO);
      assert.equal(await say(KEEP), ACK);
      assert.equal(await say(SNAPSHOT_SENT), ACK);
      await proxy.whenReady();
    });
  }

  it('sends a message that is too long: told so, it may come again, and the pod is served all the while', async () => {
    writeSync(descriptorAt(agent.path), Buffer.alloc(TOO_LONG_BYTES, 1));
    assert.match(await errorIn(session), /^failure to read message : .*too large/);
    assert.equal((await session.receive())?.data, undefined);
    assert.equal(await stateOfPod(), 'Up');
    session.close();
    assert.equal(await accept(), HELLO);
    assert.equal(await say(KEEP), ACK);
    assert.equal(await say(SNAPSHOT_SENT), ACK);
    await proxy.whenReady();
  });

  it('may say more than is known: unknown fields are passed over', async () => {
    const more: Message = {
      1: { 1: UID, 2: { 1: 'web-1', 2: 'default', 3: 'web', 9: 'x' }, 7: 1 },
    };
    assert.equal(await say({ ...more, 15: 'later' }, true), ACK);
    assert.equal(await stateOfPod(), 'Up');
  });

  it('goes in the middle of a snapshot: the pod is served, the proxy is not ready, the next snapshot decides', async () => {
    session.close();
    assert.equal(await accept(), HELLO);
    session.close();
    assert.equal(await accept(), HELLO);
    assert.equal((await proxy.readiness()).status, 500);
    assert.equal(await stateOfPod(), 'Up');
    assert.equal(await say(KEEP), ACK);
    assert.equal(await say(SNAPSHOT_SENT), ACK);
    await proxy.whenReady();
    assert.equal(await stateOfPod(), 'Up');
  });

  it('takes pods away, known ones and unknown ones', async () => {
    assert.equal(await say(DEL), ACK);
    assert.equal(await stateOfPod(), undefined);
    assert.equal(await say({ 2: { 2: 'nobody' } }), ACK);
  });
});
