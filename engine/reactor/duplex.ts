// The byte stream every protocol of the engine speaks: a TCP socket, a TLS connection, an HTTP/2 stream.
// Bytes travel as (address, length) in native memory and are valid only during the call, so that nothing on
// the hot path becomes a JavaScript object. Half-close is real in both directions.

/** Why a stream ended. Stable words: callers map them to metrics and log reasons. */
export type CloseCode =
  | 'ok' // both directions ended in order
  | 'reset' // RST or RST_STREAM by the peer
  | 'refused' // connect refused, or REFUSED_STREAM
  | 'timeout' // connect, handshake or request timed out
  | 'unreachable' // no route, or the network said no
  | 'tls' // handshake or record failure; `detail` says what
  | 'protocol' // the peer broke HTTP/2 or HTTP/1
  | 'limit' // a limit of ours was passed
  | 'goaway' // the session is draining and did not take the stream
  | 'closed' // closed by us
  | 'revoked' // closed by us: the peer's certificate has been revoked since
  | 'io'; // any other errno; `detail` has it

/** The end of a stream. `detail` is for logs: lower case, no secrets. */
export interface CloseReason {
  readonly code: CloseCode;
  readonly detail: string;
}

/** What the owner of a stream is told. `onClose` comes exactly once, last. */
export interface DuplexHandler {
  /** Bytes arrived. They must be used or copied before returning. */
  onData(address: number, length: number): void;
  /** The peer ended its direction (FIN, END_STREAM). Ours stays open until `end()`. */
  onEnd(): void;
  /** After `write` said false: there is room again. */
  onDrain(): void;
  onClose(reason: CloseReason): void;
}

/** A handler for whom only the end matters: what arrives is dropped. */
export function closeWatcher(onClose: (reason: CloseReason) => void): DuplexHandler {
  return {
    onData: () => undefined,
    onEnd: () => undefined,
    onDrain: () => undefined,
    onClose,
  };
}

/** A handler for whom nothing matters. */
export const IGNORE_STREAM: DuplexHandler = closeWatcher(() => undefined);

/** A bidirectional byte stream owned by one reactor thread. */
export interface Duplex {
  handler: DuplexHandler;
  /**
   * Sends bytes. All of them are taken (what cannot go out now is copied); false asks the caller to stop until
   * `onDrain`. Calls after `end` or close are ignored.
   */
  write(address: number, length: number): boolean;
  /** As `write`, from JavaScript memory. For headers and small answers, not for bulk. */
  writeBytes(bytes: Uint8Array): boolean;
  /** Half-close: no more bytes from us. What was written is delivered first. */
  end(): void;
  /** Ends both directions now: RST, RST_STREAM(CANCEL). `onClose` follows with code `closed`. */
  reset(): void;
  /** Stops `onData` (back-pressure reaches the peer) until `resume`. */
  pause(): void;
  resume(): void;
  readonly isClosed: boolean;
}

/** Copies native memory into a new buffer. */
export type CopyBytes = (address: number, length: number) => Buffer;

/** Counts the bytes of a relay: adds to row cells or plain numbers. Called for each read, so keep it small. */
export interface RelayCounters {
  /** Bytes that went from `a` to `b`. */
  addForward(bytes: number): void;
  /** Bytes that went from `b` to `a`. */
  addBackward(bytes: number): void;
}

/**
 * Sees what a relay forwards, each time after it was handed on; the bytes are valid only during the call. It cannot change
 * or hold up anything. False: it has seen enough and is not asked again.
 */
export interface RelayObserver {
  /** Bytes that went from `a` to `b`. */
  sawForward(address: number, length: number): boolean;
  /** Bytes that went from `b` to `a`. */
  sawBackward(address: number, length: number): boolean;
  /** `b` ended its direction. */
  sawBackwardEnd(): boolean;
  /** The relay is over. */
  ended(): void;
}

/** Result of a relay: bytes each way, and why it ended (`ok` when both sides ended in order). */
export interface RelayResult {
  readonly forwardBytes: number;
  readonly backwardBytes: number;
  readonly reason: CloseReason;
  /** The side whose failure ended the relay. */
  readonly failedSide: 'a' | 'b' | undefined;
}

/** A running relay; `abort` resets both sides (policy change, drain deadline). */
export interface Relay {
  abort(detail: string): void;
  readonly forwardBytes: number;
  readonly backwardBytes: number;
}

/**
 * Joins two streams until both directions have ended; takes over both handlers. Implemented in
 * `engine/reactor/relay.ts` with a path without copies for socket and HTTP/2 stream, and one by the kernel for two sockets, which
 * are copied while they are observed.
 */
export type StartRelay = (
  a: Duplex,
  b: Duplex,
  counters: RelayCounters,
  onDone: (result: RelayResult) => void,
  observer?: RelayObserver,
) => Relay;
