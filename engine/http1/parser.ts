// One direction of an HTTP/1 connection (RFC 9112), parsed by llhttp in strict mode: a message with both
// Content-Length and Transfer-Encoding, a bare LF or a bad token is an error. Heads become strings once, when
// complete; bodies stay (address, length). One message at a time: after each the parser waits for `next()`.
import type { HeaderList } from '../http2/types.ts';
import {
  FLAG_CHUNKED,
  FLAG_CONNECTION_CLOSE,
  FLAG_CONNECTION_KEEP_ALIVE,
  FLAG_CONTENT_LENGTH,
  HPE_OK,
  HPE_PAUSED,
  HPE_PAUSED_UPGRADE,
  HPE_USER,
  SPAN_BODY,
  SPAN_COMPLETE,
  SPAN_FIELD,
  SPAN_HEAD,
  SPAN_URL,
  SPAN_VALUE,
  SpanList,
  addressOfBuffer,
  copyInto,
  createParser,
  executeParser,
  finishParser,
  freeParser,
  methodOf,
  minorVersionOf,
  parserErrorReason,
  resumeAfterUpgrade,
  resumeParser,
  stopAddress,
} from '../native/llhttp.ts';
import type { NativeParser, ParserDetail } from '../native/llhttp.ts';

/** A message's start line and headers as they came; names in lower case. */
export interface Http1Head {
  /** Requests. */
  readonly method: string;
  readonly target: string;
  /** Responses. */
  readonly status: number;
  readonly minorVersion: number;
  readonly headers: HeaderList;
  /** The peer allows another message on this connection. */
  readonly keepsAlive: boolean;
  /** Framed by chunks or by a length; a response without either lasts until the end. */
  readonly isFramed: boolean;
  /** The whole message has arrived: its end follows in the same turn. */
  readonly isComplete: boolean;
}

/** What a message consists of, in order. Callbacks may close the parser. */
export interface Http1ParserEvents {
  onHead(head: Http1Head): void;
  onBody(address: number, length: number): void;
  onComplete(trailers: HeaderList): void;
}

/** How parsing ended: `paused` after a message, `upgraded` when HTTP is over, `limit` and `invalid` are errors. */
export interface ParseOutcome {
  readonly kind: 'more' | 'paused' | 'upgraded' | 'limit' | 'invalid';
  /** Bytes used of the input. */
  readonly consumed: number;
  readonly detail: string;
}

/** Limits a peer must keep. */
export interface Http1Limits {
  readonly maxHeadBytes: number;
  readonly maxHeaders: number;
}

const SCRATCH_BYTES = 256 * 1024;
const scratch = Buffer.allocUnsafeSlow(SCRATCH_BYTES);
const scratchAddress = addressOfBuffer(scratch);

const NONE = 0;

/** Parses requests or responses. */
export class Http1Parser {
  readonly #native: NativeParser;
  readonly #events: Http1ParserEvents;
  readonly #spans = new SpanList();
  #target = '';
  #name = '';
  #value = '';
  #last = NONE;
  #headers: Array<readonly [string, string]> = [];
  #isRunning = false;
  #isClosed = false;
  #isAtUpgrade = false;

  /** An `outline` has neither targets nor headers nor bodies, and its limits are its owner's to keep. */
  constructor(
    kind: 'request' | 'response',
    limits: Http1Limits,
    events: Http1ParserEvents,
    detail: ParserDetail = 'whole',
  ) {
    this.#native = createParser(kind, limits.maxHeadBytes, limits.maxHeaders, detail);
    this.#events = events;
  }

  /** Responses: the next one answers HEAD and has no body. */
  set skipsBody(value: boolean) {
    this.#native.skipBody = value;
  }

  /** Whether an upgrade ends HTTP on this connection; else `Upgrade` is ignored. */
  set takesUpgrade(value: boolean) {
    this.#native.takesUpgrade = value;
  }

  get isClosed(): boolean {
    return this.#isClosed;
  }

  /** Part of a head has arrived. */
  get isInMessage(): boolean {
    return this.#last !== NONE || this.#target !== '' || this.#headers.length > 0;
  }

