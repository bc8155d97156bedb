// The server side of an HTTP/1.1 connection (RFC 9112) over any Duplex. One request at a time: pipelined ones wait
// in a bounded queue while reading is paused. An answer that comes before its request has ended closes the
// connection after it, because what follows could not be told from a new request.
import { ByteQueue } from '../native/memory.ts';
import type { HeaderList } from '../http2/types.ts';
import type { CloseReason, Duplex, DuplexHandler } from '../reactor/duplex.ts';
import { BodyWriter } from './body-writer.ts';
import { headerValue, requestHead, writeResponseHead } from './heads.ts';
import type { Framing } from './heads.ts';
import { Http1Parser } from './parser.ts';
import type { Http1Head } from './parser.ts';
import { Http1ServerStream } from './server-stream.ts';
import type { Http1ServerEvents, Http1ServerOptions, HttpTimers } from './types.ts';

const LINGER_MS = 2000;
const DRAIN_IDLE_MS = 2000;
const BAD_REQUEST_TEXT: Readonly<Record<number, string>> = {
  400: 'Bad Request',
  408: 'Request Timeout',
  431: 'Request Header Fields Too Large',
};

/** Serves the requests of one connection. */
export class Http1ServerConnection implements DuplexHandler {
  readonly duplex: Duplex;
  readonly #events: Http1ServerEvents;
  readonly #options: Http1ServerOptions;
  readonly #timers: HttpTimers;
  readonly #parser: Http1Parser;
  readonly writer: BodyWriter;
  readonly #queue = new ByteQueue();
  #stream: Http1ServerStream | undefined;
  /** The request's body has ended; the next request must wait for the answer. */
  #isRequestDone = false;
  #isTunnel = false;
  /** No request after this one. */
  #isLast = false;
  /** Input is read and dropped until the peer closes. */
  #isLingering = false;
  #hasInputEnded = false;
  #isDraining = false;
  #isClosed = false;
  #isFeeding = false;
  /** Part of a head is here, and it has its time. */
  #isHeadTimed = true;
  #deadline: number;
  #timerAt = 0;
  #timer: { cancel(): void } | undefined;

