// The client side of an HTTP/1.1 connection over any Duplex: one exchange at a time, kept alive between them.
// A response that breaks the framing closes the connection; nothing of it can reach the next exchange.
import type { HeaderList } from '../http2/types.ts';
import {
  IGNORE_STREAM,
  type CloseReason,
  type Duplex,
  type DuplexHandler,
} from '../reactor/duplex.ts';
import { BodyWriter } from './body-writer.ts';
import { headerValue, responseHead, writeRequestHead } from './heads.ts';
import type { Framing } from './heads.ts';
import { Http1Parser } from './parser.ts';
import type { Http1Head } from './parser.ts';
import type {
  Http1ClientEvents,
  Http1ClientOptions,
  HttpStream,
  HttpStreamEvents,
} from './types.ts';

/** Sends requests over one connection. */
export class Http1ClientConnection implements DuplexHandler {
  readonly duplex: Duplex;
  readonly writer: BodyWriter;
  readonly #events: Http1ClientEvents;
  readonly #parser: Http1Parser;
  #stream: Http1ClientStream | undefined;
  /** Requests sent so far. */
  #requests = 0;
  #keepsAlive = true;
  #isTunnel = false;
  #isInterim = false;
  #isResponseDone = false;
  #isClosed = false;

  constructor(duplex: Duplex, options: Http1ClientOptions, events: Http1ClientEvents) {
    this.duplex = duplex;
    this.#events = events;
    this.writer = new BodyWriter(duplex);
    this.#parser = new Http1Parser('response', options, {
      onHead: (head) => this.#onHead(head),
      onBody: (address, length) => this.#stream?.handler.onData(address, length),
      onComplete: (trailers) => this.#onComplete(trailers),
    });
    duplex.handler = this;
    duplex.resume();
  }

  /** Another exchange may start now. */
  get isAvailable(): boolean {
    const isOpen = !this.#isClosed && !this.duplex.isClosed;
    return isOpen && this.#stream === undefined && this.#keepsAlive;
  }

  /** The response was 101: raw bytes both ways. */
  get isTunnel(): boolean {
    return this.#isTunnel;
  }

  get requests(): number {
    return this.#requests;
  }

  /** Sends a request. The connection must be available. */
  request(headers: HeaderList, endStream: boolean, events: HttpStreamEvents): HttpStream {
    this.#requests++;
    const stream = new Http1ClientStream(this, events);
    this.#stream = stream;
    this.#isResponseDone = false;
    const method = headerValue(headers, ':method') ?? 'GET';
    const isUpgrade = headerValue(headers, 'upgrade') !== undefined;
    this.#parser.skipsBody = method === 'HEAD';
    this.#parser.takesUpgrade = isUpgrade;
    const framing = requestFraming(headers, method, endStream || isUpgrade);
    const list =
      framing === 'length' && headerValue(headers, 'content-length') === undefined
        ? [...headers, ['content-length', '0'] as const]
        : headers;
    this.writer.start(writeRequestHead(list, framing), framing, endStream || isUpgrade);
    return stream;
  }

  /** Closes an idle connection in order. */
  close(): void {
    this.#keepsAlive = false;
    if (this.#isClosed) return;
    this.duplex.end();
    this.duplex.reset();
  }

  onData(firstAddress: number, total: number): void {
    let address = firstAddress;
    let length = total;
    while (length > 0 && !this.#isClosed) {
      if (this.#isTunnel) {
        this.#stream?.handler.onData(address, length);
        return;
      }
      if (this.#stream === undefined || this.#isResponseDone) {
        this.#fail('bytes after the response');
        return;
      }
      const outcome = this.#parser.feed(address, length);
      if (this.#parser.isClosed) return;
      if (outcome.kind === 'limit' || outcome.kind === 'invalid') {
        this.#fail(outcome.detail);
        return;
      }
      address += outcome.consumed;
      length -= outcome.consumed;
      if (outcome.kind !== 'more') this.#afterMessage();
    }
  }

  onEnd(): void {
    if (this.#isTunnel) {
      this.#stream?.handler.onEnd();
      return;
    }
    this.#keepsAlive = false;
    if (this.#stream === undefined || this.#isResponseDone) {
      this.close();
      return;
    }
    const outcome = this.#parser.finish();
    if (this.#parser.isClosed) return;
    if (outcome.kind === 'invalid' || !this.#hasWholeResponse()) {
      this.#close({ code: 'reset', detail: 'upstream closed before the response was complete' });
      return;
    }
    this.#afterMessage();
  }

  onDrain(): void {
    this.#stream?.handler.onDrain();
  }

  onClose(reason: CloseReason): void {
    this.#close(reason.code === 'ok' ? { code: 'reset', detail: 'upstream closed' } : reason);
  }

  /** For the stream: pause and resume of the response's body. */
  setReading(isReading: boolean): void {
    if (isReading) this.duplex.resume();
    else this.duplex.pause();
  }

  /** For the stream: the request is complete. */
  requestDone(): void {
    this.#maybeIdle();
  }

  /** A method, since parsing changes it behind the compiler's back. */
  #hasWholeResponse(): boolean {
    return this.#isResponseDone;
  }

  #onHead(head: Http1Head): void {
    this.#isInterim = head.status < 200 && head.status !== 101;
    if (head.status === 101) this.#isTunnel = true;
    else if (!this.#isInterim) this.#keepsAlive = this.#keepsAlive && head.keepsAlive;
    this.#stream?.events.onHeaders(responseHead(head), false);
  }

  #onComplete(trailers: HeaderList): void {
    if (this.#isInterim || this.#isTunnel) return;
    this.#isResponseDone = true;
    const stream = this.#stream;
    if (stream === undefined) return;
    if (trailers.length > 0) stream.events.onTrailers(trailers);
    stream.responseEnded();
  }

  #afterMessage(): void {
    if (this.#isTunnel) return;
    this.#parser.next();
    if (this.#isInterim) {
      this.#isInterim = false;
      return;
    }
    this.#maybeIdle();
  }

  #maybeIdle(): void {
    const stream = this.#stream;
    if (stream === undefined || !this.#isResponseDone || this.#isTunnel) return;
    if (this.writer.isOpen) {
      // The answer came before the request's end: what is left of it is not sent, the connection is spent.
      this.#keepsAlive = false;
      this.#stream = undefined;
      stream.close({ code: 'ok', detail: '' });
      this.close();
      return;
    }
    this.#stream = undefined;
    stream.close({ code: 'ok', detail: '' });
    if (this.#isClosed) return;
    if (this.#keepsAlive) {
      this.duplex.resume();
      this.#events.onIdle();
    } else this.close();
  }

  #fail(detail: string): void {
    this.#keepsAlive = false;
    this.#close({ code: 'protocol', detail });
  }

  #close(reason: CloseReason): void {
    if (this.#isClosed) return;
    this.#isClosed = true;
    this.#keepsAlive = false;
    this.#parser.close();
    const stream = this.#stream;
    this.#stream = undefined;
    if (!this.duplex.isClosed) this.duplex.reset();
    stream?.close(reason);
    this.#events.onClose(reason);
  }
}

/** The client's end of one exchange. */
class Http1ClientStream implements HttpStream {
  handler: DuplexHandler = IGNORE_STREAM;
  readonly events: HttpStreamEvents;
  readonly #connection: Http1ClientConnection;
  #isClosed = false;

  constructor(connection: Http1ClientConnection, events: HttpStreamEvents) {
    this.#connection = connection;
    this.events = events;
  }

  get isClosed(): boolean {
    return this.#isClosed;
  }

  respond(): void {
    throw new TypeError('a client stream cannot respond');
  }

  write(address: number, length: number): boolean {
    if (this.#isClosed) return true;
    if (!this.#connection.writer.isOpen) return this.#connection.duplex.write(address, length);
    return this.#connection.writer.write(address, length);
  }

  writeBytes(bytes: Uint8Array): boolean {
    if (this.#isClosed) return true;
    if (!this.#connection.writer.isOpen) return this.#connection.duplex.writeBytes(bytes);
    return this.#connection.writer.writeBytes(bytes);
  }

  end(): void {
    if (this.#isClosed) return;
    if (!this.#connection.writer.isOpen) {
      if (this.#connection.isTunnel) this.#connection.duplex.end();
      return;
    }
    this.#connection.writer.end(undefined);
    this.#connection.requestDone();
  }

  endWithTrailers(trailers: HeaderList): void {
    if (this.#isClosed || !this.#connection.writer.isOpen) return;
    this.#connection.writer.end(trailers);
    this.#connection.requestDone();
  }

  /** A request that is given up: the connection cannot be used again. */
  reset(): void {
    if (!this.#isClosed) this.#connection.duplex.reset();
  }

  pause(): void {
    if (!this.#isClosed) this.#connection.setReading(false);
  }

  resume(): void {
    if (!this.#isClosed) this.#connection.setReading(true);
  }

  responseEnded(): void {
    if (!this.#isClosed) this.handler.onEnd();
  }

  close(reason: CloseReason): void {
    if (this.#isClosed) return;
    this.#isClosed = true;
    this.handler.onClose(reason);
  }
}

function requestFraming(headers: HeaderList, method: string, endStream: boolean): Framing {
  if (headerValue(headers, 'content-length') !== undefined) return 'length';
  if (!endStream) return 'chunked';
  // Methods that expect a body say that there is none (RFC 9110 section 8.6).
  return method === 'POST' || method === 'PUT' || method === 'PATCH' ? 'length' : 'none';
}
