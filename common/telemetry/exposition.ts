// Prometheus and OpenMetrics text of series tables and of prom-client's process metrics. HELP and TYPE lines of
// counters use the name without `_total`, as Istio's node proxy does (OpenMetrics 1.0).
import { collectDefaultMetrics, Registry } from 'prom-client';
import type { OpenMetricsContentType } from 'prom-client';
import type { FamilyDefinition, SeriesReader } from './series-table.ts';

const PIECE_CHARS = 65_536;

/** Adds up the same series of several threads and renders them, without the closing `# EOF`. */
export function renderSeries(readers: readonly SeriesReader[]): string {
  return [...renderPieces(readers)].join('');
}

/** As {@link renderSeries}, in pieces of about 64 KB: a large scrape then holds neither memory nor the thread. */
export function* renderPieces(readers: readonly SeriesReader[]): Generator<string> {
  const families = new Map<string, FamilyDefinition>();
  for (const reader of readers) {
    for (const [name, family] of reader.families) families.set(name, family);
  }
  let piece = '';
  for (const family of families.values()) {
    for (const text of renderFamily(family, readers)) {
      piece += text;
      if (piece.length < PIECE_CHARS) continue;
      yield piece;
      piece = '';
    }
  }
  if (piece !== '') yield piece;
}

function* renderFamily(
  family: FamilyDefinition,
  readers: readonly SeriesReader[],
): Generator<string> {
  const having = readers.filter((reader) => (reader.series.get(family.name)?.size ?? 0) > 0);
  if (having.length === 0) return;
  yield `# HELP ${family.name} ${family.help}\n# TYPE ${family.name} ${family.type}\n`;
  for (const [at, reader] of having.entries()) {
    for (const [labels] of reader.series.get(family.name) ?? []) {
      // The first reader that has a series renders it, with what the others counted.
      const isDone = having.some(
        (earlier, index) => index < at && earlier.series.get(family.name)?.has(labels) === true,
      );
      if (!isDone) yield renderOne(family, labels, having.slice(at));
    }
  }
}

function renderOne(
  family: FamilyDefinition,
  labels: string,
  readers: readonly SeriesReader[],
): string {
  const sum = (offset: number): number =>
    readers.reduce((total, reader) => {
      const cell = reader.series.get(family.name)?.get(labels);
      return cell === undefined ? total : total + reader.value(cell + offset);
    }, 0);
  if (family.type === 'histogram') return renderHistogram(family, labels, sum);
  const suffix = family.type === 'counter' ? '_total' : '';
  return `${family.name}${suffix}${braces(labels)} ${sum(0)}\n`;
}

function renderHistogram(
  family: FamilyDefinition,
  labels: string,
  sum: (offset: number) => number,
): string {
  const buckets = family.buckets ?? [];
  const prefix = labels === '' ? '' : `${labels},`;
  let count = 0;
  let text = '';
  for (let at = 0; at <= buckets.length; at++) {
    count += sum(at);
    const bound = at < buckets.length ? String(buckets[at]) : '+Inf';
    text += `${family.name}_bucket{${prefix}le="${bound}"} ${count}\n`;
  }
  text += `${family.name}_sum${braces(labels)} ${sum(buckets.length + 1)}\n`;
  return `${text}${family.name}_count${braces(labels)} ${count}\n`;
}

function braces(labels: string): string {
  return labels === '' ? '' : `{${labels}}`;
}

/**
 * Collects the process's own metrics (CPU, memory, event loop, file descriptors) through prom-client. OpenMetrics: a
 * counter's family is named without `_total`, as ours are.
 */
export function collectProcessMetrics(): () => Promise<string> {
  const registry = new Registry<OpenMetricsContentType>();
  registry.setContentType(Registry.OPENMETRICS_CONTENT_TYPE);
  // The default precision wakes an idle process a hundred times a second.
  collectDefaultMetrics({ register: registry, eventLoopMonitoringPrecision: 200 });
  return async () => (await registry.metrics()).replace(/# EOF\n$/, '');
}

/** Content type for an Accept header, as Istio's node proxy answers. */
export function expositionContentType(accept: string | undefined): string {
  return accept?.includes('application/openmetrics-text') === true
    ? 'application/openmetrics-text;charset=utf-8;version=1.0.0'
    : 'text/plain; charset=utf-8';
}
