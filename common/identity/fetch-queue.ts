// Which certificate is asked for next: a few requests run at once, the others wait in order of priority, then age.
// One entry for each identity at most, so the queue is as long as the node has identities.

/** Most urgent first: a connection waits; a pod has come; a renewal. */
export type FetchPriority = 'connection' | 'prefetch' | 'renewal';

const RANKS: Readonly<Record<FetchPriority, number>> = { connection: 0, prefetch: 1, renewal: 2 };

interface Waiting {
  readonly key: string;
  rank: number;
  readonly start: () => void;
  readonly drop: (reason: Error) => void;
}

/** Runs work by priority. */
export class FetchQueue {
  readonly #maxRunning: number;
  /** By arrival. */
  readonly #waiting: Waiting[] = [];
  #running = 0;

  constructor(maxRunning: number) {
    this.#maxRunning = maxRunning;
  }

  /** Runs `work` when it is its turn. Rejects with what it throws, or with the reason of {@link drop}. */
  run<T>(key: string, priority: FetchPriority, work: () => Promise<T>): Promise<T> {
    return new Promise<T>((resolve, reject) => {
      const start = (): void => {
        this.#running++;
        work()
          .then(resolve, reject)
          .finally(() => {
            this.#running--;
            this.#next();
          });
      };
      this.#waiting.push({ key, rank: RANKS[priority], start, drop: reject });
      this.#next();
    });
  }

  /** What waits under that key becomes at least so urgent. */
  raise(key: string, priority: FetchPriority): void {
    const found = this.#waiting.find((one) => one.key === key);
    if (found !== undefined) found.rank = Math.min(found.rank, RANKS[priority]);
  }

  /** What waits under that key is not run. */
  drop(key: string, reason: Error): void {
    const at = this.#waiting.findIndex((one) => one.key === key);
    if (at >= 0) this.#waiting.splice(at, 1)[0]?.drop(reason);
  }

  #next(): void {
    if (this.#running >= this.#maxRunning || this.#waiting.length === 0) return;
    let best = 0;
    for (const [at, { rank }] of this.#waiting.entries()) {
      if (rank < (this.#waiting[best]?.rank ?? 0)) best = at;
    }
    this.#waiting.splice(best, 1)[0]?.start();
  }
}
