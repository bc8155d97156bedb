// HTTP/2 as its users see it. Sessions run nghttp2 over any Duplex (TLS over TCP, or a tunnel's stream).
import type { CloseReason, Duplex } from '../reactor/duplex.ts';

/** Header list in wire order; names lower case, pseudo headers first. */
export type HeaderList = ReadonlyArray<readonly [name: string, value: string]>;

/** One HTTP/2 stream. As a Duplex it carries the DATA of the message; trailers end the sending side. */
export interface Http2Stream extends Duplex {
  readonly id: number;
  readonly session: Http2Session;
  /** Server: answers. With `endStream` nothing follows. A 1xx status may be sent before the final one. */
  respond(headers: HeaderList, endStream: boolean): void;
  /** Ends our side with trailers instead of an empty DATA frame. */
  endWithTrailers(trailers: HeaderList): void;
  /** RST_STREAM with the given HTTP/2 error code (RFC 9113 section 7). */
  resetWith(errorCode: number): void;
}

/** What happens on a stream besides its bytes. Set before the first event can come. */
export interface Http2StreamEvents {
  /** Client: the response's headers (once per 1xx and once final). */
  onHeaders(headers: HeaderList, endStream: boolean): void;
  onTrailers(trailers: HeaderList): void;
}

/** Settings we send; unset means the protocol's default. For HBONE those of Istio's ztunnel. */
export interface Http2Settings {
  readonly initialWindowSize?: number;
  readonly connectionWindowSize?: number;
  readonly maxFrameSize?: number;
  readonly maxHeaderListSize?: number;
  readonly maxConcurrentStreams?: number;
  readonly enablePush?: boolean;
  readonly enableConnectProtocol?: boolean;
}

/** Limits and timers of a session. */
export interface Http2SessionOptions {
  readonly settings: Http2Settings;
  /** PING when idle or not; 0 turns it off. The session closes with `timeout` when no answer comes. */
  readonly pingIntervalMs: number;
  readonly pingTimeoutMs: number;
}

/** A session's life. `onClose` comes once, after every stream's own. */
export interface Http2SessionEvents {
  /** Server: a request's headers are complete. Return the stream's events. */
  onStream(
    stream: Http2Stream,
    headers: HeaderList,
    endStream: boolean,
  ): Http2StreamEvents | undefined;
  /** Server: a request was reset before `onStream`: its headers are too large (`limit`) or malformed (`protocol`). */
  onRequestRejected?(reason: CloseReason): void;
  /** The peer sent GOAWAY: no new streams here. */
  onGoaway(): void;
  onClose(reason: CloseReason): void;
}

export interface Http2Session {
  /** Client: opens a stream. With `endStream` the request has no body. Throws when `canOpenStream` is false. */
  request(headers: HeaderList, endStream: boolean, events: Http2StreamEvents): Http2Stream;
  /** Client: the session is open, not draining, and below the peer's stream limit. */
  readonly canOpenStream: boolean;
  readonly activeStreams: number;
  /** What streams hold that nobody reads, here or at the peer, has used up most of the connection's window. */
  readonly isHeldUp: boolean;
  /** Graceful: GOAWAY, existing streams go on, then the connection closes. */
  drain(): void;
  /** Now: every stream is closed with `reason`, then the connection. */
  close(detail: string, code?: 'closed' | 'revoked'): void;
  readonly isClosed: boolean;
}
