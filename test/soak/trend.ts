// Whether a measure that was sampled over time is flat: by regression over the second half, when what a start needs is in place.

/** A sample. */
export type Sample = readonly [seconds: number, value: number];

/** What the regression says of one measure. */
export interface Trend {
  readonly name: string;
  readonly first: number;
  readonly last: number;
  readonly highest: number;
  /** What the fitted line rises by over the second half. */
  readonly rise: number;
  readonly allowedRise: number;
  readonly isFlat: boolean;
}

/** Slope of the fitted line, a second; 0 for fewer than two samples. */
export function slopeOf(samples: readonly Sample[]): number {
  const count = samples.length;
  const meanX = samples.reduce((sum, [x]) => sum + x, 0) / count;
  const meanY = samples.reduce((sum, [, y]) => sum + y, 0) / count;
  const spread = samples.reduce((sum, [x]) => sum + (x - meanX) ** 2, 0);
  if (spread === 0) return 0;
  return samples.reduce((sum, [x, y]) => sum + (x - meanX) * (y - meanY), 0) / spread;
}

/** The lowest of each window: what a load holds for seconds is no trend, what it leaves behind is. */
export function floorOf(samples: readonly Sample[], windowSec: number): Sample[] {
  const lowest = new Map<number, Sample>();
  for (const sample of samples) {
    const window = Math.floor(sample[0] / windowSec);
    const known = lowest.get(window);
    if (known === undefined || sample[1] < known[1]) lowest.set(window, sample);
  }
  return [...lowest.values()];
}

/** Flat: the line through the second half rises by no more than is allowed. */
export function trendOf(name: string, samples: readonly Sample[], allowedRise: number): Trend {
  const half = samples.slice(Math.floor(samples.length / 2));
  const [begin] = half[0] ?? [0];
  const [end] = half.at(-1) ?? [0];
  const rise = slopeOf(half) * (end - begin);
  const values = samples.map(([, value]) => value);
  return {
    name,
    first: values[0] ?? 0,
    last: values.at(-1) ?? 0,
    highest: Math.max(...values),
    rise: Math.round(rise * 100) / 100,
    allowedRise,
    isFlat: rise <= allowedRise,
  };
}
