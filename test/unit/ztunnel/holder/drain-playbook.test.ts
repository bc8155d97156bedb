// The playbook of replacement and drain: random steps of a holder's life, from printed seeds, against rules that hold
// always. Single plays are in fleet.test.ts; with processes and connections in test/cluster/restarts.test.ts.
import assert from 'node:assert/strict';
import { describe, it } from 'node:test';
import { Fleet } from '../../../../ztunnel/holder/fleet.ts';
import type { FleetAction } from '../../../../ztunnel/holder/fleet.ts';
import { seededRandom } from '../../../support/seeded-random.ts';

const LIVES = 400;
const STEPS = 60;

/** A holder without processes: plays what happens to them, and keeps what was ordered. */
class Life {
  readonly fleet = new Fleet();
  readonly #random: (below: number) => number;
  readonly story: string[] = [];
  readonly running = new Set<number>();
  readonly #drained = new Set<number>();
  readonly #killed = new Set<number>();
  #nextId = 1;
  #dueStarts = 0;
  exits = 0;
  releases = 0;

  constructor(seed: number) {
    this.#random = seededRandom(seed);
    this.#obey('begin', this.fleet.begin());
  }

  step(): void {
    const any = [...this.running][this.#random(Math.max(1, this.running.size))] ?? 0;
    const ranMs = this.#random(2) * 20_000;
    const plays: (() => void)[] = [
      () => this.#start(),
      () => this.#start(),
      () => this.#obey(`ready ${any}`, this.fleet.ready(any)),
      () => this.#obey(`ready ${any}`, this.fleet.ready(any)),
      () => this.#end(any, ranMs),
      () => this.#obey('replace', this.fleet.replace()),
      () => this.#obey(`timed out ${any}`, this.fleet.replacementTimedOut(any)),
      () => (this.#random(20) === 0 ? this.#obey('stop', this.fleet.stop()) : undefined),
      () => (this.#random(60) === 0 ? this.#kill() : undefined),
      () => this.#endOrdered(),
    ];
    plays[this.#random(plays.length)]?.();
  }

  /** The holder ends by itself then. */
  #kill(): void {
    this.#obey('kill', this.fleet.kill());
    assert.deepEqual(
      [...this.#killed].sort(),
      [...new Set([...this.#killed, ...this.running])].sort(),
    );
    this.exits++;
  }

  get isOver(): boolean {
    return this.exits > 0;
  }

  /** What was ordered and has not happened: a start, or an end. */
  #start(): void {
    if (this.#dueStarts === 0 || this.fleet.isStopping) return;
    this.#dueStarts--;
    const id = this.#nextId++;
    this.running.add(id);
    this.story.push(`started ${id}`);
    this.fleet.started(id);
  }

  #endOrdered(): void {
    const [id] = [...this.running].filter((one) => this.#killed.has(one) || this.#drained.has(one));
    if (id !== undefined) this.#end(id, 20_000);
  }

  #end(id: number, ranMs: number): void {
    if (!this.running.delete(id)) return;
    this.#obey(`exited ${id}`, this.fleet.exited(id, { code: 1, ranMs }));
  }

  #obey(event: string, actions: readonly FleetAction[]): void {
    this.story.push(`${event}: ${actions.map(({ kind }) => kind).join(' ')}`);
    for (const action of actions) {
      assert.equal(this.exits, 0, 'nothing follows the exit');
      switch (action.kind) {
        case 'start':
          assert.ok(!this.fleet.isStopping, 'starts while it stops');
          assert.equal(this.#dueStarts, 0, 'two starts at once');
          this.#dueStarts++;
          break;
        case 'drain':
          assert.ok(this.running.has(action.id), 'drains what does not run');
          assert.ok(!this.#drained.has(action.id), 'is told to drain twice');
          this.#drained.add(action.id);
          break;
        case 'kill':
          assert.ok(this.running.has(action.id), 'kills what does not run');
          this.#killed.add(action.id);
          break;
        case 'releaseSockets':
          this.releases++;
          break;
        case 'exit':
          assert.equal(this.running.size, 0, 'exits while a proxy runs');
          this.exits++;
          break;
      }
    }
  }

  /** What must hold after each step. */
  check(): void {
    const { fleet } = this;
    const serving = fleet.ids('serving');
    assert.ok(serving.length <= 1, 'two serve');
    assert.ok(fleet.ids('draining').length <= 2 || fleet.isStopping, 'more than two drain');
    for (const id of serving)
      assert.ok(!this.#drained.has(id), 'serves after it was told to drain');
    assert.ok(this.releases <= 1, 'sockets are given up twice');
    if (this.releases > 0) assert.ok(fleet.isStopping || this.isOver, 'sockets are given up');
    const isSomebody = serving.length + fleet.ids('starting').length + this.#dueStarts > 0;
    assert.ok(isSomebody || fleet.isStopping || this.isOver, 'nobody serves or will');
    if (fleet.isStopping && !this.isOver)
      assert.equal(fleet.ids('draining').length, this.running.size);
  }

  /** Told to stop, and each process ends: the container does. */
  finish(): void {
    this.#obey('stop', this.fleet.stop());
    for (const id of [...this.running]) this.#end(id, 1);
  }
}

describe('playbook of replacement and drain', () => {
  it(`${LIVES} lives: one serves at most, somebody serves or will, the end comes once and after all have ended`, () => {
    const seen = new Set<string>();
    for (let seed = 1; seed <= LIVES; seed++) {
      const life = new Life(seed);
      try {
        for (let step = 0; step < STEPS && !life.isOver; step++) {
          life.step();
          life.check();
        }
        if (!life.isOver) life.finish();
        assert.equal(life.exits, 1, 'does not end');
      } catch (err) {
        const story = life.story.slice(-12).join('\n');
        throw new Error(`seed ${seed}:\n${story}`, { cause: err });
      }
      for (const line of life.story) seen.add(line.replace(/ \d+/, ''));
    }
    // The lives have been in every situation that matters.
    for (const line of [
      'ready: drain',
      'replace: start',
      'timed out: kill',
      'exited: start',
      'exited: releaseSockets exit',
      'stop: releaseSockets drain',
      'stop: releaseSockets drain drain',
      'stop: releaseSockets exit',
      'exited: exit',
    ]) {
      assert.ok(seen.has(line), `${line} was never seen: ${[...seen].join(', ')}`);
    }
  });
});
