// What replaced proxies counted goes on in the metrics of the one that serves: Prometheus asks only that one, and the old
// process may carry connections for an hour. Each writes its own counters to a file of the holder's directory, when its
// drain begins, while it lasts and at its end; the serving one adds all files to what it renders. What an ended process left
// the serving one takes over as its own, and removes the file: totals never go down, and no more files are there than processes.
// Gauges are left out: they end with their process.
import {
  readdirSync,
  readFileSync,
  renameSync,
  statSync,
  unlinkSync,
  writeFileSync,
} from 'node:fs';
import { join } from 'node:path';
import { sleep, type Clock } from '../../common/clock.ts';
import { SeriesReader, SeriesTable } from '../../common/telemetry/series-table.ts';
import type { FamilyDefinition } from '../../common/telemetry/series-table.ts';

/** Counters and histograms of one process, by label text and family, with the cells of each. */
export interface CountersFile {
  readonly series: readonly {
    readonly labels: string;
    readonly values: Readonly<Record<string, readonly number[]>>;
  }[];
}

const NAME = /^counters-(\d+)-\d+\.json(\.new)?$/;
/** A predecessor writes when it hears of its drain: a moment after its successor is ready. */
const HAND_OVER_MS = 3000;
const POLL_MS = 20;

/** What the readers' threads have counted in these families, and what else is to be told. */
export function collectCounters(
  readers: readonly SeriesReader[],
  families: readonly FamilyDefinition[],
  more: ReadonlyMap<string, readonly number[]> = new Map(),
): CountersFile {
  const byLabels = new Map<string, Record<string, number[]>>();
  for (const [key, cells] of more) {
    const { family, labels } = partsOf(key);
    const values = byLabels.get(labels) ?? {};
    values[family] = [...cells];
    byLabels.set(labels, values);
  }
  for (const family of families) {
    if (family.type === 'gauge') continue;
    for (const reader of readers) {
      for (const [labels, cell] of reader.series.get(family.name) ?? []) {
        const values = byLabels.get(labels) ?? {};
        const known = values[family.name];
        values[family.name] = cellsOf(family).map(
          (at) => reader.value(cell + at) + (known?.[at] ?? 0),
        );
        byLabels.set(labels, values);
      }
    }
  }
  return { series: [...byLabels].map(([labels, values]) => ({ labels, values })) };
}

/** Offsets of a series' cells: see `SeriesInfo`. */
function cellsOf({ type, buckets }: FamilyDefinition): number[] {
  const count = type === 'histogram' ? (buckets?.length ?? 0) + 2 : 1;
  return Array.from({ length: count }, (_, at) => at);
}

interface KnownFile {
  readonly modifiedMs: number;
  /** What it had when this process started afresh: has been told before a reset. */
  readonly base: ReadonlyMap<string, readonly number[]>;
  readonly values: ReadonlyMap<string, readonly number[]>;
}

/** What a {@link CounterHandOver} works with. */
export interface HandOverOptions {
  /** The holder's. */
  readonly dir: string;
  /** This process's own counts. */
  readonly own: readonly SeriesReader[];
  /** What is handed over; gauges are left out. */
  readonly families: readonly FamilyDefinition[];
  /**
   * A process that serves is about to hand over. Else a crash has reset all totals, and what is in the files already must
   * not be counted again.
   */
  readonly isReplacement: boolean;
  readonly clock: Clock;
  readonly processes?: Processes;
}

/** The processes of a holder, by number. */
export interface Processes {
  readonly own: number;
  isRunning(pid: number): boolean;
}

const realProcesses: Processes = {
  own: process.pid,
  /** Another process that got the number since makes a file stay a little longer. */
  isRunning: (pid) => {
    try {
      return process.kill(pid, 0);
    } catch (err) {
      return !(err instanceof Error && 'code' in err && err.code === 'ESRCH');
    }
  },
};

