// ZDS sessions where starts take time and fail: retries beside requests, sessions that break off in the middle of a
// snapshot, and random ones, from printed seeds, against the rules that hold always.
import assert from 'node:assert/strict';
import { describe, it } from 'node:test';
import { decodeAck, encodeRequest } from '../../../../common/zds/codec.ts';
import type { ZdsRequest } from '../../../../common/zds/codec.ts';
import { PodRegistry } from '../../../../ztunnel/inpod/zds-session.ts';
import { settle } from '../../../support/fake-clock.ts';
import { generator } from '../../../support/seeded-random.ts';

interface Handle {
  readonly id: string;
  isClosed: boolean;
  close(): void;
}

const POD = { name: 'p', namespace: 'n', serviceAccount: 's' };

/** The node: what runs where, with starts that are held and fail as told. */
class Node {
  readonly running = new Map<string, Handle>();
  readonly handles: Handle[] = [];
  readonly events: string[] = [];
  readonly failing = new Set<string>();
  /** What may never be; the registry takes what a start throws for a failure of the start. */
  readonly problems: string[] = [];
  isHolding = false;
  #held: (() => void)[] = [];
  readonly registry = new PodRegistry<Handle>({
    start: async (uid, _pod, netns) => {
      await this.#mayWait();
      if (netns.isClosed) this.problems.push(`${uid} starts in a namespace that is closed`);
      if (this.failing.has(uid)) throw new Error('address in use');
      if (this.running.has(uid)) this.problems.push(`${uid} runs twice`);
      this.running.set(uid, netns);
      this.events.push(`start ${uid}`);
    },
    stop: async (uid) => {
      await this.#mayWait();
      assert.ok(this.running.delete(uid), `${uid} is stopped and does not run`);
      this.events.push(`stop ${uid}`);
    },
  });

  async #mayWait(): Promise<void> {
    if (this.isHolding) await new Promise<void>((resolve) => this.#held.push(resolve));
  }

  get held(): number {
    return this.#held.length;
  }

