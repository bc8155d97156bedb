// How much time looking may take: a share of the clock, with a burst. Of one connection, and of all of a thread.

/** A bucket of milliseconds that fills with time. */
export class ObserveBudget {
  readonly #burstMs: number;
  readonly #share: number;
  #credit: number;
  #filledMs: number;

  /** `share` of the time that passes may be spent, `burstMs` of it at once. */
  constructor(share: number, burstMs: number, nowMs: number) {
    this.#share = share;
    this.#burstMs = burstMs;
    this.#credit = burstMs;
    this.#filledMs = nowMs;
  }

  /** Takes what was spent until now; false when it was too much. */
  spend(spentMs: number, nowMs: number): boolean {
    const filled = this.#credit + (nowMs - this.#filledMs) * this.#share;
    this.#filledMs = nowMs;
    this.#credit = Math.min(this.#burstMs, filled) - spentMs;
    return this.#credit >= 0;
  }
}
