// Prometheus and OpenMetrics text of series tables and of prom-client's process metrics. HELP and TYPE lines of
// counters use the name without `_total`, as Istio's node proxy does (OpenMetrics 1.0).
import { collectDefaultMetrics, Registry } from 'prom-client';
import type { FamilyDefinition, SeriesReader } from './series-table.ts';

/** Adds up the same series of several threads and renders them, without the closing `# EOF`. */
export function renderSeries(readers: readonly SeriesReader[]): string {
  const families = new Map<string, FamilyDefinition>();
  for (const reader of readers) {
    for (const [name, family] of reader.families) families.set(name, family);
  }
  const lines: string[] = [];
  for (const family of families.values()) renderFamily(family, readers, lines);
  return lines.length === 0 ? '' : `${lines.join('\n')}\n`;
}

function renderFamily(
  family: FamilyDefinition,
  readers: readonly SeriesReader[],
  lines: string[],
): void {
  const cells = family.type === 'histogram' ? (family.buckets?.length ?? 0) + 2 : 1;
  const sums = new Map<string, number[]>();
  for (const reader of readers) {
    for (const [labels, cell] of reader.series.get(family.name) ?? []) {
      const sum = sums.get(labels) ?? new Array<number>(cells).fill(0);
      for (let at = 0; at < cells; at++) sum[at] = (sum[at] ?? 0) + reader.value(cell + at);
      sums.set(labels, sum);
    }
  }
  if (sums.size === 0) return;
  lines.push(`# HELP ${family.name} ${family.help}`, `# TYPE ${family.name} ${family.type}`);
  for (const [labels, values] of sums) {
    if (family.type === 'histogram') renderHistogram(family, labels, values, lines);
    else {
      const suffix = family.type === 'counter' ? '_total' : '';
      lines.push(`${family.name}${suffix}${braces(labels)} ${values[0] ?? 0}`);
    }
  }
}

function renderHistogram(
  family: FamilyDefinition,
  labels: string,
  values: readonly number[],
  lines: string[],
): void {
  const buckets = family.buckets ?? [];
  const prefix = labels === '' ? '' : `${labels},`;
  let count = 0;
  for (let at = 0; at <= buckets.length; at++) {
    count += values[at] ?? 0;
    const bound = at < buckets.length ? String(buckets[at]) : '+Inf';
    lines.push(`${family.name}_bucket{${prefix}le="${bound}"} ${count}`);
  }
  lines.push(`${family.name}_sum${braces(labels)} ${values[buckets.length + 1] ?? 0}`);
  lines.push(`${family.name}_count${braces(labels)} ${count}`);
}

function braces(labels: string): string {
  return labels === '' ? '' : `{${labels}}`;
}

/** Collects the process's own metrics (CPU, memory, event loop, file descriptors) through prom-client. */
export function collectProcessMetrics(): () => Promise<string> {
  const registry = new Registry();
  collectDefaultMetrics({ register: registry });
  return () => registry.metrics();
}

/** Content type for an Accept header, as Istio's node proxy answers. */
export function expositionContentType(accept: string | undefined): string {
  return accept?.includes('application/openmetrics-text') === true
    ? 'application/openmetrics-text;charset=utf-8;version=1.0.0'
    : 'text/plain; charset=utf-8';
}
