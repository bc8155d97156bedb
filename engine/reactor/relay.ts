// Joins two streams until both directions have ended. Half-close passes through, a failure of one side resets
// the other. An HTTP/2 stream and a socket are joined without copies (`attachSource`, `attachSink`).
import type {
  CloseReason,
  Duplex,
  DuplexHandler,
  Relay,
  RelayCounters,
  RelayResult,
  StartRelay,
} from './duplex.ts';
import { CLOSED_OK } from './stream-error.ts';
import { TcpStream } from './tcp-stream.ts';

/** A stream that can read from and write to a socket itself, in batches (engine/http2). */
export interface SocketJoiner extends Duplex {
  /** Sends what `source` receives, its end included; `onBytes` counts. */
  attachSource(source: TcpStream, onBytes: (bytes: number) => void): void;
  /** Writes what arrives to `sink`; the end still comes to the handler. `onBytes` counts. */
  attachSink(sink: TcpStream, onBytes: (bytes: number) => void): void;
}

function isJoiner(stream: Duplex): stream is SocketJoiner {
  return 'attachSource' in stream;
}

type Side = 'a' | 'b';

class StreamRelay implements Relay {
  forwardBytes = 0;
  backwardBytes = 0;
  readonly #a: Duplex;
  readonly #b: Duplex;
  readonly #onDone: (result: RelayResult) => void;
  #reason: CloseReason = CLOSED_OK;
  #failedSide: Side | undefined;
  #isFailed = false;
  #isAClosed = false;
  #isBClosed = false;

  constructor(
    a: Duplex,
    b: Duplex,
    counters: RelayCounters,
    onDone: (result: RelayResult) => void,
  ) {
    this.#a = a;
    this.#b = b;
    this.#onDone = onDone;
    const addForward = (bytes: number): void => {
      this.forwardBytes += bytes;
      counters.addForward(bytes);
    };
    const addBackward = (bytes: number): void => {
      this.backwardBytes += bytes;
      counters.addBackward(bytes);
    };
    a.handler = this.#handler('a', a, b, addForward);
    b.handler = this.#handler('b', b, a, addBackward);
    if (a instanceof TcpStream && isJoiner(b)) {
      b.attachSource(a, addForward);
      b.attachSink(a, addBackward);
    } else if (b instanceof TcpStream && isJoiner(a)) {
      a.attachSource(b, addBackward);
      a.attachSink(b, addForward);
    }
    // A side that closed before it had a handler told nobody.
    if (a.isClosed) this.#sideClosed('a', { code: 'reset', detail: 'closed before the relay' });
    if (b.isClosed) this.#sideClosed('b', { code: 'reset', detail: 'closed before the relay' });
    a.resume();
    b.resume();
  }

  #handler(side: Side, from: Duplex, to: Duplex, count: (bytes: number) => void): DuplexHandler {
    return {
      onData: (address, length) => {
        count(length);
        if (!to.write(address, length)) from.pause();
      },
      onEnd: () => to.end(),
      onDrain: () => to.resume(),
      onClose: (reason) => this.#sideClosed(side, reason),
    };
  }

  #sideClosed(side: Side, reason: CloseReason): void {
    // A side found closed at the start may still announce it.
    if (side === 'a' ? this.#isAClosed : this.#isBClosed) return;
    if (side === 'a') this.#isAClosed = true;
    else this.#isBClosed = true;
    if (reason.code !== 'ok' && !this.#isFailed) {
      this.#isFailed = true;
      this.#reason = reason;
      this.#failedSide = side;
      (side === 'a' ? this.#b : this.#a).reset();
    }
    if (!this.#isAClosed || !this.#isBClosed) return;
    this.#onDone({
      forwardBytes: this.forwardBytes,
      backwardBytes: this.backwardBytes,
      reason: this.#reason,
      failedSide: this.#failedSide,
    });
  }

  abort(detail: string): void {
    if (this.#isFailed || (this.#isAClosed && this.#isBClosed)) return;
    this.#isFailed = true;
    this.#reason = { code: 'closed', detail };
    this.#a.reset();
    this.#b.reset();
  }
}

/** Starts a relay; see `StartRelay` in duplex.ts. */
export const startRelay: StartRelay = (a, b, counters, onDone) =>
  new StreamRelay(a, b, counters, onDone);
