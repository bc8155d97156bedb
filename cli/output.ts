// What commands print: kubectl-style columns, or the objects as JSON or YAML.
import { stringify } from 'yaml';

export type OutputFormat = 'table' | 'json' | 'yaml' | 'name' | 'wide';

/** Columns padded to their widest cell, three spaces between, as kubectl prints them. */
export function formatTable(head: readonly string[], rows: readonly (readonly string[])[]): string {
  const widths = head.map((title, column) =>
    Math.max(title.length, ...rows.map((row) => row[column]?.length ?? 0)),
  );
  return [head, ...rows]
    .map((row) =>
      row
        .map((cell, column) => cell.padEnd(widths[column] ?? 0))
        .join('   ')
        .trimEnd(),
    )
    .join('\n');
}

/** A value as JSON or YAML. */
export function formatValue(value: unknown, format: 'json' | 'yaml'): string {
  return format === 'json' ? JSON.stringify(value, null, 2) : stringify(value).trimEnd();
}

/** Bytes in binary units: 512 B, 4.2 KiB. */
export function formatBytes(bytes: number): string {
  const units = ['B', 'KiB', 'MiB', 'GiB', 'TiB'];
  let value = bytes;
  let unit = 0;
  while (value >= 1024 && unit < units.length - 1) {
    value /= 1024;
    unit += 1;
  }
  return `${unit === 0 ? value : value.toFixed(1)} ${units[unit] ?? ''}`;
}

/** Kubernetes' short ages: 45s, 12m, 3h, 2d. */
export function formatAge(created: string | undefined, nowMs: number): string {
  if (created === undefined) return '<unknown>';
  return formatDuration(Math.max(0, nowMs - Date.parse(created)));
}

/** A time span in milliseconds, in Kubernetes' short form. */
export function formatDuration(ms: number): string {
  const seconds = Math.floor(ms / 1000);
  if (seconds < 120) return `${seconds}s`;
  if (seconds < 7200) return `${Math.floor(seconds / 60)}m`;
  if (seconds < 172_800) return `${Math.floor(seconds / 3600)}h`;
  return `${Math.floor(seconds / 86_400)}d`;
}

/** Writes a line to standard output. */
export function print(text: string): void {
  process.stdout.write(`${text}\n`);
}
