// The store on disk: one file of JSON lines, appended synchronously before a change is answered (so a killed
// process loses nothing the kernel has) and rewritten atomically when most of its lines are stale.
// It does not fsync each line: a power cut may lose the last seconds, which a development cluster accepts.
import {
  closeSync,
  existsSync,
  fsyncSync,
  mkdirSync,
  openSync,
  readFileSync,
  renameSync,
  writeSync,
} from 'node:fs';
import { join } from 'node:path';

/** One change: `value` is an object's JSON, undefined when it was removed. */
export interface JournalEntry {
  readonly bucket: string;
  readonly key: string;
  readonly revision: number;
  readonly value: string | undefined;
}

interface Line {
  b: string;
  k: string;
  r: number;
  v?: unknown;
}

const COMPACT_MIN_BYTES = 8 * 1024 * 1024;

/** Appends changes and can be replaced by a snapshot. */
export class Journal {
  readonly #path: string;
  #fd: number;
  #bytes = 0;
  #compactAt = COMPACT_MIN_BYTES;

  private constructor(path: string, fd: number) {
    this.#path = path;
    this.#fd = fd;
  }

  /** Opens (or creates) the journal of a data directory and replays it. */
  static open(
    dir: string,
    replay: (line: { bucket: string; key: string; revision: number; value: unknown }) => void,
  ): Journal {
    mkdirSync(dir, { recursive: true, mode: 0o700 });
    const path = join(dir, 'objects.jsonl');
    if (existsSync(path)) {
      for (const text of readFileSync(path, 'utf8').split('\n')) {
        const line = parseLine(text);
        // A torn last line is the write a crash cut off; it was never answered.
        if (line !== undefined) {
          replay({ bucket: line.b, key: line.k, revision: line.r, value: line.v });
        }
      }
    }
    return new Journal(path, openSync(path, 'a', 0o600));
  }

  append(entry: JournalEntry): void {
    this.#bytes += writeEntry(this.#fd, entry);
  }

  /** Whether it is time for {@link Journal.compact}. */
  get isLarge(): boolean {
    return this.#bytes > this.#compactAt;
  }

  /** Replaces the file by one that holds only live objects. */
  compact(revision: number, live: Iterable<JournalEntry>): void {
    const next = `${this.#path}.new`;
    const fd = openSync(next, 'w', 0o600);
    let bytes = writeEntry(fd, { bucket: '', key: '', revision, value: undefined });
    for (const entry of live) bytes += writeEntry(fd, entry);
    fsyncSync(fd);
    renameSync(next, this.#path);
    closeSync(this.#fd);
    this.#fd = fd;
    this.#bytes = bytes;
    this.#compactAt = Math.max(COMPACT_MIN_BYTES, bytes * 4);
  }

  close(): void {
    fsyncSync(this.#fd);
    closeSync(this.#fd);
  }
}

function writeEntry(fd: number, entry: JournalEntry): number {
  const head = `{"b":${JSON.stringify(entry.bucket)},"k":${JSON.stringify(entry.key)},"r":${entry.revision}`;
  const buffer = Buffer.from(
    entry.value === undefined ? `${head}}\n` : `${head},"v":${entry.value}}\n`,
  );
  for (let sent = 0; sent < buffer.length;) sent += writeSync(fd, buffer, sent);
  return buffer.length;
}

function parseLine(text: string): Line | undefined {
  if (text === '') return undefined;
  try {
    return JSON.parse(text) as Line;
  } catch {
    return undefined;
  }
}
