// The agent's ZDS server against clients on real SEQPACKET sockets.
import assert from 'node:assert/strict';
import { closeSync, mkdtempSync, openSync, rmSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { afterEach, beforeEach, describe, it } from 'node:test';
import { ZdsServer, type ZdsPod } from '../../../cni/agent/zds-server.ts';
import { systemClock } from '../../../common/clock.ts';
import {
  decodeRequest,
  encodeAck,
  encodeHello,
  type ZdsRequest,
} from '../../../common/zds/codec.ts';
import { connectSeqpacket, type SeqpacketSocket } from '../../../engine/reactor/seqpacket.ts';
import { quietLogger } from '../../support/quiet-logger.ts';

/** A node proxy that records requests and answers each with `answer`. */
class Proxy {
  readonly requests: ZdsRequest[] = [];
  readonly fds: number[] = [];
  readonly socket: SeqpacketSocket;
  readonly done: Promise<void>;

  constructor(path: string, answer: (request: ZdsRequest) => string) {
    this.socket = connectSeqpacket(path);
    this.socket.send(encodeHello());
    this.done = this.#run(answer);
  }

  async #run(answer: (request: ZdsRequest) => string): Promise<void> {
    for (;;) {
      const message = await this.socket.receive();
      if (message === undefined) return;
      for (const fd of message.fds) {
        this.fds.push(fd);
        closeSync(fd);
      }
      const request = decodeRequest(message.data);
      this.requests.push(request);
      this.socket.send(encodeAck(answer(request)));
    }
  }

  kinds(): string[] {
    return this.requests.map((request) =>
      request.kind === 'snapshotSent' ? 'snapshotSent' : `${request.kind} ${request.uid}`,
    );
  }
}

async function until(check: () => boolean): Promise<void> {
  const deadline = Date.now() + 5000;
  while (!check()) {
    assert.ok(Date.now() < deadline, 'timed out');
    await new Promise((resolve) => setTimeout(resolve, 5));
  }
}

describe('zds server', () => {
  let dir: string;
  let fd: number;
  let pods: ZdsPod[];
  let server: ZdsServer;
  let counts: number[];
  let running: Promise<void>;
  const proxies: Proxy[] = [];
  const pod = (uid: string, hasNetns = true): ZdsPod => ({
    uid,
    name: `pod-${uid}`,
    namespace: 'ns',
    serviceAccount: 'sa',
    fd: hasNetns ? fd : undefined,
  });
  const connect = (answer: (request: ZdsRequest) => string = () => ''): Proxy => {
    const proxy = new Proxy(join(dir, 'z.sock'), answer);
    proxies.push(proxy);
    return proxy;
  };

  beforeEach(() => {
    dir = mkdtempSync(join(tmpdir(), 'zds-'));
    fd = openSync('/proc/self/ns/net', 'r');
    pods = [];
    counts = [];
    server = new ZdsServer({
      path: join(dir, 'z.sock'),
      logger: quietLogger(),
      clock: systemClock,
      pods: () => pods,
      onConnections: (count) => counts.push(count),
    });
    running = server.run();
  });

  afterEach(async () => {
    server.close();
    for (const proxy of proxies.splice(0)) {
      proxy.socket.close();
      await proxy.done;
    }
    await running;
    closeSync(fd);
    rmSync(dir, { recursive: true });
  });

  it('sends the snapshot, with a descriptor for each pod whose namespace is known', async () => {
    pods = [pod('a'), pod('b', false)];
    const proxy = connect();
    await until(() => proxy.requests.length === 3);
    assert.deepEqual(proxy.kinds(), ['add a', 'keep b', 'snapshotSent']);
    assert.equal(proxy.fds.length, 1);
    const [first] = proxy.requests;
    assert.deepEqual(first, {
      kind: 'add',
      uid: 'a',
      pod: { name: 'pod-a', namespace: 'ns', serviceAccount: 'sa' },
    });
  });

  it('adds to the newest proxy and removes from all', async () => {
    const old = connect();
    await until(() => old.requests.length === 1);
    const young = connect();
    await until(() => young.requests.length === 1);
    await server.add(pod('c'));
    await server.remove('c');
    assert.deepEqual(young.kinds(), ['snapshotSent', 'add c', 'del c']);
    assert.deepEqual(old.kinds(), ['snapshotSent', 'del c']);
  });

  it('gives the older proxy what only the newest had when that one goes', async () => {
    const old = connect();
    await until(() => old.requests.length === 1);
    const young = connect();
    await until(() => young.requests.length === 1);
    await server.add(pod('c'));
    pods = [pod('c')];
    young.socket.close();
    await until(() => old.requests.length === 2);
    assert.deepEqual(old.kinds(), ['snapshotSent', 'add c']);
    assert.deepEqual(counts, [1, 2, 1]);
  });

  it('fails an add with the reason of the proxy, and keeps the connection', async () => {
    const proxy = connect((request) => (request.kind === 'add' ? 'failure to start proxy' : ''));
    await until(() => proxy.requests.length === 1);
    await assert.rejects(server.add(pod('x')), /failure to start proxy/);
    assert.equal(server.connected, 1);
  });

  it('fails an add when no proxy is connected', async () => {
    await assert.rejects(server.add(pod('x')), { code: 'no_proxy' });
  });

  it('drops a peer that does not begin with hello', async () => {
    const socket = connectSeqpacket(join(dir, 'z.sock'));
    socket.send(Buffer.from([0xff, 0xff, 0xff]));
    assert.equal(await socket.receive(), undefined);
    socket.close();
    assert.equal(server.connected, 0);
  });
});
