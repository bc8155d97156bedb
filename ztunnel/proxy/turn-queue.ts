// Spreads a pod's new connections over the turns of the reactor: at most so many in each, the rest wait in order. A pod
// that brings thousands delays itself, not the others of its node.
import { MeshError } from '../../common/errors.ts';

/** What the queue needs of a reactor. */
export interface TurnSource {
  readonly turns: number;
  again(handler: { onReady(): void }): void;
}

const COMPACT_ITEMS = 64;

/** Serves items in the order they came. */
export class TurnQueue<T> {
  readonly #reactor: TurnSource;
  readonly #perTurn: number;
  readonly #serve: (item: T) => void;
  #waiting: T[] = [];
  #next = 0;
  #turn = -1;
  #used = 0;

  constructor(reactor: TurnSource, perTurn: number, serve: (item: T) => void) {
    if (perTurn < 1) throw new MeshError('internal', 'a turn serves at least one');
    this.#reactor = reactor;
    this.#perTurn = perTurn;
    this.#serve = serve;
  }

  /** Items that wait for a later turn. */
  get size(): number {
    return this.#waiting.length - this.#next;
  }

  /** Serves now, or in a later turn. */
  add(item: T): void {
    if (this.size === 0 && this.#take()) {
      this.#serve(item);
      return;
    }
    this.#waiting.push(item);
    if (this.size === 1) this.#reactor.again(this);
  }

  /** The next turn; called by the reactor. */
  onReady(): void {
    while (this.size > 0 && this.#take()) {
      const item = this.#waiting[this.#next];
      this.#next++;
      if (this.#next >= Math.max(COMPACT_ITEMS, this.#waiting.length / 2)) this.#compact();
      if (item !== undefined) this.#serve(item);
    }
    if (this.size > 0) this.#reactor.again(this);
  }

  #compact(): void {
    this.#waiting = this.#waiting.slice(this.#next);
    this.#next = 0;
  }

  #take(): boolean {
    const { turns } = this.#reactor;
    if (turns !== this.#turn) {
      this.#turn = turns;
      this.#used = 0;
    }
    return this.#used++ < this.#perTurn;
  }
}