/** Both sides: the sum of the other processes' files, and this process's file. */
export class CounterHandOver {
  /** To be rendered beside the process's own. */
  readonly reader = new SeriesReader();
  readonly #options: HandOverOptions;
  readonly #processes: Processes;
  readonly #table: SeriesTable;
  readonly #families: ReadonlyMap<string, FamilyDefinition>;
  /** Not the number alone: another process may get it. */
  readonly #name: string;
  readonly #files = new Map<string, KnownFile>();
  /** What ended processes counted: ours now. */
  readonly #inherited = new Map<string, readonly number[]>();
  /** Series found idle by the last {@link sweep}, with what they had. */
  #idle = new Map<string, number>();
  /** Removed, though a file still has them. */
  readonly #gone = new Set<string>();
  /** From its own drain on a process takes nothing over: another one does. */
  #hasHandedOver = false;
  /** Until then the file of the process before this one is waited for. */
  #expectedUntilMs: number | undefined;

  constructor(options: HandOverOptions) {
    const { own, families, isReplacement, clock, processes = realProcesses } = options;
    this.#options = options;
    this.#processes = processes;
    this.#name = `counters-${processes.own}-${clock.now()}.json`;
    const counted = families.filter(({ type }) => type !== 'gauge');
    this.#families = new Map(counted.map((family) => [family.name, family]));
    this.#table = new SeriesTable(counted, (message) => this.reader.apply(message));
    this.#load(!isReplacement);
    if (isReplacement) this.#expectedUntilMs = Infinity;
    else this.#inheritEnded();
    for (const reader of own) reader.onRemoved = (family, labels) => this.#remove(family, labels);
  }

