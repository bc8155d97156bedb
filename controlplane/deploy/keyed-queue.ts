// A work queue of keys as controllers use it: a key waits at most once, is worked on by one at a time, and comes
// back with growing delays while its work fails.
import type { Clock, Timer } from '../../common/clock.ts';
import { errorMessage } from '../../common/errors.ts';
import type { Logger } from '../../common/telemetry/logger.ts';

/** Options of {@link KeyedQueue}. */
export interface KeyedQueueOptions {
  readonly clock: Clock;
  readonly logger: Logger;
  /** Brings one object to the wanted state. */
  work(key: string): Promise<void>;
}

const FIRST_RETRY_MS = 100;
const MAX_RETRY_MS = 30_000;

/** Works on one key after another. */
export class KeyedQueue {
  readonly #options: KeyedQueueOptions;
  readonly #waiting = new Set<string>();
  readonly #retries = new Map<string, { delayMs: number; timer: Timer }>();
  #isRunning = false;
  #isClosed = false;

  constructor(options: KeyedQueueOptions) {
    this.#options = options;
  }

  add(key: string): void {
    if (this.#isClosed) return;
    this.#retries.get(key)?.timer.cancel();
    this.#waiting.add(key);
    if (!this.#isRunning) void this.#drain();
  }

  close(): void {
    this.#isClosed = true;
    this.#waiting.clear();
    for (const { timer } of this.#retries.values()) timer.cancel();
    this.#retries.clear();
  }

  async #drain(): Promise<void> {
    this.#isRunning = true;
    // A tick later: changes that come together are worked on together.
    await Promise.resolve();
    for (const key of this.#waiting) {
      this.#waiting.delete(key);
      try {
        await this.#options.work(key);
        this.#retries.delete(key);
      } catch (err) {
        this.#retryLater(key, err);
      }
    }
    this.#isRunning = false;
  }

  #retryLater(key: string, err: unknown): void {
    if (this.#isClosed) return;
    const before = this.#retries.get(key)?.delayMs ?? FIRST_RETRY_MS / 2;
    const delayMs = Math.min(MAX_RETRY_MS, before * 2);
    this.#options.logger.warn(
      { key, err: errorMessage(err), retryMs: delayMs },
      'reconcile failed',
    );
    const timer = this.#options.clock.after(delayMs, () => this.add(key));
    this.#retries.set(key, { delayMs, timer });
  }
}