  constructor(
    duplex: Duplex,
    timers: HttpTimers,
    options: Http1ServerOptions,
    events: Http1ServerEvents,
  ) {
    this.duplex = duplex;
    this.#timers = timers;
    this.#options = options;
    this.#events = events;
    this.writer = new BodyWriter(duplex);
    this.#parser = new Http1Parser('request', options, {
      onHead: (head) => this.#onHead(head),
      onBody: (address, length) => this.#stream?.handler.onData(address, length),
      onComplete: (trailers) => this.#onComplete(trailers),
    });
    this.#parser.takesUpgrade = true;
    this.#deadline = timers.now() + options.headTimeoutMs;
    this.#armTimer();
    duplex.handler = this;
    duplex.resume();
  }

  /** No request is being served. */
  get isIdle(): boolean {
    return this.#stream === undefined;
  }

  /**
   * The next answer says that it is the last. A connection without a request gets a short time for one: its client may
   * have sent it already, and would not know whether it was served.
   */
  drain(): void {
    this.#isDraining = true;
    if (this.#stream === undefined) this.#setDeadline(this.#timers.now() + DRAIN_IDLE_MS);
  }

  onData(address: number, length: number): void {
    if (this.#isLingering || this.#isClosed) return;
    if (this.#isTunnel) {
      this.#stream?.handler.onData(address, length);
      return;
    }
    if (this.#queue.length > 0 || this.#isFeeding) {
      this.#queue.push(address, length);
      return;
    }
    this.#feed(address, length);
  }

  onEnd(): void {
    this.#hasInputEnded = true;
    if (this.#isTunnel) {
      this.#stream?.handler.onEnd();
      return;
    }
    if (this.#stream === undefined) {
      this.#finish();
      return;
    }
    // A client may half-close after its last request; one that ends inside a request has gone away.
    if (this.#isRequestDone) this.#isLast = true;
    else this.duplex.reset();
  }

  onDrain(): void {
    this.#stream?.handler.onDrain();
  }

  onClose(reason: CloseReason): void {
    if (this.#isClosed) return;
    this.#isClosed = true;
    this.#timer?.cancel();
    this.#parser.close();
    this.#queue.clear();
    const stream = this.#stream;
    this.#stream = undefined;
    stream?.close(reason.code === 'ok' ? { code: 'reset', detail: 'peer closed' } : reason);
    this.#events.onClose(reason);
  }

  /** For the stream: sends the head of an answer. */
  respond(stream: Http1ServerStream, headers: HeaderList, endStream: boolean): void {
    const status = Number(headerValue(headers, ':status') ?? '200');
    if (status === 101) {
      this.writer.start(writeResponseHead(headers, 'none', false), 'close', false);
      this.#becomeTunnel();
      return;
    }
    if (status < 200) {
      this.duplex.writeBytes(Buffer.from(writeResponseHead(headers, 'none', false), 'latin1'));
      return;
    }
    const framing = responseFraming(stream, headers, status, endStream);
    const isEarly = !this.#isRequestDone;
    if (framing === 'close' || isEarly || this.#isDraining) this.#isLast = true;
    const withLength = [...headers];
    if (endStream && framing === 'length' && headerValue(headers, 'content-length') === undefined) {
      withLength.push(['content-length', '0']);
    }
    // HTTP/1.0 clients close unless they are told not to.
    if (stream.minorVersion === 0 && !this.#isLast) withLength.push(['connection', 'keep-alive']);
    // The answer to HEAD says how GET's would be framed; a client that sees no framing waits for the end.
    const isHead = stream.method === 'HEAD' && status !== 204 && status !== 304;
    const saysChunked = isHead && headerValue(headers, 'content-length') === undefined;
    const head = writeResponseHead(withLength, saysChunked ? 'chunked' : framing, this.#isLast);
    this.writer.start(head, framing, endStream);
    if (endStream) this.responseDone(stream);
  }

  /** For the stream: the answer is complete. */
  responseDone(stream: Http1ServerStream): void {
    if (this.#stream !== stream || this.#isTunnel) return;
    if (!this.#isRequestDone) {
      this.#linger();
      return;
    }
    this.#stream = undefined;
    stream.close({ code: 'ok', detail: '' });
    if (this.#isClosed) return;
    if (this.#isLast || this.#hasInputEnded) this.#finish();
    else this.#nextRequest();
  }

  /** For the stream: pause and resume of the request's body. */
  setReading(isReading: boolean): void {
    if (!this.#isTunnel && this.#isRequestDone) return;
    if (isReading) this.duplex.resume();
    else this.duplex.pause();
  }

  #onHead(head: Http1Head): void {
    this.#deadline = Infinity;
    this.#isHeadTimed = false;
    // An answer given before the body was delivered need not close the connection when the body is here anyway.
    this.#isRequestDone = head.isComplete;
    this.#isLast = !head.keepsAlive;
    const request = requestHead(head);
    if ('problem' in request) {
      this.#refuse(400, request.problem);
      return;
    }
    const hasBody = head.isFramed && headerValue(head.headers, 'content-length') !== '0';
    const stream = new Http1ServerStream(this, head.method, head.minorVersion, request.isUpgrade);
    this.#stream = stream;
    const events = this.#events.onRequest(
      stream,
      request.headers,
      !hasBody && !request.isUpgrade,
      head.minorVersion,
    );
    stream.events = events;
  }

  #onComplete(trailers: HeaderList): void {
    this.#isRequestDone = true;
    const stream = this.#stream;
    if (stream === undefined) return;
    if (trailers.length > 0) stream.events?.onTrailers(trailers);
    if (stream === this.#stream && !stream.isUpgrade) stream.requestEnded();
  }

  #feed(firstAddress: number, total: number): void {
    let address = firstAddress;
    let length = total;
    this.#isFeeding = true;
    try {
      while (length > 0 && !this.#isClosed && !this.#isLingering) {
        if (this.#isTunnel) {
          this.#stream?.handler.onData(address, length);
          return;
        }
        if (this.#isRequestDone) {
          this.#queue.push(address, length);
          this.duplex.pause();
          return;
        }
        const outcome = this.#parser.feed(address, length);
        if (this.#parser.isClosed) return;
        if (outcome.kind === 'limit' || outcome.kind === 'invalid') {
          this.#refuse(outcome.kind === 'limit' ? 431 : 400, outcome.detail);
          return;
        }
        address += outcome.consumed;
        length -= outcome.consumed;
        // The answer was complete before the parser came to rest: the next message may follow at once.
        if (outcome.kind !== 'more' && this.#stream === undefined) this.#rearm();
      }
    } finally {
      this.#isFeeding = false;
    }
    if (this.#queue.length > 0 && !this.#isRequestDone) this.#drainQueue();
    // Only a head that came in part needs the timer: most come whole.
    if (this.#isClosed || this.#isHeadTimed || this.#stream !== undefined) return;
    if (this.#parser.isInMessage) {
      this.#isHeadTimed = true;
      this.#setDeadline(this.#timers.now() + this.#options.headTimeoutMs);
    }
  }

  #rearm(): void {
    if (!this.#isRequestDone) return;
    this.#isRequestDone = false;
    this.#parser.next();
    if (this.#isDraining) this.#setDeadline(this.#timers.now() + DRAIN_IDLE_MS);
    else this.#deadline = this.#timers.now() + this.#options.idleTimeoutMs;
  }

  #nextRequest(): void {
    // Inside feed() the parser is not at rest yet; feed's loop goes on by itself.
    if (this.#isFeeding) return;
    this.#rearm();
    // Deferred: a pipelining client must not grow the stack by one frame a request.
    if (this.#queue.length > 0) this.#timers.defer(() => this.#drainQueue());
    else this.duplex.resume();
  }

  #drainQueue(): void {
    if (this.#isClosed || this.#queue.length === 0) return;
    const bytes = new ByteQueue();
    bytes.push(this.#queue.address, this.#queue.length);
    this.#queue.clear();
    try {
      this.#feed(bytes.address, bytes.length);
    } finally {
      bytes.clear();
    }
    if (this.#queue.length === 0 && !this.#isRequestDone) this.duplex.resume();
  }

  #becomeTunnel(): void {
    this.#isTunnel = true;
    this.duplex.resume();
    const stream = this.#stream;
    if (this.#queue.length > 0) {
      this.#timers.defer(() => {
        if (!this.#isClosed) stream?.handler.onData(this.#queue.address, this.#queue.length);
        this.#queue.clear();
      });
    }
  }

  #refuse(status: number, detail: string): void {
    this.#events.onBadRequest(status, detail);
    const stream = this.#stream;
    if (stream !== undefined) {
      // The body is broken: the exchange cannot be answered any more in a way the peer would understand.
      this.duplex.reset();
      return;
    }
    const text = `HTTP/1.1 ${status} ${BAD_REQUEST_TEXT[status] ?? ''}\r\ncontent-length: 0\r\nconnection: close\r\n\r\n`;
    this.duplex.writeBytes(Buffer.from(text, 'latin1'));
    this.#linger();
  }

  #linger(): void {
    const stream = this.#stream;
    this.#stream = undefined;
    this.#isLingering = true;
    this.#deadline = this.#timers.now() + LINGER_MS;
    this.#armTimer();
    this.duplex.resume();
    this.duplex.end();
    stream?.close({ code: 'ok', detail: '' });
  }

  #finish(): void {
    if (this.#isClosed) return;
    this.#isLingering = true;
    this.#deadline = this.#timers.now() + LINGER_MS;
    this.#armTimer();
    this.duplex.resume();
    this.duplex.end();
  }

  #setDeadline(deadline: number): void {
    this.#deadline = deadline;
    if (deadline < this.#timerAt) this.#armTimer();
  }

  /** One timer a connection, moved only when a deadline comes nearer; it looks again when it fires early. */
  #armTimer(): void {
    this.#timer?.cancel();
    const now = this.#timers.now();
    this.#timerAt = Math.min(this.#deadline, now + this.#options.idleTimeoutMs);
    this.#timer = this.#timers.after(Math.max(1, this.#timerAt - now), () => this.#onTimer());
  }

  #onTimer(): void {
    this.#timer = undefined;
    if (this.#isClosed) return;
    if (this.#timers.now() < this.#deadline) {
      this.#armTimer();
      return;
    }
    if (this.#isLingering) this.duplex.reset();
    else if (this.#stream === undefined) this.#onIdleTimeout();
    else this.#armTimer();
  }

  #onIdleTimeout(): void {
    // An idle connection is closed in silence; one that began a head and stalled is told.
    if (this.#parser.isInMessage) this.#refuse(408, 'request headers timed out');
    else this.#finish();
  }
}

function responseFraming(
  stream: Http1ServerStream,
  headers: HeaderList,
  status: number,
  endStream: boolean,
): Framing {
  if (stream.method === 'HEAD' || status === 204 || status === 304) return 'none';
  if (headerValue(headers, 'content-length') !== undefined || endStream) return 'length';
  return stream.minorVersion >= 1 ? 'chunked' : 'close';
}
