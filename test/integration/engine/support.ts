// Shared by the engine's tests: a reactor that shares the thread with Node's own loop, and small promises.
import { Reactor } from '../../../engine/reactor/reactor.ts';
import { copyBytes } from '../../../engine/reactor/bytes.ts';
import type { CloseReason, Duplex } from '../../../engine/reactor/duplex.ts';

/** A running reactor; the caller closes it. */
export function startReactor(): Reactor {
  const reactor = new Reactor({ maxWaitMs: 1 });
  reactor.start();
  return reactor;
}

/** Everything a stream received, and how it ended. */
export interface Collected {
  readonly chunks: Buffer[];
  text(): string;
  bytes: number;
  ended: boolean;
  readonly end: Promise<void>;
  readonly closed: Promise<CloseReason>;
}

/** Collects a stream's input and resumes it. */
export function collect(stream: Duplex, keep = true): Collected {
  let setEnd: () => void = () => undefined;
  let setClosed: (reason: CloseReason) => void = () => undefined;
  const result: Collected = {
    chunks: [],
    text: () => Buffer.concat(result.chunks).toString(),
    bytes: 0,
    ended: false,
    end: new Promise((resolve) => (setEnd = resolve)),
    closed: new Promise((resolve) => (setClosed = resolve)),
  };
  stream.handler = {
    onData: (address, length) => {
      result.bytes += length;
      if (keep) result.chunks.push(copyBytes(address, length));
    },
    onEnd: () => {
      result.ended = true;
      setEnd();
    },
    onDrain: () => undefined,
    onClose: (reason) => setClosed(reason),
  };
  stream.resume();
  return result;
}

/** Polls until `check` holds. */
export async function until(check: () => boolean, what: string, timeoutMs = 10_000): Promise<void> {
  const deadline = Date.now() + timeoutMs;
  while (!check()) {
    if (Date.now() > deadline) throw new Error(`timed out: ${what}`);
    await new Promise((resolve) => setImmediate(resolve));
  }
}
