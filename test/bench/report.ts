// Turns measured runs into the benchmark's result: medians, ratios, CPU per unit, resident memory.
import type { CaseName } from './load.ts';

export type Variant = 'direct' | 'mesh' | 'peer';

/** One measured run of one case. `cpuSec` is the proxies' CPU time, `amount` what it is divided by. */
export interface Sample {
  readonly value: number;
  readonly cpuSec: number;
  readonly amount: number | undefined;
  readonly residentMb: number;
}

/** A line of the result; a ratio is ours divided by the other's. */
export interface CaseResult {
  readonly direct: number;
  readonly mesh: number;
  readonly peer: number | null;
  readonly ratioToDirect: number;
  readonly ratioToPeer: number | null;
  readonly unit: string;
  readonly cpuPerUnit: number | null;
  readonly peerCpuPerUnit: number | null;
  readonly residentMb: number;
}

const UNITS: Readonly<Record<CaseName, string>> = {
  stream_up: 'Gbit/s',
  stream_down: 'Gbit/s',
  stream_8: 'Gbit/s',
  requests: 'requests/s',
  new_connections: 'connections/s',
  p50_1000: 'ms',
  p99_1000: 'ms',
};

/** The middle value; the mean of the two middle ones for an even count. NaN for none. */
export function median(values: readonly number[]): number {
  const sorted = [...values].sort((x, y) => x - y);
  const half = sorted.length / 2;
  const high = sorted[Math.floor(half)] ?? NaN;
  return sorted.length % 2 === 1 ? high : (high + (sorted[half - 1] ?? NaN)) / 2;
}

const round = (value: number): number => Number(value.toPrecision(4));

function cpuPerUnit(samples: readonly Sample[]): number | null {
  const each = samples.flatMap((sample) =>
    sample.amount === undefined ? [] : [sample.cpuSec / sample.amount],
  );
  return each.length === 0 ? null : round(median(each));
}

/** Builds one line from the samples of each variant; `peer` may be missing. */
export function buildResult(
  name: CaseName,
  samples: Readonly<Record<Variant, readonly Sample[]>>,
): CaseResult {
  const value = (variant: Variant): number =>
    median(samples[variant].map((sample) => sample.value));
  const hasPeer = samples.peer.length > 0;
  return {
    direct: round(value('direct')),
    mesh: round(value('mesh')),
    peer: hasPeer ? round(value('peer')) : null,
    ratioToDirect: round(value('mesh') / value('direct')),
    ratioToPeer: hasPeer ? round(value('mesh') / value('peer')) : null,
    unit: UNITS[name],
    cpuPerUnit: cpuPerUnit(samples.mesh),
    peerCpuPerUnit: hasPeer ? cpuPerUnit(samples.peer) : null,
    residentMb: round(median(samples.mesh.map((sample) => sample.residentMb))),
  };
}

/** The table for people. */
export function formatTable(results: Readonly<Record<string, CaseResult>>): string {
  const head = [
    'case',
    'direct',
    'mesh',
    'peer',
    'unit',
    'to direct',
    'to peer',
    'cpu/unit',
    'peer cpu',
    'MB',
  ];
  const text = (value: number | null): string => (value === null ? '-' : String(value));
  const rows = Object.entries(results).map(([name, line]) => [
    name,
    text(line.direct),
    text(line.mesh),
    text(line.peer),
    line.unit,
    text(line.ratioToDirect),
    text(line.ratioToPeer),
    text(line.cpuPerUnit),
    text(line.peerCpuPerUnit),
    text(line.residentMb),
  ]);
  const widths = head.map((title, column) =>
    Math.max(title.length, ...rows.map((row) => row[column]?.length ?? 0)),
  );
  const line = (row: readonly string[]): string =>
    row
      .map((cell, column) => cell.padEnd(widths[column] ?? 0))
      .join('  ')
      .trimEnd();
  return [line(head), ...rows.map(line)].join('\n');
}
