// Holds a pod's listeners to a rate: when they have accepted as many as they may, they pause, and new connections wait in
// the kernel. See new-connection-pace.ts for who is held to what.
import type { TcpListener } from '../../engine/reactor/tcp-listener.ts';

/** What pacing needs of a reactor. */
export interface PaceClock {
  now(): number;
  after(delayMs: number, fn: () => void): unknown;
}

const PAUSE_MS = 5;

/** The listeners of one pod in one data thread. */
export class PacedListeners {
  readonly #clock: PaceClock;
  readonly #listeners: readonly Pick<TcpListener, 'pause' | 'resume'>[];
  #perSec: number | undefined;
  #allowed = 0;
  #filledMs = 0;
  #isPaused = false;
  /** Accepted since the pod joined. */
  acceptedTotal = 0;
  /** Accepted of them while the pod was held to a rate. */
  delayedTotal = 0;

  constructor(clock: PaceClock, listeners: readonly Pick<TcpListener, 'pause' | 'resume'>[]) {
    this.#clock = clock;
    this.#listeners = listeners;
  }

  /** New connections a second; undefined: as many as come. */
  set limit(perSec: number | undefined) {
    if (this.#perSec === undefined) this.#filledMs = this.#clock.now();
    this.#perSec = perSec;
    if (perSec === undefined) this.#resume();
  }

  get limit(): number | undefined {
    return this.#perSec;
  }

  /** A connection was accepted. */
  accepted(): void {
    this.acceptedTotal++;
    if (this.#perSec === undefined) return;
    this.delayedTotal++;
    this.#allowed--;
    if (!this.#isPaused) this.#pauseIfUsed(this.#perSec);
  }

  /** Pauses when no more may be accepted now; whether it does. */
  #pauseIfUsed(perSec: number): boolean {
    const now = this.#clock.now();
    const most = Math.max(1, (perSec * 2 * PAUSE_MS) / 1000);
    const gained = ((now - this.#filledMs) * perSec) / 1000;
    this.#allowed = Math.min(most, this.#allowed + gained);
    this.#filledMs = now;
    if (this.#allowed >= 1) return false;
    this.#isPaused = true;
    for (const listener of this.#listeners) listener.pause();
    this.#clock.after(PAUSE_MS, () => this.#resume());
    return true;
  }

  #resume(): void {
    if (!this.#isPaused) return;
    this.#isPaused = false;
    if (this.#perSec !== undefined && this.#pauseIfUsed(this.#perSec)) return;
    for (const listener of this.#listeners) listener.resume();
  }
}
