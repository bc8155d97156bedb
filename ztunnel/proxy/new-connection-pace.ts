// Fairness in processor time: which pods have to open their connections more slowly, because the node's processors are full
// and other pods have connections too. Pure. A pod is never held below a rate that it always has, what waits stays
// in the kernel's backlog, and nothing is refused. Why not priorities or smaller turns: docs/performance.md, "Fairness".

/** A pod in the last window. */
export interface PodRate {
  readonly uid: string;
  /** New connections a second. */
  readonly perSec: number;
  /** It has connections that it opened. */
  readonly isActive: boolean;
}

/** Of the time, how much a data thread is ready to run and has no processor. */
const FULL_SHARE = 0.1;
/** Of the rate that a pod always has, each window. */
const RISE = 0.02;
/** A pod that asks for less than this part of its limit has no use for one. */
const UNUSED = 0.5;

/** Limits of the pods of one data thread; decided window by window. */
export class NewConnectionPace {
  readonly #alwaysPerSec: number;
  readonly #limits = new Map<string, number>();

  constructor(alwaysPerSec: number) {
    this.#alwaysPerSec = alwaysPerSec;
  }

  /** Whether a look at the processors is worth it. */
  isNeeded(pods: readonly Pick<PodRate, 'perSec'>[]): boolean {
    return this.#limits.size > 0 || pods.some(({ perSec }) => perSec > this.#alwaysPerSec);
  }

  /** The pods that are limited now, in new connections a second. */
  decide(waitShare: number, pods: readonly PodRate[]): ReadonlyMap<string, number> {
    const active = pods.filter(({ isActive, perSec }) => isActive || perSec > 0);
    const isFull = waitShare > FULL_SHARE && active.length > 1;
    const present = new Set(pods.map(({ uid }) => uid));
    for (const uid of this.#limits.keys()) if (!present.has(uid)) this.#limits.delete(uid);
    for (const { uid, perSec } of pods) {
      const limit = this.#limits.get(uid);
      if (isFull && perSec > this.#alwaysPerSec) {
        // At once: what others feel is the worst of a second, not its mean.
        this.#limits.set(uid, this.#alwaysPerSec);
      } else if (limit !== undefined && (perSec < limit * UNUSED || active.length < 2)) {
        this.#limits.delete(uid);
      } else if (limit !== undefined && !isFull) {
        this.#limits.set(uid, limit + this.#alwaysPerSec * RISE);
      }
    }
    return this.#limits;
  }
}
