// Metrics of one data thread: numbers in shared memory, label text rendered once when a series is created.
// The hot path is `add(cell, n)`: one addition to a Float64Array. The control thread reads the same memory when
// it is scraped; it learns of series by messages (`SeriesInfo`). Series are counted against a bound.

/** A metric family. Names without `_total`; the renderer adds it to counters. */
export interface FamilyDefinition {
  readonly name: string;
  readonly help: string;
  readonly type: 'counter' | 'gauge' | 'histogram';
  /** Histograms: upper bounds, ascending, without +Inf. */
  readonly buckets?: readonly number[];
}

/** A series as the scraping thread knows it. `labels` is ready text: `a="x",b="y"`. */
export interface SeriesInfo {
  readonly family: string;
  readonly labels: string;
  /** First cell. Histograms use buckets.length + 2 cells: each bucket (not cumulative), +Inf, sum. */
  readonly cell: number;
}

/** What a series table tells the scraping thread. `memory` first, once. */
export type SeriesMessage =
  | {
      readonly kind: 'memory';
      readonly memory: SharedArrayBuffer;
      readonly families: readonly FamilyDefinition[];
    }
  | { readonly kind: 'series'; readonly series: SeriesInfo }
  | { readonly kind: 'removed'; readonly family: string; readonly labels: string };

const MAX_CELLS = 1 << 21;
const INITIAL_CELLS = 1 << 12;

/** Renders labels to their text form; values are escaped, order is kept. */
export function renderLabels(labels: ReadonlyArray<readonly [string, string]>): string {
  return labels.map(([name, value]) => `${name}="${escapeLabel(value)}"`).join(',');
}

function escapeLabel(value: string): string {
  return /["\\\n]/.test(value)
    ? value.replaceAll('\\', '\\\\').replaceAll('"', '\\"').replaceAll('\n', '\\n')
    : value;
}

/** The series of one thread. */
export class SeriesTable {
  readonly #memory: SharedArrayBuffer;
  /** Follows the memory as it grows. */
  readonly #cells: Float64Array;
  readonly #families = new Map<string, FamilyDefinition>();
  readonly #series = new Map<string, SeriesInfo>();
  readonly #freeCells = new Map<number, number[]>();
  readonly #publish: (message: SeriesMessage) => void;
  #nextCell = 1; // cell 0 swallows what is over the bound

  /** `publish` gets what the scraping thread needs; for one thread, pass {@link SeriesReader.apply}. */
  constructor(families: readonly FamilyDefinition[], publish: (message: SeriesMessage) => void) {
    this.#memory = new SharedArrayBuffer(INITIAL_CELLS * 8, { maxByteLength: MAX_CELLS * 8 });
    this.#cells = new Float64Array(this.#memory);
    this.#publish = publish;
    for (const family of families) this.#families.set(family.name, family);
    publish({ kind: 'memory', memory: this.#memory, families });
  }

  /** The (first) cell of a series, created when new. Label text comes from {@link renderLabels}. */
  cell(family: string, labels: string): number {
    const key = `${family}{${labels}`;
    const known = this.#series.get(key);
    if (known !== undefined) return known.cell;
    const definition = this.#families.get(family);
    if (definition === undefined) throw new TypeError(`unknown metric family ${family}`);
    const cell = this.#allocate(cellCount(definition));
    if (cell === 0) return 0;
    const series = { family, labels, cell };
    this.#series.set(key, series);
    this.#publish({ kind: 'series', series });
    return cell;
  }

  /** Adds to a counter or gauge. */
  add(cell: number, amount: number): void {
    this.#cells[cell] = (this.#cells[cell] ?? 0) + amount;
  }

  /** Sets a gauge. */
  set(cell: number, value: number): void {
    this.#cells[cell] = value;
  }

  /** A cell's value. */
  get(cell: number): number {
    return this.#cells[cell] ?? 0;
  }

  /** Records a value in the histogram whose first cell is given. */
  observe(cell: number, buckets: readonly number[], value: number): void {
    if (cell === 0) return;
    let at = 0;
    while (at < buckets.length && value > (buckets[at] ?? Infinity)) at++;
    this.add(cell + at, 1);
    this.add(cell + buckets.length + 1, value);
  }

  /** Forgets a series; its cells are reused, so no one may hold them any more. */
  remove(family: string, labels: string): void {
    const key = `${family}{${labels}`;
    const series = this.#series.get(key);
    const definition = this.#families.get(family);
    if (series === undefined || definition === undefined) return;
    this.#series.delete(key);
    const count = cellCount(definition);
    this.#cells.fill(0, series.cell, series.cell + count);
    const free = this.#freeCells.get(count) ?? [];
    free.push(series.cell);
    this.#freeCells.set(count, free);
    this.#publish({ kind: 'removed', family, labels });
  }

  #allocate(count: number): number {
    const free = this.#freeCells.get(count)?.pop();
    if (free !== undefined) return free;
    if (this.#nextCell + count > MAX_CELLS) return 0;
    const cell = this.#nextCell;
    this.#nextCell += count;
    while (this.#nextCell * 8 > this.#memory.byteLength) {
      this.#memory.grow(Math.min(this.#memory.byteLength * 2, MAX_CELLS * 8));
    }
    return cell;
  }
}

function cellCount(family: FamilyDefinition): number {
  return family.type === 'histogram' ? (family.buckets?.length ?? 0) + 2 : 1;
}

/** The scraping thread's view of one thread's table. */
export class SeriesReader {
  readonly families = new Map<string, FamilyDefinition>();
  /** Family name to label text to first cell. */
  readonly series = new Map<string, Map<string, number>>();
  #cells: Float64Array = new Float64Array(0);

  /** Takes a message of the table. */
  apply(message: SeriesMessage): void {
    if (message.kind === 'memory') {
      this.#cells = new Float64Array(message.memory);
      for (const family of message.families) this.families.set(family.name, family);
    } else if (message.kind === 'series') {
      const { family, labels, cell } = message.series;
      const known = this.series.get(family) ?? new Map<string, number>();
      known.set(labels, cell);
      this.series.set(family, known);
    } else {
      this.series.get(message.family)?.delete(message.labels);
    }
  }

  /** A cell's value now. */
  value(cell: number): number {
    return this.#cells[cell] ?? 0;
  }
}
