// ZDS sessions as playbooks: requests in, pod changes out. Names after Istio ztunnel's inpod tests.
import assert from 'node:assert/strict';
import { describe, it } from 'node:test';
import { decodeAck, decodeRequest, encodeRequest } from '../../../../common/zds/codec.ts';
import type { ZdsRequest } from '../../../../common/zds/codec.ts';
import { PodRegistry } from '../../../../ztunnel/inpod/zds-session.ts';
import type { NetnsHandle } from '../../../../ztunnel/inpod/zds-session.ts';

const pod = { name: 'p', namespace: 'n', serviceAccount: 's' };

class Handle implements NetnsHandle {
  readonly id: string;
  isClosed = false;
  constructor(id: string) {
    this.id = id;
  }
  close(): void {
    this.isClosed = true;
  }
}

function setUp(): {
  registry: PodRegistry<Handle>;
  events: string[];
  failing: Set<string>;
  send: (request: ZdsRequest, ...handles: Handle[]) => Promise<string | undefined>;
  add: (uid: string, netns?: string) => Promise<string | undefined>;
} {
  const events: string[] = [];
  const failing = new Set<string>();
  const registry = new PodRegistry<Handle>({
    start: (uid, _pod, netns) => {
      if (failing.has(uid)) return Promise.reject(new Error('address in use'));
      events.push(`start ${uid} ${netns.id}`);
      return Promise.resolve();
    },
    stop: (uid) => {
      events.push(`stop ${uid}`);
      return Promise.resolve();
    },
  });
  registry.beginSession();
  const send = async (request: ZdsRequest, ...handles: Handle[]): Promise<string | undefined> =>
    decodeAck(await registry.handle(encodeRequest(request), handles));
  const add = (uid: string, netns = uid): Promise<string | undefined> =>
    send({ kind: 'add', uid, pod }, new Handle(netns));
  return { registry, events, failing, send, add };
}

describe('PodRegistry', () => {
  it('starts pods and is ready after the snapshot', async () => {
    const { registry, events, send, add } = setUp();
    assert.equal(await add('a'), undefined);
    assert.equal(registry.isReady, false);
    await send({ kind: 'snapshotSent' });
    assert.equal(registry.isReady, true);
    assert.deepEqual(events, ['start a a']);
  });

  it('the same pod and namespace again changes nothing', async () => {
    const { events, add } = setUp();
    await add('a');
    await add('a');
    assert.deepEqual(events, ['start a a']);
  });

  it('another namespace under the same uid replaces the proxy', async () => {
    const { events, add } = setUp();
    await add('a', 'one');
    await add('a', 'two');
    assert.deepEqual(events, ['start a one', 'stop a', 'start a two']);
  });

  it('a start that fails is answered, kept pending and tried again', async () => {
    const { registry, events, failing, send, add } = setUp();
    failing.add('a');
    assert.match((await add('a')) ?? '', /failure to start proxy : address in use/);
    await send({ kind: 'snapshotSent' });
    assert.equal(registry.isReady, false);
    failing.clear();
    await registry.retryPending();
    assert.equal(registry.isReady, true);
    assert.deepEqual(events, ['start a a']);
  });

  it('a new session stops pods that it does not name', async () => {
    const { registry, events, send, add } = setUp();
    for (const uid of ['a', 'b', 'c']) await add(uid);
    await send({ kind: 'snapshotSent' });
    registry.beginSession();
    assert.equal(registry.isReady, false);
    await add('a');
    await send({ kind: 'keep', uid: 'b' });
    await send({ kind: 'snapshotSent' });
    assert.deepEqual(events.slice(3), ['stop c']);
  });

  it('what waits for its port waits beyond its session, as long as snapshots name it', async () => {
    const { registry, events, failing, send, add } = setUp();
    failing.add('a').add('b');
    for (const uid of ['a', 'b']) await add(uid);
    await send({ kind: 'snapshotSent' });
    registry.beginSession();
    await send({ kind: 'keep', uid: 'a' });
    await send({ kind: 'snapshotSent' });
    assert.equal(registry.isReady, false);
    failing.clear();
    await registry.retryPending();
    assert.deepEqual(events, ['start a a']);
    assert.equal(registry.isReady, true);
  });

  it('del before the snapshot waits for the reconcile', async () => {
    const { registry, events, send, add } = setUp();
    await add('a');
    await send({ kind: 'snapshotSent' });
    registry.beginSession();
    await add('a');
    await send({ kind: 'del', uid: 'a' });
    assert.deepEqual(events, ['start a a']);
    await send({ kind: 'snapshotSent' });
    assert.deepEqual(events, ['start a a', 'stop a']);
  });

  it('del after the snapshot stops at once; an unknown uid is fine', async () => {
    const { events, send, add } = setUp();
    await add('a');
    await send({ kind: 'snapshotSent' });
    await send({ kind: 'del', uid: 'a' });
    await send({ kind: 'del', uid: 'unknown' });
    assert.deepEqual(events, ['start a a', 'stop a']);
  });

  const broken: ReadonlyArray<{ name: string; request: ZdsRequest; handles: number }> = [
    { name: 'add without a namespace', request: { kind: 'add', uid: 'a', pod }, handles: 0 },
    { name: 'add with two namespaces', request: { kind: 'add', uid: 'a', pod }, handles: 2 },
    { name: 'del with a namespace', request: { kind: 'del', uid: 'a' }, handles: 1 },
  ];
  for (const { name, request, handles } of broken) {
    it(`${name} breaks the session and closes the descriptors`, async () => {
      const { send } = setUp();
      const given = Array.from({ length: handles }, (_, at) => new Handle(String(at)));
      await assert.rejects(send(request, ...given), { code: 'zds_protocol' });
      assert.ok(given.every(({ isClosed }) => isClosed));
    });
  }

  it('keep after the snapshot and a second snapshot are protocol errors', async () => {
    const { send } = setUp();
    await send({ kind: 'snapshotSent' });
    await assert.rejects(send({ kind: 'keep', uid: 'a' }), { code: 'zds_protocol' });
    await assert.rejects(send({ kind: 'snapshotSent' }), { code: 'zds_protocol' });
  });

  it('add without workload info is refused', () => {
    // AddWorkload with a uid only, as bytes.
    const bytes = Uint8Array.from([0x0a, 0x03, 0x0a, 0x01, 0x61]);
    assert.throws(() => decodeRequest(bytes), /without workload info/);
  });
});
