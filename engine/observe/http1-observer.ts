// Follows HTTP/1 between two others: one llhttp parser for each direction, requests matched with answers in order
// (RFC 9112 section 9.3.2). Interim answers (1xx) are not answers; 101, or 2xx to CONNECT, ends HTTP.
import { Http1Parser, type Http1Head, type ParseOutcome } from '../http1/parser.ts';
import {
  MAX_HEAD_BYTES,
  MAX_METHOD,
  MAX_OPEN_EXCHANGES,
  type ExchangeSink,
  type ObserveEnd,
  type ProtocolObserver,
} from './types.ts';

// Not kept by the parser, which is told of no fields: `Direction` does.
const LIMITS = { maxHeadBytes: MAX_HEAD_BYTES, maxHeaders: 0 };
// A piece at a time: a pause at the end of each message must not cost much.
const PIECE_BYTES = 16 * 1024;

interface Waiting {
  readonly method: string;
  readonly startedMs: number;
}

/** One direction: its parser, and how much of a head has passed that is not complete. */
class Direction {
  readonly parser: Http1Parser;
  isInBody = false;
  #headBytes = 0;

  constructor(
    kind: 'request' | 'response',
    onHead: (head: Http1Head) => void,
    onComplete: () => void,
  ) {
    const events = {
      onHead: (head: Http1Head) => {
        this.isInBody = true;
        onHead(head);
      },
      onBody: () => undefined,
      onComplete: () => {
        this.isInBody = false;
        onComplete();
      },
    };
    this.parser = new Http1Parser(kind, LIMITS, events, 'outline');
  }

  /** Parses a piece. */
  feed(address: number, length: number): ParseOutcome {
    const outcome = this.parser.feed(address, length);
    const isInHead = outcome.kind === 'more' && !this.isInBody;
    this.#headBytes = isInHead ? this.#headBytes + outcome.consumed : 0;
    return outcome;
  }

  get isOverLimit(): boolean {
    return this.#headBytes > MAX_HEAD_BYTES;
  }
}

/** Follows one connection. */
export class Http1Observer implements ProtocolObserver {
  readonly #sink: ExchangeSink;
  readonly #waiting: Waiting[] = [];
  readonly #requests: Direction;
  readonly #responses: Direction;
  /** Status of the final answer that is under way. */
  #status = 0;
  #end: ObserveEnd | undefined;

  constructor(sink: ExchangeSink) {
    this.#sink = sink;
    this.#requests = new Direction(
      'request',
      (head) => this.#onRequest(head),
      () => undefined,
    );
    this.#responses = new Direction(
      'response',
      (head) => this.#onResponse(head),
      () => this.#onAnswered(),
    );
  }

  sawForward(address: number, length: number): ObserveEnd | undefined {
    return this.#feed(this.#requests, address, length);
  }

  sawBackward(address: number, length: number): ObserveEnd | undefined {
    return this.#feed(this.#responses, address, length);
  }

  /** Completes an answer that lasts until the end. */
  sawBackwardEnd(): ObserveEnd | undefined {
    if (this.#status !== 0) this.#responses.parser.finish();
    return this.#end;
  }

  #feed(side: Direction, address: number, length: number): ObserveEnd | undefined {
    const { parser } = side;
    for (let at = 0; at < length && this.#end === undefined;) {
      if (side === this.#responses && this.#status === 0) {
        parser.skipsBody = this.#waiting[0]?.method === 'HEAD';
      }
      const outcome = side.feed(address + at, Math.min(length - at, PIECE_BYTES));
      at += outcome.consumed;
      this.#end ??= side.isOverLimit ? 'limit' : endOf(outcome);
      if (outcome.kind === 'paused') parser.next();
    }
    return this.#end;
  }

  #onRequest({ method }: Http1Head): void {
    if (this.#waiting.length >= MAX_OPEN_EXCHANGES) this.#end ??= 'limit';
    this.#waiting.push({ method: method.slice(0, MAX_METHOD), startedMs: this.#sink.now() });
  }

  #onResponse({ status }: Http1Head): void {
    const request = this.#waiting[0];
    if (request === undefined) {
      // An answer that nobody asked for, such as 408 to an idle client.
      this.#end ??= 'parse_error';
    } else if (status === 101 || (request.method === 'CONNECT' && status >= 200 && status < 300)) {
      this.#status = status;
      this.#onAnswered();
      this.#end ??= 'upgraded';
    } else if (status >= 200) {
      this.#status = status;
    }
  }

  #onAnswered(): void {
    if (this.#status === 0 || this.#end !== undefined) return;
    const request = this.#waiting.shift();
    if (request !== undefined) this.#tell(request, this.#status);
    this.#status = 0;
  }

  abandon(): void {
    for (const request of this.#waiting.splice(0)) {
      this.#tell(request, this.#status);
      this.#status = 0;
    }
  }

  #tell({ method, startedMs }: Waiting, status: number): void {
    const durationMs = this.#sink.now() - startedMs;
    const exchange = { method, status, isGrpc: false, grpcStatus: undefined, durationMs };
    this.#sink.onExchange({ protocol: 'http1', ...exchange });
  }

  close(): void {
    this.#requests.parser.close();
    this.#responses.parser.close();
  }
}

function endOf({ kind }: ParseOutcome): ObserveEnd | undefined {
  if (kind === 'upgraded') return 'upgraded';
  return kind === 'invalid' ? 'parse_error' : undefined;
}
