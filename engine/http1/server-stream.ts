// One request and its answer on an HTTP/1.1 server connection, in the shape of an HTTP/2 stream.
import type { HeaderList } from '../http2/types.ts';
import {
  IGNORE_STREAM,
  type CloseReason,
  type Duplex,
  type DuplexHandler,
} from '../reactor/duplex.ts';
import type { BodyWriter } from './body-writer.ts';
import type { HttpStream, HttpStreamEvents } from './types.ts';

/** What a stream asks of its connection. */
export interface ServerStreamOwner {
  readonly duplex: Duplex;
  readonly writer: BodyWriter;
  respond(stream: Http1ServerStream, headers: HeaderList, endStream: boolean): void;
  responseDone(stream: Http1ServerStream): void;
  setReading(isReading: boolean): void;
}

/** The server's end of one exchange. */
export class Http1ServerStream implements HttpStream {
  readonly method: string;
  readonly minorVersion: number;
  /** The request asked for another protocol: its body has no end until the answer is not 101. */
  readonly isUpgrade: boolean;
  handler: DuplexHandler = IGNORE_STREAM;
  events: HttpStreamEvents | undefined;
  readonly #connection: ServerStreamOwner;
  #hasRequestEnded = false;
  #hasResponded = false;
  #isTunnel = false;
  #isClosed = false;

  constructor(
    connection: ServerStreamOwner,
    method: string,
    minorVersion: number,
    isUpgrade: boolean,
  ) {
    this.#connection = connection;
    this.method = method;
    this.minorVersion = minorVersion;
    this.isUpgrade = isUpgrade;
  }

  get isClosed(): boolean {
    return this.#isClosed;
  }

  respond(headers: HeaderList, endStream: boolean): void {
    if (this.#isClosed || this.#hasResponded) return;
    const status = headers[0]?.[1] ?? '';
    if (status === '101') this.#isTunnel = true;
    if (status === '101' || !status.startsWith('1')) this.#hasResponded = true;
    this.#connection.respond(this, headers, endStream);
  }

  write(address: number, length: number): boolean {
    if (this.#isClosed) return true;
    return this.#connection.writer.write(address, length);
  }

  writeBytes(bytes: Uint8Array): boolean {
    if (this.#isClosed) return true;
    return this.#connection.writer.writeBytes(bytes);
  }

  end(): void {
    this.#end(undefined);
  }

  endWithTrailers(trailers: HeaderList): void {
    this.#end(trailers);
  }

  /** An answer that cannot be completed: the connection ends, which is how HTTP/1.1 says so. */
  reset(): void {
    if (!this.#isClosed) this.#connection.duplex.reset();
  }

  pause(): void {
    if (!this.#isClosed) this.#connection.setReading(false);
  }

  resume(): void {
    if (!this.#isClosed) this.#connection.setReading(true);
  }

  /** For the connection: the request's body is complete. */
  requestEnded(): void {
    if (this.#hasRequestEnded || this.#isClosed) return;
    this.#hasRequestEnded = true;
    this.handler.onEnd();
  }

  /** For the connection: the exchange is over. */
  close(reason: CloseReason): void {
    if (this.#isClosed) return;
    this.#isClosed = true;
    this.handler.onClose(reason);
  }

  #end(trailers: HeaderList | undefined): void {
    if (this.#isClosed) return;
    if (this.#isTunnel) {
      this.#connection.duplex.end();
      return;
    }
    if (!this.#connection.writer.isOpen) return;
    this.#connection.writer.end(trailers);
    this.#connection.responseDone(this);
  }
}