  /** Parses input until it is used up, a message ends, or an error; at most 256 KiB at a time. */
  feed(address: number, available: number): ParseOutcome {
    const length = Math.min(available, SCRATCH_BYTES);
    const code = executeParser(this.#native, address, length, this.#spans);
    const consumed = code === HPE_OK ? length : stopAddress(this.#native) - address;
    // The outcome is read now: the events below may close the parser.
    const outcome = this.#outcome(code, consumed);
    this.#deliver(address);
    return outcome;
  }

  /** The peer ended its direction. */
  finish(): ParseOutcome {
    const code = finishParser(this.#native, this.#spans);
    const outcome = this.#outcome(code === HPE_PAUSED ? HPE_OK : code, 0);
    this.#deliver(0);
    return outcome;
  }

  /** After `paused`, or after `upgraded` when the upgrade did not happen: the next message may come. */
  next(): void {
    if (this.#isClosed) return;
    if (this.#isAtUpgrade) resumeAfterUpgrade(this.#native);
    this.#isAtUpgrade = false;
    resumeParser(this.#native);
  }

  close(): void {
    if (this.#isClosed) return;
    this.#isClosed = true;
    if (!this.#isRunning) freeParser(this.#native);
  }

  #outcome(code: number, consumed: number): ParseOutcome {
    if (code === HPE_OK) return { kind: 'more', consumed, detail: '' };
    if (code === HPE_PAUSED) return { kind: 'paused', consumed, detail: '' };
    if (code === HPE_PAUSED_UPGRADE) {
      this.#isAtUpgrade = true;
      return { kind: 'upgraded', consumed, detail: '' };
    }
    if (code === HPE_USER) return { kind: 'limit', consumed, detail: 'headers are too large' };
    return {
      kind: 'invalid',
      consumed,
      detail: parserErrorReason(this.#native).toLowerCase(),
    };
  }

  #deliver(address: number): void {
    this.#isRunning = true;
    try {
      this.#deliverSpans(address);
    } finally {
      this.#isRunning = false;
      if (this.#isClosed) freeParser(this.#native);
    }
  }

  #deliverSpans(address: number): void {
    const { values, used } = this.#spans;
    const text = this.#headText(address);
    for (let at = 0; at < used && !this.#isClosed; at += 3) {
      const offset = values[at + 1] ?? 0;
      const length = values[at + 2] ?? 0;
      switch (values[at] ?? NONE) {
        case SPAN_URL:
          this.#target += text.substring(offset, offset + length);
          break;
        case SPAN_FIELD:
          if (this.#last === SPAN_VALUE) this.#pushHeader();
          this.#name += text.substring(offset, offset + length);
          this.#last = SPAN_FIELD;
          break;
        case SPAN_VALUE:
          this.#value += text.substring(offset, offset + length);
          this.#last = SPAN_VALUE;
          break;
        case SPAN_HEAD:
          this.#emitHead(offset, length);
          break;
        case SPAN_BODY:
          this.#events.onBody(address + offset, length);
          break;
        case SPAN_COMPLETE:
          this.#events.onComplete(this.#takeHeaders());
          break;
      }
    }
  }

  /** The input up to the end of its last head or trailer span, as one string that all spans are cut from. */
  #headText(address: number): string {
    const { values, used } = this.#spans;
    let end = 0;
    for (let at = 0; at < used; at += 3) {
      const kind = values[at] ?? 0;
      if (kind <= SPAN_VALUE) end = Math.max(end, (values[at + 1] ?? 0) + (values[at + 2] ?? 0));
    }
    if (end === 0) return '';
    const length = Math.min(end, SCRATCH_BYTES);
    copyInto(scratchAddress, address, length);
    return scratch.toString('latin1', 0, length);
  }

  #pushHeader(): void {
    this.#headers.push([this.#name.toLowerCase(), this.#value]);
    this.#name = '';
    this.#value = '';
  }

  #takeHeaders(): HeaderList {
    if (this.#last !== NONE) this.#pushHeader();
    this.#last = NONE;
    const headers = this.#headers;
    this.#headers = [];
    return headers;
  }

  #emitHead(flags: number, status: number): void {
    const headers = this.#takeHeaders();
    const target = this.#target;
    this.#target = '';
    const minorVersion = minorVersionOf(this.#native);
    const keepsAlive =
      minorVersion >= 1
        ? (flags & FLAG_CONNECTION_CLOSE) === 0
        : (flags & FLAG_CONNECTION_KEEP_ALIVE) !== 0 && (flags & FLAG_CONNECTION_CLOSE) === 0;
    this.#events.onHead({
      method: status === 0 ? methodOf(this.#native) : '',
      target,
      status,
      minorVersion,
      headers,
      keepsAlive,
      isFramed: (flags & (FLAG_CHUNKED | FLAG_CONTENT_LENGTH)) !== 0,
      // The parser pauses at a message's end, so that is the last span when it is there.
      isComplete: this.#spans.values[this.#spans.used - 3] === SPAN_COMPLETE,
    });
  }
}
