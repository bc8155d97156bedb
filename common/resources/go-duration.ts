// Durations as Istio's and the Gateway API's users write them: Go's syntax (`1m30s`, `500ms`, `1.5h`). Proto JSON
// accepts only seconds, so text is normalised before it is decoded.

const NANOS_PER_UNIT: Readonly<Record<string, number>> = {
  ns: 1,
  us: 1e3,
  µs: 1e3,
  μs: 1e3,
  ms: 1e6,
  s: 1e9,
  m: 60e9,
  h: 3600e9,
};
const PART = /^(\d+\.?\d*|\.\d+)(ns|us|µs|μs|ms|s|m|h)/;
const MAX_TEXT_LENGTH = 64;

/** Go duration text to milliseconds, or undefined when it is not one. */
export function parseGoDurationMs(text: string): number | undefined {
  if (text.length === 0 || text.length > MAX_TEXT_LENGTH) return undefined;
  const negative = text.startsWith('-');
  let rest = negative || text.startsWith('+') ? text.slice(1) : text;
  if (rest === '0') return 0;
  let nanos = 0;
  do {
    const part = PART.exec(rest);
    if (part === null) return undefined;
    const [whole, amount = '', unit = ''] = part;
    nanos += Number(amount) * (NANOS_PER_UNIT[unit] ?? Number.NaN);
    rest = rest.slice(whole.length);
  } while (rest.length > 0);
  // To the microsecond: doubles cannot hold the nanoseconds of weeks.
  const ms = Math.round(nanos / 1e3) / 1e3;
  if (!Number.isFinite(ms)) return undefined;
  return negative ? -ms : ms;
}

/** Milliseconds as proto JSON writes a duration. */
export function formatProtoDuration(ms: number): string {
  const size = Math.abs(ms);
  const seconds = Math.trunc(size / 1000);
  const nanos = Math.round((size - seconds * 1000) * 1e6);
  const fraction = nanos === 0 ? '' : `.${String(nanos).padStart(9, '0')}`;
  return `${ms < 0 ? '-' : ''}${seconds}${fraction}s`;
}

/** Whole milliseconds of a decoded duration message; 0 when it is unset. */
export function durationMs(
  duration: { readonly seconds: bigint; readonly nanos: number } | undefined,
): number {
  if (duration === undefined) return 0;
  return Math.round(Number(duration.seconds) * 1000 + duration.nanos / 1e6);
}
