// What a pod uses in all data threads together, for limits that hold over all of them: one row of shared memory for each
// thread, written by that thread only. Only made where there are several threads; one alone counts for itself.
import type { SharedCount } from '../../common/hbone/types.ts';

/** A row fills a cache line, so that threads do not write to the same one. */
const ROW_CELLS = 16;

/** The counts of one pod, as one thread sees them. */
export interface PodShare {
  /** In service, being set up, or waiting for their turn. */
  readonly connections: SharedCount;
  readonly connecting: SharedCount;
  readonly handshakes: SharedCount;
}

/** Memory for the counts of one pod. */
export function podShareMemory(threads: number): SharedArrayBuffer {
  return new SharedArrayBuffer(threads * ROW_CELLS * Int32Array.BYTES_PER_ELEMENT);
}

/** The counts as the thread of this number sees them. */
export function openPodShare(memory: SharedArrayBuffer, thread: number): PodShare {
  const cells = new Int32Array(memory);
  const count = (column: number): SharedCount => new RowCount(cells, thread * ROW_CELLS + column);
  return { connections: count(0), connecting: count(1), handshakes: count(2) };
}

class RowCount implements SharedCount {
  readonly #cells: Int32Array;
  readonly #own: number;

  constructor(cells: Int32Array, own: number) {
    this.#cells = cells;
    this.#own = own;
  }

  set(count: number): void {
    Atomics.store(this.#cells, this.#own, count);
  }

  get others(): number {
    let sum = 0;
    for (let at = this.#own % ROW_CELLS; at < this.#cells.length; at += ROW_CELLS) {
      if (at !== this.#own) sum += Atomics.load(this.#cells, at);
    }
    return sum;
  }
}
