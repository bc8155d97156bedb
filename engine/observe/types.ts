// What is seen of HTTP on a connection that others speak on. Read-only: nothing here is ever sent to anybody.

/** A request and its answer, or what became of it. */
export interface HttpExchange {
  readonly protocol: 'http1' | 'http2';
  /** As the client wrote it; at most 32 characters. */
  readonly method: string;
  /** Of the final answer; 0 when none came. */
  readonly status: number;
  readonly isGrpc: boolean;
  /** The text of `grpc-status`, from the trailers or the head; undefined when there was none. */
  readonly grpcStatus: string | undefined;
  /** From the request's head to the end of the answer. */
  readonly durationMs: number;
}

/**
 * How looking ended. `ended`: with the connection. `stopped`: by who asked for it. The others are early: the bytes are no HTTP (`not_http`, or the server
 * spoke first), HTTP is over (`upgraded`), or what came cannot be followed (`parse_error`), is larger (`limit`) or dearer
 * (`cpu`) than looking is worth. `failed` is a bug of ours.
 */
export type ObserveEnd =
  | 'ended'
  | 'stopped'
  | 'upgraded'
  | 'not_http'
  | 'server_first'
  | 'parse_error'
  | 'limit'
  | 'cpu'
  | 'failed';

/** Follows one protocol. Each call returns the end, or undefined to go on. Forward is from the client. */
export interface ProtocolObserver {
  sawForward(address: number, length: number): ObserveEnd | undefined;
  sawBackward(address: number, length: number): ObserveEnd | undefined;
  sawBackwardEnd(): ObserveEnd | undefined;
  /** The connection is over: requests without an answer are told. */
  abandon(): void;
  /** Frees native memory. */
  close(): void;
}

/** Where exchanges go, and what time it is. */
export interface ExchangeSink {
  now(): number;
  onExchange(exchange: HttpExchange): void;
}

/** Requests of one connection that wait for an answer at once. */
export const MAX_OPEN_EXCHANGES = 1000;

/** A head beyond this ends the observation. */
export const MAX_HEAD_BYTES = 64 * 1024;

/** Longest method kept. */
export const MAX_METHOD = 32;