  go(): void {
    for (const one of this.#held.splice(0)) one();
  }

  async finish(): Promise<void> {
    this.isHolding = false;
    this.go();
    await settle();
  }

  handle(id: string): Handle {
    const handle = {
      id,
      isClosed: false,
      close: () => {
        if (handle.isClosed) this.problems.push(`${id} is closed twice`);
        handle.isClosed = true;
      },
    };
    this.handles.push(handle);
    return handle;
  }

  async send(request: ZdsRequest, netns?: string): Promise<string | undefined> {
    const handles = netns === undefined ? [] : [this.handle(netns)];
    return decodeAck(await this.registry.handle(encodeRequest(request), handles));
  }

  add(uid: string, netns = uid): Promise<string | undefined> {
    return this.send({ kind: 'add', uid, pod: POD }, netns);
  }

  /** No rule was broken, and every namespace is closed but those of pods that are known. */
  check(): void {
    assert.deepEqual(this.problems, []);
    const open = this.handles.filter(({ isClosed }) => !isClosed).length;
    assert.equal(open, this.registry.states().length, 'open namespaces');
  }
}

describe('ZDS playbook', () => {
  it('a pod that leaves while it is tried again does not run afterwards', async () => {
    const node = new Node();
    node.failing.add('a');
    await node.add('a');
    await node.send({ kind: 'snapshotSent' });
    node.failing.clear();
    node.isHolding = true;
    const retry = node.registry.retryPending();
    const del = node.send({ kind: 'del', uid: 'a' });
    await settle();
    await node.finish();
    await Promise.all([retry, del]);
    assert.deepEqual([...node.running.keys()], []);
    node.check();
  });

  it('two retries at once start a pod once', async () => {
    const node = new Node();
    node.failing.add('a');
    await node.add('a');
    node.failing.clear();
    node.isHolding = true;
    const retries = [node.registry.retryPending(), node.registry.retryPending()];
    await settle();
    await node.finish();
    await Promise.all(retries);
    assert.deepEqual(node.events, ['start a']);
    assert.equal(node.registry.startedCount, 1);
    node.check();
  });

  it('a pod that is added again while it is tried runs once, in the new namespace', async () => {
    const node = new Node();
    node.failing.add('a');
    await node.add('a', 'one');
    node.failing.clear();
    node.isHolding = true;
    const retry = node.registry.retryPending();
    const add = node.add('a', 'two');
    for (let at = 0; at < 3; at++) {
      await settle();
      node.go();
    }
    await node.finish();
    assert.deepEqual(await Promise.all([retry, add]), [undefined, undefined]);
    assert.equal(node.running.get('a')?.id, 'two');
    node.check();
  });

  it('a session that breaks off within the snapshot stops nobody; the next one decides', async () => {
    const node = new Node();
    for (const uid of ['a', 'b']) await node.add(uid);
    await node.send({ kind: 'snapshotSent' });
    node.registry.beginSession();
    await node.send({ kind: 'keep', uid: 'a' });
    assert.deepEqual([[...node.running.keys()], node.registry.isReady], [['a', 'b'], false]);
    node.registry.beginSession();
    await node.send({ kind: 'keep', uid: 'b' });
    await node.send({ kind: 'snapshotSent' });
    assert.deepEqual([[...node.running.keys()], node.registry.isReady], [['b'], true]);
    node.check();
  });

  it('keep names a pod that is not known: nothing runs, and it is ready', async () => {
    const node = new Node();
    assert.equal(await node.send({ kind: 'keep', uid: 'nobody' }), undefined);
    await node.send({ kind: 'snapshotSent' });
    assert.deepEqual([node.running.size, node.registry.isReady], [0, true]);
  });

  it('a stop that fails gives its namespace back all the same', async () => {
    const node = new Node();
    await node.add('a');
    await node.send({ kind: 'snapshotSent' });
    node.running.clear();
    await assert.rejects(node.send({ kind: 'del', uid: 'a' }), /does not run/);
    node.check();
    assert.equal(await node.add('a'), undefined);
  });

  it('the end waits for a start under way, and stops what it made', async () => {
    const node = new Node();
    node.isHolding = true;
    const add = node.add('a');
    const closed = node.registry.closeAll();
    await settle();
    await node.finish();
    await Promise.all([add, closed]);
    assert.deepEqual(node.events, ['start a', 'stop a']);
    node.check();
  });

  for (let seed = 1; seed <= 40; seed++) {
    it(`random sessions, seed ${seed}: at most one of a pod runs, and in the end exactly those that were named`, async () => {
      const random = generator(seed);
      const pick = <T>(all: readonly T[]): T => all[Math.floor(random() * all.length)] as T;
      const node = new Node();
      const uids = ['a', 'b', 'c'];
      const waiting: Promise<unknown>[] = [];
      node.registry.beginSession();
      for (let step = 0; step < 80; step++) {
        const uid = pick(uids);
        const dice = random();
        node.isHolding = random() < 0.5;
        // A session asks one thing at a time; only retries come beside it.
        if (dice < 0.15) waiting.push(node.registry.retryPending());
        else if (dice < 0.25) node.failing.add(uid);
        else if (dice < 0.35) node.failing.delete(uid);
        else if (dice < 0.42) node.registry.beginSession();
        else {
          const asked =
            dice < 0.75
              ? node.add(uid, `${uid}${Math.floor(random() * 2)}`)
              : node.send(
                  dice < 0.85
                    ? { kind: 'del', uid }
                    : dice < 0.92
                      ? { kind: 'keep', uid }
                      : { kind: 'snapshotSent' },
                );
          // A second snapshot and a late keep are protocol errors; a pod's state is not touched by them.
          const answered = asked.catch((err: unknown) =>
            assert.match(String(err), /second snapshot|keep after/),
          );
          for (let at = 0; at < 20; at++) {
            await settle();
            node.go();
          }
          await answered;
        }
      }
      await node.finish();
      await Promise.all(waiting);
      node.failing.clear();
      node.registry.beginSession();
      const named = uids.filter(() => random() < 0.6);
      for (const uid of named) assert.equal(await node.add(uid, 'last'), undefined);
      await node.send({ kind: 'snapshotSent' });
      assert.deepEqual([...node.running.keys()].sort(), named);
      assert.ok([...node.running.values()].every(({ id }) => id === 'last'));
      assert.equal(node.registry.isReady, true);
      const { startedCount, stoppedCount, activeCount } = node.registry;
      assert.equal(startedCount - stoppedCount, activeCount);
      node.check();
      await node.registry.closeAll();
      assert.equal(node.running.size, 0);
      node.check();
    });
  }
});
