// The timer heap: order, cancellation, compaction.
import assert from 'node:assert/strict';
import { describe, it } from 'node:test';
import fc from 'fast-check';
import { TimerHeap } from '../../../../engine/reactor/timer-heap.ts';

function drain(heap: TimerHeap): void {
  for (let fn = heap.takeDue(Infinity); fn !== undefined; fn = heap.takeDue(Infinity)) fn();
}

describe('TimerHeap', () => {
  it('fires in order of deadline, without the cancelled ones', () => {
    fc.assert(
      fc.property(
        fc.array(fc.record({ at: fc.nat(1000), cancel: fc.boolean() }), { maxLength: 400 }),
        (timers) => {
          const heap = new TimerHeap();
          const fired: number[] = [];
          const made = timers.map(({ at }) => heap.add(at, () => fired.push(at)));
          made.forEach((timer, i) => {
            if (timers[i]?.cancel === true) timer.cancel();
          });
          const live = timers.filter(({ cancel }) => !cancel).map(({ at }) => at);
          assert.equal(heap.size, live.length);
          drain(heap);
          assert.deepEqual(
            fired,
            live.toSorted((a, b) => a - b),
          );
        },
      ),
    );
  });

  it('fires nothing before its deadline, and each timer once', () => {
    const heap = new TimerHeap();
    let count = 0;
    const timer = heap.add(10, () => count++);
    assert.equal(heap.takeDue(9), undefined);
    assert.equal(heap.next(), 10);
    drain(heap);
    timer.cancel();
    timer.cancel();
    drain(heap);
    assert.deepEqual([count, heap.size, heap.next()], [1, 0, undefined]);
  });
});
