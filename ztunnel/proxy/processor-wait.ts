// How long this thread was ready to run without a processor: the kernel's own account of it (Documentation/scheduler/
// sched-stats: run time, wait time in nanoseconds, slices).
import { readFileSync } from 'node:fs';

/** Measures from one call to the next. */
export class ProcessorWait {
  #waitedNs: number | undefined;
  #readMs = 0;

  /** The share of the time since the last call, from 0 to 1; 0 at the first call, and where the kernel does not say. */
  share(nowMs: number): number {
    const waitedNs = readWaited();
    const before = this.#waitedNs;
    const passedMs = nowMs - this.#readMs;
    this.#waitedNs = waitedNs;
    this.#readMs = nowMs;
    if (waitedNs === undefined || before === undefined || passedMs <= 0) return 0;
    return Math.min(1, (waitedNs - before) / 1e6 / passedMs);
  }
}

function readWaited(): number | undefined {
  try {
    return Number(readFileSync('/proc/thread-self/schedstat', 'latin1').split(' ')[1]);
  } catch {
    return undefined;
  }
}
