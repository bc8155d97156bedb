// Timers of a reactor: a binary heap on the deadline. Cancelled timers are dropped when they reach the top, or
// all at once when they are the majority (idle timers are re-armed far more often than they fire).

/** A pending timer of a reactor; `cancel` is idempotent. */
export interface ReactorTimer {
  cancel(): void;
}

class HeapTimer implements ReactorTimer {
  readonly deadline: number;
  fn: (() => void) | undefined;
  readonly #heap: TimerHeap;

  constructor(deadline: number, fn: () => void, heap: TimerHeap) {
    this.deadline = deadline;
    this.fn = fn;
    this.#heap = heap;
  }

  cancel(): void {
    if (this.fn === undefined) return;
    this.fn = undefined;
    this.#heap.noteCancelled();
  }
}

/** Min-heap of timers. */
export class TimerHeap {
  #items: HeapTimer[] = [];
  #cancelled = 0;

  add(deadline: number, fn: () => void): ReactorTimer {
    const timer = new HeapTimer(deadline, fn, this);
    this.#items.push(timer);
    this.#siftUp(this.#items.length - 1);
    return timer;
  }

  noteCancelled(): void {
    this.#cancelled++;
    if (this.#cancelled > 64 && this.#cancelled * 2 > this.#items.length) {
      this.#items = this.#items.filter((timer) => timer.fn !== undefined);
      this.#cancelled = 0;
      for (let i = (this.#items.length >> 1) - 1; i >= 0; i--) this.#siftDown(i);
    }
  }

  /** Deadline of the next live timer. */
  next(): number | undefined {
    for (;;) {
      const top = this.#items[0];
      if (top === undefined) return undefined;
      if (top.fn !== undefined) return top.deadline;
      this.#pop();
      this.#cancelled--;
    }
  }

  /** Takes the next timer that is due. */
  takeDue(now: number): (() => void) | undefined {
    const deadline = this.next();
    if (deadline === undefined || deadline > now) return undefined;
    const timer = this.#pop();
    const fn = timer?.fn;
    if (timer !== undefined) timer.fn = undefined;
    return fn;
  }

  get size(): number {
    return this.#items.length - this.#cancelled;
  }

  clear(): void {
    this.#items = [];
    this.#cancelled = 0;
  }

  #pop(): HeapTimer | undefined {
    const top = this.#items[0];
    const last = this.#items.pop();
    if (last !== undefined && this.#items.length > 0) {
      this.#items[0] = last;
      this.#siftDown(0);
    }
    return top;
  }

  #siftUp(from: number): void {
    let at = from;
    const items = this.#items;
    const item = items[at];
    if (item === undefined) return;
    while (at > 0) {
      const up = (at - 1) >> 1;
      const parent = items[up];
      if (parent === undefined || parent.deadline <= item.deadline) break;
      items[at] = parent;
      at = up;
    }
    items[at] = item;
  }

  #siftDown(from: number): void {
    let at = from;
    const items = this.#items;
    const item = items[at];
    if (item === undefined) return;
    for (;;) {
      let down = 2 * at + 1;
      let child = items[down];
      if (child === undefined) break;
      const right = items[down + 1];
      if (right !== undefined && right.deadline < child.deadline) {
        down++;
        child = right;
      }
      if (child.deadline >= item.deadline) break;
      items[at] = child;
      at = down;
    }
    items[at] = item;
  }
}
