// When a certificate is asked for again: pure. After success at half of its life, a little earlier at
// random; after failure with growing delays. Neither a clock that is wrong nor a CA whose clock is may make it never, or
// all the time.

const FIRST_BACKOFF_MS = 1000;
const MAX_BACKOFF_MS = 150_000;
const MIN_DELAY_MS = 1000;
/** Of the life: a node's certificates must not all be renewed in one second. */
const JITTER_PART = 0.05;

/** Delay from now (ms) to the renewal of a certificate that has just come; `random` is from 0 to 1. */
export function renewalDelay(
  { notBeforeMs, notAfterMs }: { readonly notBeforeMs: number; readonly notAfterMs: number },
  nowMs: number,
  random: number,
): number {
  const lifeMs = notAfterMs - notBeforeMs;
  const wantedMs = notBeforeMs + lifeMs / 2 - nowMs;
  // By a clock that is ahead half of the life is over already, by one that is behind it never will be.
  const earliestMs = (notAfterMs - nowMs) / 4;
  const delayMs = Math.min(Math.max(wantedMs, earliestMs), lifeMs / 2);
  return Math.max(MIN_DELAY_MS, delayMs - lifeMs * JITTER_PART * random * (delayMs / (lifeMs / 2)));
}

/** The base of the next delay after a failure; `beforeMs` is the one of the failure before, or 0. */
export function nextBackoff(beforeMs: number): number {
  return Math.min(MAX_BACKOFF_MS, beforeMs === 0 ? FIRST_BACKOFF_MS : beforeMs * 2);
}

/** Delay (ms) to the next try: the base, 20 % more or less, or the end of the certificate that is still good. */
export function retryDelay(backoffMs: number, leftMs: number, random: number): number {
  const delayMs = backoffMs * (0.8 + 0.4 * random);
  return leftMs > 0 ? Math.min(delayMs, leftMs) : delayMs;
}
