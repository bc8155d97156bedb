// Reading Prometheus' text format: samples, sums over labels, quantiles of histograms by linear interpolation in a
// bucket, as histogram_quantile does. For showing rates, not for storing.

const LINE = /^([a-zA-Z_:][\w:]*)(?:\{(.*)\})?\s+(\S+)/;
const LABEL = /([a-zA-Z_]\w*)="((?:[^"\\]|\\.)*)"/g;

const ESCAPES: Readonly<Record<string, string>> = { '\\n': '\n', '\\"': '"', '\\\\': '\\' };

/** One sample. */
export interface Sample {
  readonly name: string;
  readonly labels: Readonly<Record<string, string>>;
  readonly value: number;
}

/** Parses the text format; lines that are no samples are skipped. */
export function parseSamples(text: string): Sample[] {
  return text.split('\n').flatMap((line) => {
    const [, name, labels = '', value] = LINE.exec(line) ?? [];
    if (name === undefined || value === undefined) return [];
    const pairs = [...labels.matchAll(LABEL)].map(([, key = '', text = '']) => [
      key,
      text.replace(/\\[n"\\]/g, (escape) => ESCAPES[escape] ?? escape),
    ]);
    const found = Object.fromEntries(pairs) as Record<string, string>;
    return [{ name, labels: found, value: Number(value) }];
  });
}

/** Sum of the samples of a name whose labels match. */
export function sum(
  samples: readonly Sample[],
  name: string,
  match: (labels: Readonly<Record<string, string>>) => boolean = () => true,
): number {
  return samples
    .filter((sample) => sample.name === name && match(sample.labels))
    .reduce((total, { value }) => total + value, 0);
}

/** Bucket counts of a histogram, by upper bound. */
export function buckets(samples: readonly Sample[], name: string): Map<number, number> {
  const found = new Map<number, number>();
  for (const { name: each, labels, value } of samples) {
    if (each !== `${name}_bucket`) continue;
    const bound = labels['le'] === '+Inf' ? Infinity : Number(labels['le']);
    found.set(bound, (found.get(bound) ?? 0) + value);
  }
  return found;
}

/** The quantile of what was added between two readings of a histogram; undefined without observations. */
export function quantile(
  q: number,
  now: ReadonlyMap<number, number>,
  before: ReadonlyMap<number, number>,
): number | undefined {
  const bounds = [...now.keys()].toSorted((a, b) => a - b);
  const counts = bounds.map((bound) => (now.get(bound) ?? 0) - (before.get(bound) ?? 0));
  const total = counts.at(-1) ?? 0;
  if (total <= 0) return undefined;
  const rank = q * total;
  const index = counts.findIndex((count) => count >= rank);
  const upper = bounds[index] ?? Infinity;
  const lower = index > 0 ? (bounds[index - 1] ?? 0) : 0;
  if (upper === Infinity) return lower;
  const below = index > 0 ? (counts[index - 1] ?? 0) : 0;
  const inside = (counts[index] ?? 0) - below;
  return inside === 0 ? upper : lower + ((upper - lower) * (rank - below)) / inside;
}
