// Looks at the first bytes of a connection: HTTP/2 preface (RFC 9113 section 3.4), an HTTP/1 request line, or
// neither. A peer that waits for the server to speak first is `other` after the timeout. Nothing is lost: what was
// read is given to the handler that the owner installs.
import { ByteQueue } from '../native/memory.ts';
import { copyBytes } from '../reactor/bytes.ts';
import type { CloseReason, Duplex } from '../reactor/duplex.ts';
import type { HttpTimers } from './types.ts';

/** What the first bytes are. */
export type DetectedProtocol = 'http1' | 'http2' | 'other';

/** The answer; exactly one of the two is called, once. */
export interface DetectEvents {
  /** Install a handler on the stream, then call `replay`: it delivers what was read, and an end that was seen. */
  onDetected(protocol: DetectedProtocol, replay: () => void): void;
  onClose(reason: CloseReason): void;
}

const PREFACE = Buffer.from('PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n', 'latin1');
// A method is at most this long before its space; longer first words are not HTTP.
const MAX_METHOD = 20;

/** Starts looking; takes over the stream's handler until it has an answer. Timeout 0 waits for ever. */
export function detectProtocol(
  duplex: Duplex,
  timers: HttpTimers,
  timeoutMs: number,
  events: DetectEvents,
): void {
  const held = new ByteQueue();
  let hasEnded = false;
  let isDone = false;
  const timer = timeoutMs === 0 ? undefined : timers.after(timeoutMs, () => decide('other'));
  const decide = (
    protocol: DetectedProtocol,
    address = held.address,
    length = held.length,
  ): void => {
    if (isDone) return;
    isDone = true;
    timer?.cancel();
    events.onDetected(protocol, () => {
      if (length > 0) duplex.handler.onData(address, length);
      held.clear();
      if (hasEnded) duplex.handler.onEnd();
    });
  };
  duplex.handler = {
    onData(address, length) {
      if (isDone) return;
      if (held.length === 0) {
        const found = classify(copyBytes(address, Math.min(length, PREFACE.length)));
        if (found !== undefined) {
          decide(found, address, length);
          return;
        }
      }
      held.push(address, length);
      const found = classify(copyBytes(held.address, Math.min(held.length, PREFACE.length)));
      if (found !== undefined) decide(found);
    },
    onEnd() {
      hasEnded = true;
      decide('other');
    },
    onDrain: () => undefined,
    onClose(reason) {
      if (isDone) return;
      isDone = true;
      timer?.cancel();
      held.clear();
      events.onClose(reason);
    },
  };
  duplex.resume();
}

/** Undefined while more bytes are needed. */
export function classify(bytes: Buffer): DetectedProtocol | undefined {
  const common = Math.min(bytes.length, PREFACE.length);
  if (bytes.subarray(0, common).equals(PREFACE.subarray(0, common))) {
    return common === PREFACE.length ? 'http2' : undefined;
  }
  const space = bytes.indexOf(0x20);
  const word = bytes.toString('latin1', 0, space < 0 ? bytes.length : space);
  if (!/^[A-Z][A-Z-]*$/.test(word) || word.length > MAX_METHOD) return 'other';
  if (space < 0) return undefined;
  const next = bytes[space + 1];
  // The target begins with `/`, `*` or a scheme or host letter.
  if (next === undefined) return undefined;
  return next === 0x2f || next === 0x2a || (next >= 0x41 && next <= 0x7a) ? 'http1' : 'other';
}
