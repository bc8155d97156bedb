// Where log lines go. A data thread gathers them and hands them to the control thread, which writes them without
// blocking; a reader that stalls costs lines, which are counted, never traffic (Istio's ztunnel blocks).
import { write, writeSync } from 'node:fs';
import type { Timer } from '../clock.ts';

/** Takes finished lines, each with its end of line. */
export interface LogSink {
  write(line: string): void;
  /** Hands on what is held back. */
  flush(): void;
}

/** Writes at once. For programs that log little: nothing is lost when they crash. */
export function directSink(fd = 1): LogSink {
  return {
    write: (line) => {
      try {
        writeSync(fd, line);
      } catch {
        // The reader has gone, or stalls and the descriptor does not block: no reason to end.
      }
    },
    flush: () => undefined,
  };
}

const BATCH_CHARS = 32_768;
const BATCH_MS = 50;

/** Gathers lines for a short time: a hand-over for each would cost more than the line. */
export class BatchSink implements LogSink {
  readonly #handOver: (text: string) => void;
  readonly #after: (delayMs: number, fn: () => void) => Timer;
  #text = '';
  #timer: Timer | undefined;

  constructor(handOver: (text: string) => void, after: (delayMs: number, fn: () => void) => Timer) {
    this.#handOver = handOver;
    this.#after = after;
  }

  write(line: string): void {
    this.#text += line;
    if (this.#text.length >= BATCH_CHARS) this.flush();
    else this.#timer ??= this.#after(BATCH_MS, () => this.flush());
  }

  flush(): void {
    this.#timer?.cancel();
    this.#timer = undefined;
    if (this.#text === '') return;
    const text = this.#text;
    this.#text = '';
    this.#handOver(text);
  }
}

const MAX_PENDING_BYTES = 4 << 20;
const RETRY_MS = 50;

/** Writes to a descriptor without blocking the thread, within a bound. One for a process and descriptor. */
export class AsyncSink implements LogSink {
  readonly #fd: number;
  #queue: Buffer[] = [];
  #pendingBytes = 0;
  #isWriting = false;
  #isEnded = false;
  #retry: NodeJS.Timeout | undefined;
  #onIdle: (() => void)[] = [];
  /** Lines that were not written because the reader stalled. */
  droppedLines = 0;

  constructor(fd = 1) {
    this.#fd = fd;
  }

  write(text: string): void {
    const bytes = Buffer.from(text);
    if (this.#isEnded || this.#pendingBytes + bytes.length > MAX_PENDING_BYTES) {
      this.droppedLines += text.split('\n').length - 1;
      return;
    }
    this.#pendingBytes += bytes.length;
    this.#queue.push(bytes);
    this.#next();
  }

  /** Before the process exits by an error: what is not yet on its way is written now, if the reader takes it. */
  flush(): void {
    const bytes = Buffer.concat(this.#queue);
    this.#queue = [];
    try {
      writeSync(this.#fd, bytes);
    } catch {
      // The reader has gone or stalls.
    }
  }

  /**
   * Resolves when everything is written, or the reader has stalled for too long. Nothing is written after that: the
   * descriptor may be closed, and its number be another file's. A write on its way is waited for as long again.
   */
  async end(timeoutMs = 1000): Promise<void> {
    if (await this.#idleWithin(timeoutMs)) return;
    this.#isEnded = true;
    this.#queue = [];
    const isOnItsWay = this.#retry === undefined;
    clearTimeout(this.#retry);
    if (isOnItsWay) await this.#idleWithin(timeoutMs);
  }

  #idleWithin(timeoutMs: number): Promise<boolean> {
    if (!this.#isWriting) return Promise.resolve(true);
    return new Promise((resolve) => {
      const timer = setTimeout(() => resolve(false), timeoutMs);
      this.#onIdle.push(() => {
        clearTimeout(timer);
        resolve(true);
      });
    });
  }

  #next(): void {
    if (this.#isWriting) return;
    if (this.#queue.length === 0) {
      for (const resolve of this.#onIdle.splice(0)) resolve();
      return;
    }
    this.#isWriting = true;
    const bytes = Buffer.concat(this.#queue);
    this.#queue = [];
    this.#writeAll(bytes);
  }

  #writeAll(bytes: Buffer): void {
    this.#retry = undefined;
    write(this.#fd, bytes, (err, written) => {
      const rest = bytes.subarray(err === null ? written : 0);
      this.#pendingBytes -= bytes.length - rest.length;
      const isHopeless = this.#isEnded || (err !== null && err.code !== 'EAGAIN');
      if (rest.length > 0 && !isHopeless) {
        const pauseMs = err === null ? 0 : RETRY_MS;
        this.#retry = setTimeout(() => this.#writeAll(rest), pauseMs).unref();
        return;
      }
      // Where the reader has gone nobody will miss the rest.
      this.#pendingBytes -= rest.length;
      this.#isWriting = false;
      this.#next();
    });
  }
}
