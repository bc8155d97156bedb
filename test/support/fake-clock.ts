// A clock that moves only when told.
import type { Clock, Timer } from '../../common/clock.ts';

interface Pending {
  readonly atMs: number;
  readonly fn: () => void;
}

export class FakeClock implements Clock {
  #nowMs: number;
  #timers: Pending[] = [];
  /** How far the wall clock is from the time that timers go by. */
  #jumpedMs = 0;

  constructor(nowMs = 1_000_000) {
    this.#nowMs = nowMs;
  }

  now(): number {
    return this.#nowMs;
  }

  elapsed(): number {
    return this.#nowMs - this.#jumpedMs;
  }

  after(delayMs: number, fn: () => void): Timer {
    const timer = { atMs: this.#nowMs - this.#jumpedMs + delayMs, fn };
    this.#timers.push(timer);
    return {
      cancel: () => {
        this.#timers = this.#timers.filter((other) => other !== timer);
      },
    };
  }

  /** Delays of the pending timers from now, ascending. */
  get delaysMs(): number[] {
    return this.#timers
      .map(({ atMs }) => atMs - this.#nowMs + this.#jumpedMs)
      .sort((a, b) => a - b);
  }

  /** The wall clock is set forward or back; what timers wait for does not change. */
  jump(ms: number): void {
    this.#nowMs += ms;
    this.#jumpedMs += ms;
  }

  /** Moves on, firing due timers in order; lets promises run between them. */
  async advance(ms: number): Promise<void> {
    const until = this.#nowMs - this.#jumpedMs + ms;
    for (;;) {
      const due = this.#timers
        .filter(({ atMs }) => atMs <= until)
        .sort((a, b) => a.atMs - b.atMs)[0];
      if (due === undefined) break;
      this.#nowMs = due.atMs + this.#jumpedMs;
      this.#timers = this.#timers.filter((other) => other !== due);
      due.fn();
      await settle();
    }
    this.#nowMs = until + this.#jumpedMs;
    await settle();
  }
}

/** Lets pending promises run. */
export async function settle(): Promise<void> {
  for (let i = 0; i < 10; i++) await new Promise<void>((resolve) => setImmediate(resolve));
}
