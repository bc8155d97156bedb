// New connections spread over the reactor's turns.
import assert from 'node:assert/strict';
import { describe, it } from 'node:test';
import { TurnQueue } from '../../../../ztunnel/proxy/turn-queue.ts';

/** A reactor whose turns are made by hand. */
class ManualTurns {
  turns = 0;
  #handlers: { onReady(): void }[] = [];

  again(handler: { onReady(): void }): void {
    this.#handlers.push(handler);
  }

  turn(): void {
    this.turns++;
    for (const handler of this.#handlers.splice(0)) handler.onReady();
  }

  get waiting(): number {
    return this.#handlers.length;
  }
}

describe('TurnQueue', () => {
  it('serves so many a turn, the rest in order in the next ones', () => {
    const reactor = new ManualTurns();
    const served: number[] = [];
    const queue = new TurnQueue<number>(reactor, 2, (item) => served.push(item));
    for (let i = 0; i < 5; i++) queue.add(i);
    assert.deepEqual([served, queue.size], [[0, 1], 3]);
    reactor.turn();
    assert.deepEqual(served, [0, 1, 2, 3]);
    queue.add(5);
    assert.deepEqual(served, [0, 1, 2, 3], 'one that comes later does not overtake');
    reactor.turn();
    assert.deepEqual([served, queue.size, reactor.waiting], [[0, 1, 2, 3, 4, 5], 0, 0]);
  });

  it('one pod’s thousands leave each turn to the others', () => {
    const reactor = new ManualTurns();
    const served: string[] = [];
    const noisy = new TurnQueue<string>(reactor, 4, (item) => served.push(item));
    const quiet = new TurnQueue<string>(reactor, 4, (item) => served.push(item));
    for (let i = 0; i < 10_000; i++) noisy.add('noisy');
    reactor.turn();
    quiet.add('quiet');
    assert.equal(served.indexOf('quiet'), 8);
    while (noisy.size > 0) reactor.turn();
    assert.equal(served.length, 10_001);
    assert.equal(reactor.turns, 2499);
  });

  it('one that is added while another is served waits its turn', () => {
    const reactor = new ManualTurns();
    const served: number[] = [];
    const queue: TurnQueue<number> = new TurnQueue(reactor, 1, (item) => {
      served.push(item);
      if (item < 3) queue.add(item + 1);
    });
    queue.add(0);
    assert.deepEqual(served, [0]);
    for (let i = 0; i < 5; i++) reactor.turn();
    assert.deepEqual(served, [0, 1, 2, 3]);
  });
});
