// When changes are compiled, on a clock that is moved by hand.
import assert from 'node:assert/strict';
import { describe, it } from 'node:test';
import type { Clock } from '../../../common/clock.ts';
import { ChangeBatcher } from '../../../controlplane/model/change-batcher.ts';

function setUp() {
  let now = 10_000;
  let timer: { at: number; fn: () => void } | undefined;
  const runs: number[] = [];
  const clock: Clock = {
    now: () => now,
    elapsed: () => now,
    after: (delayMs, fn) => {
      const own = { at: now + delayMs, fn };
      timer = own;
      return {
        cancel: () => {
          if (timer === own) timer = undefined;
        },
      };
    },
  };
  const batcher = new ChangeBatcher({
    clock,
    loneMs: 15,
    quietMs: 100,
    maxMs: 1000,
    run: () => runs.push(now - 10_000),
  });
  const advance = (ms: number): void => {
    const end = now + ms;
    while (timer !== undefined && timer.at <= end) {
      const due = timer;
      timer = undefined;
      now = due.at;
      due.fn();
    }
    now = end;
  };
  return { batcher, advance, runs };
}

describe('change batcher', () => {
  it('runs a lone change almost at once', () => {
    const { batcher, advance, runs } = setUp();
    batcher.note();
    advance(500);
    assert.deepEqual(runs, [15]);
  });

  it('waits for a burst to end', () => {
    const { batcher, advance, runs } = setUp();
    for (let i = 0; i < 5; i++) {
      batcher.note();
      advance(10);
    }
    advance(500);
    assert.deepEqual(runs, [140]);
  });

  it('does not wait longer than the bound', () => {
    const { batcher, advance, runs } = setUp();
    for (let i = 0; i < 150; i++) {
      batcher.note();
      advance(10);
    }
    assert.equal(runs[0], 1000);
  });

  it('drops what waits when closed', () => {
    const { batcher, advance, runs } = setUp();
    batcher.note();
    batcher.close();
    advance(500);
    assert.deepEqual(runs, []);
  });
});
