// Percentiles as the soak runs report them.

/** Latencies in milliseconds; -1 where there was none. */
export interface Latency {
  readonly count: number;
  readonly p50: number;
  readonly p90: number;
  readonly p99: number;
  readonly max: number;
}

/** Of unsorted values. */
export function latencySummary(values: readonly number[]): Latency {
  const sorted = values.toSorted((a, b) => a - b);
  const at = (share: number): number => {
    const index = Math.min(sorted.length - 1, Math.floor(sorted.length * share));
    return Number((sorted[index] ?? -1).toFixed(3));
  };
  return { count: sorted.length, p50: at(0.5), p90: at(0.9), p99: at(0.99), max: at(1) };
}
