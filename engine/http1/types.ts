// HTTP/1.1 as its users see it: the same shape as an HTTP/2 stream, so that what is above speaks both alike.
// Header lists begin with pseudo headers; hop-by-hop fields (RFC 9110 section 7.6.1) are removed and made here.
import type { HeaderList, Http2StreamEvents } from '../http2/types.ts';
import type { CloseReason, Duplex } from '../reactor/duplex.ts';

/** A message exchange of either protocol version. An {@link Http2Stream} is one. */
export interface HttpStream extends Duplex {
  /**
   * Server: answers. With `endStream` nothing follows. A 1xx may be sent before the final status. After 101 the
   * stream carries raw bytes both ways.
   */
  respond(headers: HeaderList, endStream: boolean): void;
  /** Ends our side with trailers; where the framing cannot carry them they are dropped. */
  endWithTrailers(trailers: HeaderList): void;
}

/** What the exchange's owner is told besides the bytes. */
export type HttpStreamEvents = Http2StreamEvents;

/** Time source of the connections; the reactor is one. */
export interface HttpTimers {
  now(): number;
  after(delayMs: number, fn: () => void): { cancel(): void };
  defer(fn: () => void): void;
}

/** Limits of a server connection. */
export interface Http1ServerOptions {
  readonly maxHeadBytes: number;
  readonly maxHeaders: number;
  /** From the first byte of a head (or the accept) to its end. */
  readonly headTimeoutMs: number;
  /** Between two requests. */
  readonly idleTimeoutMs: number;
}

/** What a server connection reports. */
export interface Http1ServerEvents {
  onRequest(
    stream: HttpStream,
    headers: HeaderList,
    endStream: boolean,
    minorVersion: number,
  ): HttpStreamEvents | undefined;
  /** The peer broke the protocol and was answered with `status` (400, 408, 431). */
  onBadRequest(status: number, detail: string): void;
  onClose(reason: CloseReason): void;
}

/** Limits of a client connection. */
export interface Http1ClientOptions {
  readonly maxHeadBytes: number;
  readonly maxHeaders: number;
}

/** What a client connection reports to its pool. */
export interface Http1ClientEvents {
  /** The exchange is over and the connection can take another. */
  onIdle(): void;
  onClose(reason: CloseReason): void;
}
