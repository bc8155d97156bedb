import assert from 'node:assert/strict';
import { describe, it } from 'node:test';
import { Fleet } from '../../../../ztunnel/holder/fleet.ts';

const CRASH = { code: 137, ranMs: 20 };
const start = (delayMs = 0, isReplacement = false): object => ({
  kind: 'start',
  delayMs,
  isReplacement,
});
const drain = (id: number, isReplaced: boolean): object => ({ kind: 'drain', id, isReplaced });

/** A fleet whose first proxy serves. */
function serving(): Fleet {
  const fleet = new Fleet();
  fleet.begin();
  fleet.started(1);
  fleet.ready(1);
  return fleet;
}

describe('fleet', () => {
  it('is transparent until a proxy has been ready: its exit is the container’s, and nothing is held', () => {
    const fleet = new Fleet();
    assert.deepEqual(fleet.begin(), [start()]);
    fleet.started(1);
    assert.deepEqual(fleet.exited(1, { code: 1, ranMs: 500 }), [
      { kind: 'releaseSockets' },
      { kind: 'exit', code: 1 },
    ]);
  });

  it('starts a dead proxy again at once, then with growing pauses up to ten seconds', () => {
    const fleet = serving();
    const delays: unknown[] = [];
    for (let id = 1; id < 12; id++) {
      const [action] = fleet.exited(id, CRASH);
      delays.push(action?.kind === 'start' ? action.delayMs : action);
      fleet.started(id + 1);
    }
    const growing = [0, 100, 200, 400, 800, 1600, 3200, 6400, 10_000, 10_000, 10_000];
    assert.deepEqual(delays, growing);
    assert.equal(fleet.crashCount, 11);
  });

  it('forgets earlier crashes after a stable run', () => {
    const fleet = serving();
    fleet.exited(1, CRASH);
    fleet.started(2);
    assert.deepEqual(fleet.exited(2, CRASH), [start(100)]);
    fleet.started(3);
    assert.deepEqual(fleet.exited(3, { code: 134, ranMs: 60_000 }), [start(0)]);
  });

  it('replaces: the successor starts beside the old one, which drains when the successor is ready', () => {
    const fleet = serving();
    assert.deepEqual(fleet.replace(), [start(0, true)]);
    assert.deepEqual(fleet.replace(), []);
    fleet.started(2);
    assert.deepEqual(fleet.replace(), []);
    assert.deepEqual(fleet.ready(2), [drain(1, true)]);
    assert.deepEqual(fleet.ids('draining'), [1]);
    assert.deepEqual(fleet.exited(1, { code: 0, ranMs: 60_000 }), []);
    assert.equal(fleet.crashCount, 0);
  });

  it('keeps the old one when a successor dies or hangs', () => {
    const fleet = serving();
    fleet.replace();
    fleet.started(2);
    assert.deepEqual(fleet.replacementTimedOut(2), [{ kind: 'kill', id: 2 }]);
    assert.deepEqual(fleet.exited(2, CRASH), []);
    assert.equal(fleet.phase(1), 'serving');
    assert.deepEqual(fleet.replace(), [start(0, true)]);
  });

  it('a successor whose predecessor dies becomes the one: not killed for being slow, not started twice', () => {
    const fleet = serving();
    fleet.replace();
    assert.deepEqual(fleet.exited(1, CRASH), []);
    fleet.started(2);
    assert.deepEqual(fleet.replacementTimedOut(2), []);
    assert.deepEqual(fleet.exited(2, CRASH), [start(0)]);
  });

  it('starts no successor while two old ones drain', () => {
    const fleet = serving();
    for (const id of [2, 3]) {
      assert.deepEqual(fleet.replace(), [start(0, true)]);
      fleet.started(id);
      fleet.ready(id);
    }
    assert.deepEqual(fleet.ids('draining'), [1, 2]);
    assert.deepEqual(fleet.replace(), []);
    fleet.exited(1, { code: 0, ranMs: 60_000 });
    assert.deepEqual(fleet.replace(), [start(0, true)]);
  });

  it('stops: sockets go first, then all drain, and the last exit is the container’s', () => {
    const fleet = serving();
    fleet.replace();
    fleet.started(2);
    fleet.ready(2);
    assert.deepEqual(fleet.stop(), [{ kind: 'releaseSockets' }, drain(2, false)]);
    assert.deepEqual(fleet.stop(), []);
    assert.deepEqual(fleet.replace(), []);
    assert.deepEqual(fleet.exited(2, { code: 0, ranMs: 1 }), []);
    assert.deepEqual(fleet.exited(1, { code: 0, ranMs: 1 }), [{ kind: 'exit', code: 0 }]);
  });

  it('stops at once while a dead proxy waits to be started again', () => {
    const fleet = serving();
    fleet.exited(1, CRASH);
    assert.deepEqual(fleet.stop(), [{ kind: 'releaseSockets' }, { kind: 'exit', code: 0 }]);
  });
});