  /** Writes this process's counts, whole or not at all. */
  save(): void {
    const { dir, own } = this.#options;
    this.#hasHandedOver = true;
    const path = join(dir, this.#name);
    const counters = collectCounters(own, [...this.#families.values()], this.#inherited);
    writeFileSync(`${path}.new`, JSON.stringify(counters), { mode: 0o600 });
    renameSync(`${path}.new`, path);
  }

  /** This process is ready: the one before it will be told to drain. */
  expectHandOver(): void {
    if (this.#expectedUntilMs !== undefined)
      this.#expectedUntilMs = this.#options.clock.elapsed() + HAND_OVER_MS;
  }

  /** Reads what is new, before a scrape. Waits for a hand-over: totals would go down and up again without it. */
  async refresh(): Promise<void> {
    this.#load(false);
    while (
      this.#expectedUntilMs !== undefined &&
      this.#options.clock.elapsed() < this.#expectedUntilMs
    ) {
      await sleep(this.#options.clock, POLL_MS);
      this.#load(false);
    }
    this.#expectedUntilMs = undefined;
  }

  /** The process's own series has been removed: the sum goes as a whole, once no thread has it any more. */
  #remove(family: string, labels: string): void {
    const { own } = this.#options;
    if (!this.#families.has(family)) return;
    if (own.some((reader) => reader.series.get(family)?.has(labels) === true)) return;
    this.#table.remove(family, labels);
    const key = keyOf(family, labels);
    this.#inherited.delete(key);
    if (this.#isInFile(key)) this.#gone.add(key);
  }

  /**
   * Now and then: removes series that the process itself does not have and that have not changed since the last call, and takes
   * over what ended processes left.
   */
  sweep(): void {
    const { own } = this.#options;
    this.#inheritEnded();
    const idle = new Map<string, number>();
    for (const [family, series] of this.reader.series) {
      for (const [labels, cell] of [...series]) {
        if (own.some((reader) => reader.series.get(family)?.has(labels) === true)) continue;
        const key = keyOf(family, labels);
        const definition = this.#families.get(family);
        const total = (definition === undefined ? [] : cellsOf(definition)).reduce(
          (sum, at) => sum + this.reader.value(cell + at),
          0,
        );
        if (this.#idle.get(key) === total) this.#remove(family, labels);
        else idle.set(key, total);
      }
    }
    this.#idle = idle;
  }

  /** Not while another process serves: that one does it, and tells us at its end. */
  #inheritEnded(): void {
    const { dir, clock } = this.#options;
    const isEarly = this.#expectedUntilMs !== undefined && clock.elapsed() < this.#expectedUntilMs;
    if (this.#hasHandedOver || isEarly) return;
    for (const name of namesIn(dir)) {
      const [, pid, isNew] = NAME.exec(name) ?? [];
      if (pid === undefined || this.#isOfRunning(name, Number(pid))) continue;
      try {
        if (isNew === undefined) this.#inherit(name);
        else unlinkSync(join(dir, name));
      } catch {
        // Another process was faster, or it is not ours to remove: it goes with the holder's directory.
      }
    }
    for (const key of this.#gone) if (!this.#isInFile(key)) this.#gone.delete(key);
  }

  #isOfRunning(name: string, pid: number): boolean {
    // One that had our number before us has ended.
    if (pid === this.#processes.own) return name.startsWith(this.#name);
    return this.#processes.isRunning(pid);
  }

  #isInFile(key: string): boolean {
    return [...this.#files.values()].some(({ values }) => values.has(key));
  }

  /** Its process has ended, so this was its last word. */
  #inherit(name: string): void {
    try {
      for (const key of this.#loadFile(name, false)) this.#sum(key);
    } catch {
      // Cut: what is known of it counts.
    }
    unlinkSync(join(this.#options.dir, name));
    const file = this.#files.get(name);
    this.#files.delete(name);
    for (const [key, cells] of file?.values ?? []) {
      if (this.#gone.has(key)) continue;
      const known = this.#inherited.get(key);
      const sum = cells.map(
        (cell, at) => cell - (file?.base.get(key)?.[at] ?? 0) + (known?.[at] ?? 0),
      );
      if (sum.some((cell) => cell !== 0)) this.#inherited.set(key, sum);
    }
  }

  /** What cannot be read is left as it is known: a scrape must not fail for it. */
  #load(isBase: boolean): void {
    const changed = new Set<string>();
    try {
      const names = readdirSync(this.#options.dir);
      for (const [name, { values }] of this.#files) {
        if (names.includes(name)) continue;
        // The process that serves has taken it over, and hands it over with its own.
        this.#files.delete(name);
        for (const key of values.keys()) changed.add(key);
      }
      for (const name of names) {
        const [, pid, isNew] = NAME.exec(name) ?? [];
        if (pid === undefined || isNew !== undefined || name === this.#name) continue;
        for (const key of this.#loadFile(name, isBase)) changed.add(key);
      }
    } catch {
      // The directory or a file of it has gone.
    }
    for (const key of changed) this.#sum(key);
  }

  /** Keys that it may have changed. */
  #loadFile(name: string, isBase: boolean): Iterable<string> {
    const path = join(this.#options.dir, name);
    const known = this.#files.get(name);
    const modifiedMs = statSync(path).mtimeMs;
    if (known?.modifiedMs === modifiedMs) return [];
    const values = flatten(JSON.parse(readFileSync(path, 'utf8')) as CountersFile);
    if (known === undefined && !isBase) this.#expectedUntilMs = undefined;
    const base = known?.base ?? (isBase ? values : new Map<string, readonly number[]>());
    // A series that the old process removed keeps what it had.
    this.#files.set(name, {
      modifiedMs,
      base,
      values: new Map([...(known?.values ?? []), ...values]),
    });
    return values.keys();
  }

  #sum(key: string): void {
    const { family, labels } = partsOf(key);
    const definition = this.#families.get(family);
    if (definition === undefined || this.#gone.has(key)) return;
    const totals = cellsOf(definition).map((at) => {
      let total = this.#inherited.get(key)?.[at] ?? 0;
      for (const { values, base } of this.#files.values()) {
        total += (values.get(key)?.[at] ?? 0) - (base.get(key)?.[at] ?? 0);
      }
      return total;
    });
    const isKnown = this.reader.series.get(family)?.has(labels) === true;
    if (!isKnown && totals.every((total) => total === 0)) return;
    const cell = this.#table.cell(family, labels);
    // Cell 0 is for what is over the table's bound.
    if (cell === 0) return;
    for (const [at, total] of totals.entries()) this.#table.set(cell + at, total);
  }
}

function flatten({ series }: CountersFile): Map<string, readonly number[]> {
  const all = new Map<string, readonly number[]>();
  for (const { labels, values } of series) {
    for (const [family, cells] of Object.entries(values)) all.set(keyOf(family, labels), cells);
  }
  return all;
}

const keyOf = (family: string, labels: string): string => `${family} ${labels}`;

function partsOf(key: string): { readonly family: string; readonly labels: string } {
  const at = key.indexOf(' ');
  return { family: key.slice(0, at), labels: key.slice(at + 1) };
}

function namesIn(dir: string): string[] {
  try {
    return readdirSync(dir);
  } catch {
    return [];
  }
}
