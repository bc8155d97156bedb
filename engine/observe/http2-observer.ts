// Follows HTTP/2 between two others (RFC 9113). Two nghttp2 sessions stand in for the peers: one reads the client's bytes as
// the server does, one the server's bytes as the client does. nghttp2 refuses answers to requests it did not send and ACKs of
// SETTINGS it did not send, so each session is told what the other one has read before it reads what comes of it.
import { MirrorSession } from './mirror-session.ts';
import {
  MAX_OPEN_EXCHANGES,
  type ExchangeSink,
  type ObserveEnd,
  type ProtocolObserver,
} from './types.ts';

interface OpenExchange {
  readonly method: string;
  readonly startedMs: number;
  status: number;
  isGrpc: boolean;
  grpcStatus: string | undefined;
}

/** Follows one connection. */
export class Http2Observer implements ProtocolObserver {
  readonly #sink: ExchangeSink;
  readonly #open = new Map<number, OpenExchange>();
  /** Reads the client's bytes. */
  readonly #asServer: MirrorSession;
  /** Reads the server's bytes. */
  readonly #asClient: MirrorSession;
  #isOver = false;

  constructor(sink: ExchangeSink) {
    this.#sink = sink;
    this.#asServer = new MirrorSession('client', {
      onHeaders: (id, isRequest) => {
        if (isRequest) this.#onRequest(id);
      },
      onSettings: (submit) => submit(this.#asClient),
      onStreamClose: (id) => this.#finish(id, this.#asClient),
    });
    this.#asClient = new MirrorSession('server', {
      onHeaders: (id) => this.#onAnswer(id),
      onSettings: (submit) => submit(this.#asServer),
      onStreamClose: (id) => this.#finish(id, this.#asServer),
    });
  }

  sawForward(address: number, length: number): ObserveEnd | undefined {
    return this.#feed(this.#asServer, address, length);
  }

  sawBackward(address: number, length: number): ObserveEnd | undefined {
    return this.#feed(this.#asClient, address, length);
  }

  sawBackwardEnd(): undefined {
    return undefined;
  }

  #feed(session: MirrorSession, address: number, length: number): ObserveEnd | undefined {
    session.receive(address, length);
    if (session.end === undefined) {
      this.#asServer.drain();
      this.#asClient.drain();
    }
    const end = this.#asServer.end ?? this.#asClient.end;
    if (end !== undefined) this.#isOver = true;
    return end;
  }

  #onRequest(id: number): void {
    if (this.#open.size >= MAX_OPEN_EXCHANGES) {
      this.#asServer.end ??= 'limit';
      return;
    }
    const { method, isGrpc } = this.#asServer.seen;
    const startedMs = this.#sink.now();
    this.#open.set(id, { method, startedMs, isGrpc, status: 0, grpcStatus: undefined });
    this.#asClient.mirrorRequest(id);
  }

  /** A head, an interim one, or trailers. */
  #onAnswer(id: number): void {
    const exchange = this.#open.get(id);
    if (exchange === undefined) return;
    const { status, grpcStatus, isGrpc } = this.#asClient.seen;
    const code = Number(status);
    if (code >= 200 && code <= 999) exchange.status = code;
    if (isGrpc) exchange.isGrpc = true;
    if (grpcStatus !== undefined) exchange.grpcStatus = grpcStatus;
  }

  /** One session has seen the end of the stream; `other` has not. */
  #finish(id: number, other: MirrorSession): void {
    const exchange = this.#open.get(id);
    if (exchange === undefined) return;
    this.#open.delete(id);
    if (this.#isOver) return;
    other.mirrorReset(id);
    this.#tell(exchange);
  }

  abandon(): void {
    for (const exchange of this.#open.values()) this.#tell(exchange);
    this.#open.clear();
  }

  #tell({ startedMs, ...exchange }: OpenExchange): void {
    const durationMs = this.#sink.now() - startedMs;
    this.#sink.onExchange({ protocol: 'http2', ...exchange, durationMs });
  }

  close(): void {
    this.#isOver = true;
    this.#asServer.close();
    this.#asClient.close();
  }
}
