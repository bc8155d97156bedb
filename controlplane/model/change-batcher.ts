// Decides when a change is acted upon: a lone one almost at once, a burst when it has been quiet for a while, and
// never later than a bound. Time is a Clock; the work is passed in.
import type { Clock, Timer } from '../../common/clock.ts';

/** Options of {@link ChangeBatcher}. */
export interface BatcherOptions {
  readonly clock: Clock;
  /** Wait of a change that comes alone. */
  readonly loneMs: number;
  readonly quietMs: number;
  readonly maxMs: number;
  run(): void;
}

/** Collects changes. */
export class ChangeBatcher {
  readonly #options: BatcherOptions;
  #timer: Timer | undefined;
  #firstMs = 0;
  #lastRunMs = -Infinity;
  #changes = 0;

  constructor(options: BatcherOptions) {
    this.#options = options;
  }

  /** Notes a change. */
  note(): void {
    const { clock, loneMs, quietMs, maxMs } = this.#options;
    const now = clock.now();
    this.#changes++;
    if (this.#changes === 1) this.#firstMs = now;
    const isLone = this.#changes === 1 && now - this.#lastRunMs >= quietMs;
    const delayMs = isLone ? loneMs : Math.min(quietMs, Math.max(0, this.#firstMs + maxMs - now));
    this.#timer?.cancel();
    this.#timer = clock.after(delayMs, () => this.#run());
  }

  /** Drops what is waiting. */
  close(): void {
    this.#timer?.cancel();
    this.#timer = undefined;
  }

  #run(): void {
    this.#timer = undefined;
    this.#changes = 0;
    this.#lastRunMs = this.#options.clock.now();
    this.#options.run();
  }
}
