import assert from 'node:assert/strict';
import { describe, it } from 'node:test';
import { SocketStore } from '../../../../ztunnel/holder/socket-store.ts';

const POD = { name: 'web', namespace: 'default', serviceAccount: 'web' };
const held = (uid: string, netnsId = '4:1', names = ['netns', 'tcp/15001']) => ({
  uid,
  netnsId,
  pod: POD,
  names,
});

function open(): { store: SocketStore; closed: number[] } {
  const closed: number[] = [];
  return { store: new SocketStore((fd) => closed.push(fd)), closed };
}

describe('socket store', () => {
  it('keeps a pod’s descriptors until it is released, and closes each once', () => {
    const { store, closed } = open();
    assert.equal(store.keep(held('a'), [3, 4]), true);
    assert.deepEqual(store.get('a')?.fds, [3, 4]);
    assert.equal(store.release('a'), true);
    assert.equal(store.release('a'), false);
    assert.deepEqual(closed, [3, 4]);
    assert.equal(store.get('a'), undefined);
  });

  it('refuses a second set for the same pod and closes it', () => {
    const { store, closed } = open();
    store.keep(held('a'), [3, 4]);
    assert.equal(store.keep(held('a'), [5, 6]), false);
    assert.deepEqual(closed, [5, 6]);
    assert.deepEqual(store.get('a')?.fds, [3, 4]);
  });

  it('a pod made anew in another namespace takes the place of the old one', () => {
    const { store, closed } = open();
    store.keep(held('a', '4:1'), [3, 4]);
    assert.equal(store.keep(held('a', '4:2'), [5, 6]), true);
    assert.deepEqual(closed, [3, 4]);
  });

  it('refuses descriptors that do not match the names', () => {
    const { store, closed } = open();
    assert.equal(store.keep(held('a'), [3]), false);
    assert.equal(store.keep(held('b', '4:1', []), []), false);
    assert.deepEqual(closed, [3]);
    assert.equal(store.size, 0);
  });

  it('lists uids in order, page by page', () => {
    const { store } = open();
    for (const uid of ['c', 'a', 'b']) store.keep(held(uid, uid), [1, 2]);
    assert.deepEqual(store.uids('', 2), ['a', 'b']);
    assert.deepEqual(store.uids('b', 2), ['c']);
    assert.deepEqual(store.uids('c', 2), []);
  });
});
