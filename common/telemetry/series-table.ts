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

/**
 * Series of one label text (`a="x",b="y"`) as the scraping thread learns of them: told together, so that the text, which
 * may be long, is kept once in each thread.
 */
export interface SeriesInfo {
  readonly labels: string;
  readonly families: readonly string[];
  /** First cell of each. Histograms use buckets.length + 2 cells: each bucket (not cumulative), +Inf, sum. */
  readonly cells: readonly number[];
}

/** What a series table tells the scraping thread. `families` first; `memory` for each piece, in order. */
export type SeriesMessage =
  | { readonly kind: 'families'; readonly families: readonly FamilyDefinition[] }
  | { readonly kind: 'memory'; readonly memory: SharedArrayBuffer }
  | { readonly kind: 'series'; readonly series: SeriesInfo }
  | { readonly kind: 'removed'; readonly family: string; readonly labels: string };

const MAX_CELLS = 1 << 21;
// Memory comes in pieces: one that grows in place costs a call into the runtime for each access.
const CHUNK_BITS = 12;
const CHUNK_CELLS = 1 << CHUNK_BITS;
const CHUNK_MASK = CHUNK_CELLS - 1;

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
  readonly #chunks: Float64Array[] = [];
  readonly #families = new Map<string, FamilyDefinition>();
  /** Family name to label text to first cell. */
  readonly #series = new Map<string, Map<string, number>>();
  readonly #freeCells = new Map<number, number[]>();
  readonly #publish: (message: SeriesMessage) => void;
  #nextCell = 1; // cell 0 swallows what is over the bound

  /** `publish` gets what the scraping thread needs; for one thread, pass {@link SeriesReader.apply}. */
  constructor(families: readonly FamilyDefinition[], publish: (message: SeriesMessage) => void) {
    this.#publish = publish;
    for (const family of families) this.#families.set(family.name, family);
    publish({ kind: 'families', families });
    this.#addChunk();
  }

  /** The (first) cell of a series, created when new. Label text comes from {@link renderLabels}. */
  cell(family: string, labels: string): number {
    return this.#series.get(family)?.get(labels) ?? this.cells([family], labels)[0] ?? 0;
  }

  /** The cells of several families' series with the same labels, created when new. */
  cells(families: readonly string[], labels: string): number[] {
    const added: { families: string[]; cells: number[] } = { families: [], cells: [] };
    const cells = families.map((family) => {
      const known = this.#series.get(family)?.get(labels);
      if (known !== undefined) return known;
      const definition = this.#families.get(family);
      if (definition === undefined) throw new TypeError(`unknown metric family ${family}`);
      const cell = this.#allocate(cellCount(definition));
      if (cell === 0) return 0;
      const series = this.#series.get(family) ?? new Map<string, number>();
      series.set(labels, cell);
      this.#series.set(family, series);
      added.families.push(family);
      added.cells.push(cell);
      return cell;
    });
    if (added.cells.length > 0) this.#publish({ kind: 'series', series: { labels, ...added } });
    return cells;
  }

  /** Adds to a counter or gauge. */
  add(cell: number, amount: number): void {
    const chunk = this.#chunks[cell >> CHUNK_BITS];
    const at = cell & CHUNK_MASK;
    if (chunk !== undefined) chunk[at] = (chunk[at] ?? 0) + amount;
  }

  /** Sets a gauge. */
  set(cell: number, value: number): void {
    const chunk = this.#chunks[cell >> CHUNK_BITS];
    if (chunk !== undefined) chunk[cell & CHUNK_MASK] = value;
  }

  /** A cell's value. */
  get(cell: number): number {
    return readCell(this.#chunks, cell);
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
    const series = this.#series.get(family);
    const cell = series?.get(labels);
    const definition = this.#families.get(family);
    if (cell === undefined || definition === undefined) return;
    series?.delete(labels);
    const count = cellCount(definition);
    for (let at = 0; at < count; at++) this.set(cell + at, 0);
    const free = this.#freeCells.get(count) ?? [];
    free.push(cell);
    this.#freeCells.set(count, free);
    this.#publish({ kind: 'removed', family, labels });
  }

  #addChunk(): void {
    const memory = new SharedArrayBuffer(CHUNK_CELLS * 8);
    this.#chunks.push(new Float64Array(memory));
    this.#publish({ kind: 'memory', memory });
  }

  #allocate(count: number): number {
    const free = this.#freeCells.get(count)?.pop();
    if (free !== undefined) return free;
    if (this.#nextCell + count > MAX_CELLS) return 0;
    const cell = this.#nextCell;
    this.#nextCell += count;
    while (this.#nextCell > this.#chunks.length * CHUNK_CELLS) this.#addChunk();
    return cell;
  }
}

function readCell(chunks: readonly Float64Array[], cell: number): number {
  return chunks[cell >> CHUNK_BITS]?.[cell & CHUNK_MASK] ?? 0;
}

function cellCount(family: FamilyDefinition): number {
  return family.type === 'histogram' ? (family.buckets?.length ?? 0) + 2 : 1;
}

/** The scraping thread's view of one thread's table. */
export class SeriesReader {
  readonly families = new Map<string, FamilyDefinition>();
  /** Family name to label text to first cell. */
  readonly series = new Map<string, Map<string, number>>();
  readonly #chunks: Float64Array[] = [];
  /** Called when a series has been removed. */
  onRemoved: ((family: string, labels: string) => void) | undefined;

  /** Takes a message of the table. */
  apply(message: SeriesMessage): void {
    if (message.kind === 'memory') {
      this.#chunks.push(new Float64Array(message.memory));
    } else if (message.kind === 'families') {
      for (const family of message.families) this.families.set(family.name, family);
    } else if (message.kind === 'series') {
      const { labels, families, cells } = message.series;
      for (const [at, family] of families.entries()) {
        const known = this.series.get(family) ?? new Map<string, number>();
        known.set(labels, cells[at] ?? 0);
        this.series.set(family, known);
      }
    } else {
      this.series.get(message.family)?.delete(message.labels);
      this.onRemoved?.(message.family, message.labels);
    }
  }

  /** A cell's value now. */
  value(cell: number): number {
    return readCell(this.#chunks, cell);
  }
}
