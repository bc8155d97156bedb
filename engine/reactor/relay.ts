// Joins two streams until both directions have ended. Half-close passes through, a failure of one side resets
// the other. An HTTP/2 stream and a socket are joined without copies (`attachSource`, `attachSink`), two sockets by the kernel
// where nobody observes what passes.
import type {
  CloseReason,
  Duplex,
  DuplexHandler,
  Relay,
  RelayCounters,
  RelayObserver,
  RelayResult,
  StartRelay,
} from './duplex.ts';
import { SplicePump } from './splice-pump.ts';
import { CLOSED_OK } from './stream-error.ts';
import { TcpStream } from './tcp-stream.ts';

/** Sees what a joined stream takes from its source and gives to its sink. The bytes are valid only during the call. */
export interface JoinTap {
  sent(address: number, length: number): void;
  received(address: number, length: number): void;
}

/** A stream that can read from and write to a socket itself, in batches (engine/http2). */
export interface SocketJoiner extends Duplex {
  /** Sends what `source` receives, its end included; `onBytes` counts. */
  attachSource(source: TcpStream, onBytes: (bytes: number) => void): void;
  /** Writes what arrives to `sink`; the end still comes to the handler. `onBytes` counts. */
  attachSink(sink: TcpStream, onBytes: (bytes: number) => void): void;
  /** While somebody looks. */
  tap: JoinTap | undefined;
}

function isJoiner(stream: Duplex): stream is SocketJoiner {
  return 'attachSource' in stream;
}

interface Joint {
  readonly joiner: SocketJoiner;
  readonly socket: TcpStream;
}

/** The one of the two that the other, a socket, can be joined to. */
function jointOf(a: Duplex, b: Duplex): Joint | undefined {
  if (a instanceof TcpStream && isJoiner(b)) return { joiner: b, socket: a };
  return b instanceof TcpStream && isJoiner(a) ? { joiner: a, socket: b } : undefined;
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
  #observer: RelayObserver | undefined;
  /** Between two sockets: the directions, which the kernel may move. */
  #forward: SplicePump | undefined;
  #backward: SplicePump | undefined;

  constructor(
    a: Duplex,
    b: Duplex,
    counters: RelayCounters,
    onDone: (result: RelayResult) => void,
    observer: RelayObserver | undefined,
  ) {
    this.#a = a;
    this.#b = b;
    this.#onDone = onDone;
    this.#observer = observer;
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
    const join = (): void => this.#join(addForward, addBackward);
    if (observer === undefined) join();
    else this.#watch(observer, join);
    // A side that closed before it had a handler told nobody.
    if (a.isClosed) this.#sideClosed('a', { code: 'reset', detail: 'closed before the relay' });
    if (b.isClosed) this.#sideClosed('b', { code: 'reset', detail: 'closed before the relay' });
    a.resume();
    b.resume();
  }

  #handler(side: Side, from: Duplex, to: Duplex, count: (bytes: number) => void): DuplexHandler {
    return {
      onData: (address, length) => {
        if (to.isClosed) {
          this.#refuseMore(from);
          return;
        }
        count(length);
        if (!to.write(address, length)) from.pause();
        (side === 'a' ? this.#forward : this.#backward)?.noteCopied(length);
      },
      onEnd: () => to.end(),
      onDrain: () => to.resume(),
      onClose: (reason) => this.#sideClosed(side, reason),
    };
  }

  /** Lets the bytes pass without this relay, where the two streams can. */
  #join(addForward: (bytes: number) => void, addBackward: (bytes: number) => void): void {
    const a = this.#a;
    const b = this.#b;
    const joint = jointOf(a, b);
    if (joint !== undefined) {
      const { joiner, socket } = joint;
      joiner.attachSource(socket, socket === a ? addForward : addBackward);
      joiner.attachSink(socket, socket === a ? addBackward : addForward);
    } else if (a instanceof TcpStream && b instanceof TcpStream) {
      this.#forward = new SplicePump(a, b, addForward);
      this.#backward = new SplicePump(b, a, addBackward);
    }
  }

  /** Shows the observer what passes; two sockets are joined when it has seen enough. */
  #watch(observer: RelayObserver, join: () => void): void {
    const a = this.#a;
    const b = this.#b;
    const plainA = a.handler;
    const plainB = b.handler;
    const joiner = jointOf(a, b)?.joiner;
    const stop = (): void => {
      this.#observer = undefined;
      a.handler = plainA;
      b.handler = plainB;
      if (joiner !== undefined) joiner.tap = undefined;
      else if (!a.isClosed && !b.isClosed) join();
    };
    const sawForward = (address: number, length: number): void => {
      if (!observer.sawForward(address, length)) stop();
    };
    const sawBackward = (address: number, length: number): void => {
      if (!observer.sawBackward(address, length)) stop();
    };
    a.handler = {
      ...plainA,
      onData: (address, length) => {
        plainA.onData(address, length);
        sawForward(address, length);
      },
    };
    b.handler = {
      ...plainB,
      onData: (address, length) => {
        plainB.onData(address, length);
        sawBackward(address, length);
      },
      onEnd: () => {
        plainB.onEnd();
        if (!observer.sawBackwardEnd()) stop();
      },
    };
    if (joiner === undefined) return;
    joiner.tap =
      joiner === b
        ? { sent: sawForward, received: sawBackward }
        : { sent: sawBackward, received: sawForward };
    join();
  }

  #sideClosed(side: Side, reason: CloseReason): void {
    // A side found closed at the start may still announce it.
    if (side === 'a' ? this.#isAClosed : this.#isBClosed) return;
    if (side === 'a') this.#isAClosed = true;
    else this.#isBClosed = true;
    if (reason.code !== 'ok' && this.#fail(reason, side))
      (side === 'a' ? this.#b : this.#a).reset();
    if (!this.#isAClosed || !this.#isBClosed) return;
    this.#observer?.ended();
    this.#forward?.close();
    this.#backward?.close();
    this.#onDone({
      forwardBytes: this.forwardBytes,
      backwardBytes: this.backwardBytes,
      reason: this.#reason,
      failedSide: this.#failedSide,
    });
  }

  /** The far end has closed in order while this one still speaks: as TCP does, it is told by a reset. */
  #refuseMore(from: Duplex): void {
    const reason: CloseReason = { code: 'reset', detail: 'sent to an end that takes no more' };
    this.#fail(reason, from === this.#a ? 'b' : 'a');
    from.reset();
  }

  /** Notes the first failure; false when there was one. */
  #fail(reason: CloseReason, side: Side | undefined): boolean {
    if (this.#isFailed) return false;
    this.#isFailed = true;
    this.#reason = reason;
    this.#failedSide = side;
    return true;
  }

  abort(detail: string): void {
    if (this.#isAClosed && this.#isBClosed) return;
    if (!this.#fail({ code: 'closed', detail }, undefined)) return;
    this.#a.reset();
    this.#b.reset();
  }
}

/** Starts a relay; see `StartRelay` in duplex.ts. */
export const startRelay: StartRelay = (a, b, counters, onDone, observer) =>
  new StreamRelay(a, b, counters, onDone, observer);
