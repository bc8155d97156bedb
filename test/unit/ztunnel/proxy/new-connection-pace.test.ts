// Who has to open connections more slowly, window by window; and how listeners are held to a rate.
import assert from 'node:assert/strict';
import { describe, it } from 'node:test';
import { NewConnectionPace } from '../../../../ztunnel/proxy/new-connection-pace.ts';
import type { PodRate } from '../../../../ztunnel/proxy/new-connection-pace.ts';
import { PacedListeners } from '../../../../ztunnel/proxy/paced-listeners.ts';

const ALWAYS = 500;
const FULL = 0.3;
const IDLE = 0.02;
const noisy = (perSec: number): PodRate => ({ uid: 'noisy', perSec, isActive: true });
const quiet: PodRate = { uid: 'quiet', perSec: 20, isActive: true };

/** The limit of the noisy pod after each window in which it opened so many, or as many as it might. */
function limits(pace: NewConnectionPace, windows: readonly number[], wanted = 2000): number[] {
  let limit = Infinity;
  return windows.map((share) => {
    const rates = [noisy(Math.min(wanted, limit)), quiet];
    limit = pace.decide(share, rates).get('noisy') ?? Infinity;
    return limit;
  });
}

describe('pace of new connections', () => {
  it('on a full machine a pod that opens many is slowed down to what it always has, not further', () => {
    assert.deepEqual(limits(new NewConnectionPace(ALWAYS), [FULL, FULL, FULL]), [500, 500, 500]);
  });

  it('with room again it is let go slowly, and freed when it asks for half', () => {
    const pace = new NewConnectionPace(ALWAYS);
    assert.deepEqual(limits(pace, [FULL, IDLE, IDLE]).map(Math.round), [500, 510, 520]);
    assert.deepEqual(limits(pace, [IDLE], 200), [Infinity]);
  });

  const free: readonly [name: string, share: number, pods: PodRate[]][] = [
    ['with room', IDLE, [noisy(5000), quiet]],
    ['alone on the node', FULL, [noisy(5000), { uid: 'idle', perSec: 0, isActive: false }]],
    ['below what it always has', FULL, [noisy(ALWAYS), quiet]],
  ];
  for (const [name, share, pods] of free) {
    it(`nobody waits: ${name}`, () => {
      assert.equal(new NewConnectionPace(ALWAYS).decide(share, pods).size, 0);
    });
  }

  it('who has left is forgotten, and who is alone again is freed', () => {
    const pace = new NewConnectionPace(ALWAYS);
    assert.equal(pace.decide(FULL, [noisy(2000), quiet]).size, 1);
    assert.equal(pace.decide(FULL, [quiet]).size, 0);
    assert.equal(pace.decide(FULL, [noisy(2000), quiet]).size, 1);
    assert.equal(pace.decide(FULL, [noisy(500)]).size, 0);
  });

  it('the processors are looked at only when it matters', () => {
    const pace = new NewConnectionPace(ALWAYS);
    assert.equal(pace.isNeeded([quiet]), false);
    assert.equal(pace.isNeeded([noisy(2000), quiet]), true);
    pace.decide(FULL, [noisy(2000), quiet]);
    assert.equal(pace.isNeeded([noisy(10), quiet]), true);
  });
});

/** A listener with connections without end, and time that passes as told. */
class Scene {
  now = 0;
  accepted = 0;
  #isOpen = true;
  #timers: { atMs: number; fn: () => void }[] = [];
  readonly pace = new PacedListeners(
    {
      now: () => this.now,
      after: (delayMs, fn) => this.#timers.push({ atMs: this.now + delayMs, fn }),
    },
    [{ pause: () => (this.#isOpen = false), resume: () => (this.#isOpen = true) }],
  );

  /** Up to ten connections a millisecond come in. */
  run(ms: number): number {
    const before = this.accepted;
    for (const end = this.now + ms; this.now < end; this.now++) {
      const due = this.#timers.filter(({ atMs }) => atMs <= this.now);
      this.#timers = this.#timers.filter(({ atMs }) => atMs > this.now);
      for (const { fn } of due) fn();
      for (let i = 0; i < 10 && this.#isOpen; i++) {
        this.accepted++;
        this.pace.accepted();
      }
    }
    return this.accepted - before;
  }
}

describe('listeners held to a rate', () => {
  it('accept all while nothing is said', () => {
    const scene = new Scene();
    assert.equal(scene.run(1000), 10_000);
    assert.equal(scene.pace.delayedTotal, 0);
  });

  for (const perSec of [100, 500, 2000]) {
    it(`accept ${perSec} a second, in small pieces`, () => {
      const scene = new Scene();
      scene.pace.limit = perSec;
      const count = scene.run(2000) / 2;
      assert.ok(Math.abs(count - perSec) <= perSec * 0.15 + 10, String(count));
      const piece = scene.run(20);
      assert.ok(piece <= Math.max(2, perSec * 0.04), String(piece));
      assert.equal(scene.pace.delayedTotal, scene.accepted);
    });
  }

  it('are open at once when they are freed', () => {
    const scene = new Scene();
    scene.pace.limit = 1;
    scene.run(50);
    scene.pace.limit = undefined;
    assert.equal(scene.run(100), 1000);
  });
});
