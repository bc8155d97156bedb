// Bindings to llhttp 9.4 inside the Node binary (HTTP/1 parsing, RFC 9112, strict mode: no lenient flag is set).
// The callbacks record (kind, offset, length) triples for the call that is running; no bytes become strings here.
// Parsers live in slabs of native memory that never move. One set of callbacks a thread: everything is synchronous.
import koffi from 'koffi';

/** What a recorded triple is. Offsets are relative to the address given to {@link executeParser}. */
export const SPAN_URL = 1;
export const SPAN_FIELD = 2;
export const SPAN_VALUE = 3;
/** Headers are complete; `offset` is the parser's flags, `length` its status code. */
export const SPAN_HEAD = 4;
export const SPAN_BODY = 5;
export const SPAN_COMPLETE = 6;

/** llhttp_errno values the callers tell apart. */
export const HPE_OK = 0;
export const HPE_PAUSED = 21;
export const HPE_PAUSED_UPGRADE = 22;
/** A callback said no: the limit on head or chunk extensions was passed. */
export const HPE_USER = 24;

export const FLAG_CONNECTION_KEEP_ALIVE = 0x01;
export const FLAG_CONNECTION_CLOSE = 0x02;
export const FLAG_CHUNKED = 0x08;
export const FLAG_UPGRADE = 0x10;
export const FLAG_CONTENT_LENGTH = 0x20;

const TYPE_REQUEST = 1;
const TYPE_RESPONSE = 2;

// Offsets in llhttp__internal_s of llhttp 9.4 on 64-bit Linux; checked against the accessors by a unit test.
const OFFSET_ERROR_POS = 40;
const OFFSET_METHOD = 73;
const OFFSET_MINOR = 75;
const OFFSET_UPGRADE = 80;
const OFFSET_FLAGS = 82;
const OFFSET_STATUS = 84;
const PARSER_BYTES = 128;
const PARSERS_PER_SLAB = 64;

const SETTINGS_BYTES = 512;
const CALLBACK_URL = 2;
const CALLBACK_FIELD = 6;
const CALLBACK_VALUE = 7;
const CALLBACK_EXTENSION_NAME = 8;
const CALLBACK_EXTENSION_VALUE = 9;
const CALLBACK_HEADERS_COMPLETE = 10;
const CALLBACK_BODY = 11;
const CALLBACK_MESSAGE_COMPLETE = 12;

const MAX_EXTENSION_BYTES = 16 * 1024;

interface Llhttp {
  init(parser: number, type: number, settings: number): void;
  initSettings(settings: Buffer): void;
  execute(parser: number, address: number, length: number): number;
  finish(parser: number): number;
  resume(parser: number): void;
  resumeAfterUpgrade(parser: number): void;
  reason(parser: number): string | null;
  methodName(method: number): string;
  copy(to: number, from: number, length: number): number;
}

interface Slab {
  readonly memory: Buffer;
  readonly address: number;
  readonly free: number[];
}

/** A parser's native memory, and the limits its callbacks keep. */
export interface NativeParser {
  readonly slab: Slab;
  readonly index: number;
  readonly address: number;
  readonly maxHeadBytes: number;
  readonly maxHeaders: number;
  headBytes: number;
  headers: number;
  extensionBytes: number;
  /** Responses: the answer to HEAD has no body whatever its headers say. */
  skipBody: boolean;
  /** Requests: whether `Connection: Upgrade` ends HTTP on this connection. Responses: 101 does. */
  takesUpgrade: boolean;
}

/** Triples recorded by the last execution of this thread. */
export class SpanList {
  values = new Int32Array(3 * 256);
  /** Number of used cells. */
  used = 0;

  push(kind: number, offset: number, length: number): void {
    if (this.used + 3 > this.values.length) {
      const larger = new Int32Array(this.values.length * 2);
      larger.set(this.values);
      this.values = larger;
    }
    this.values[this.used] = kind;
    this.values[this.used + 1] = offset;
    this.values[this.used + 2] = length;
    this.used += 3;
  }
}

const bound = bind();
const methods = new Map<number, string>();
const slabs: Slab[] = [];
const idle: NativeParser = emptyParser();
let running: NativeParser = idle;
let base = 0;
let spans = new SpanList();
const whole = createSettings();
const settings = { whole, outline: outlineOf(whole) };

function bind(): Llhttp {
  const lib = koffi.load(null);
  return {
    init: lib.func('void llhttp_init(uintptr_t parser, int type, uintptr_t settings)'),
    initSettings: lib.func('void llhttp_settings_init(void* settings)'),
    execute: lib.func('int llhttp_execute(uintptr_t parser, uintptr_t data, size_t length)'),
    finish: lib.func('int llhttp_finish(uintptr_t parser)'),
    resume: lib.func('void llhttp_resume(uintptr_t parser)'),
    resumeAfterUpgrade: lib.func('void llhttp_resume_after_upgrade(uintptr_t parser)'),
    reason: lib.func('const char* llhttp_get_error_reason(uintptr_t parser)'),
    methodName: lib.func('const char* llhttp_method_name(int method)'),
    copy: lib.func('uintptr_t memcpy(uintptr_t to, uintptr_t from, size_t length)'),
  };
}

function emptyParser(): NativeParser {
  return {
    slab: { memory: Buffer.alloc(0), address: 0, free: [] },
    index: 0,
    address: 0,
    maxHeadBytes: 0,
    maxHeaders: 0,
    headBytes: 0,
    headers: 0,
    extensionBytes: 0,
    skipBody: false,
    takesUpgrade: false,
  };
}

/** The same without what tells of fields and bodies. */
function outlineOf(full: Buffer): Buffer {
  const memory = Buffer.allocUnsafeSlow(SETTINGS_BYTES);
  memory.fill(0);
  for (const slot of [CALLBACK_HEADERS_COMPLETE, CALLBACK_MESSAGE_COMPLETE]) {
    full.copy(memory, slot * 8, slot * 8, slot * 8 + 8);
  }
  return memory;
}

function createSettings(): Buffer {
  const memory = Buffer.allocUnsafeSlow(SETTINGS_BYTES);
  bound.initSettings(memory);
  const dataType = koffi.proto(
    'int ambient_llhttp_data(uintptr_t parser, uintptr_t at, size_t length)',
  );
  const eventType = koffi.proto('int ambient_llhttp_event(uintptr_t parser)');
  const set = (
    slot: number,
    fn: (parser: number, at: number, length: number) => number,
    isData: boolean,
  ): void => {
    const callback = koffi.register(fn, koffi.pointer(isData ? dataType : eventType));
    memory.writeBigUInt64LE(koffi.address(callback), slot * 8);
  };
  const data = (slot: number, fn: (at: number, length: number) => number): void =>
    set(slot, (_parser, at, length) => fn(at, length), true);
  set(CALLBACK_HEADERS_COMPLETE, onHeadersComplete, false);
  set(CALLBACK_MESSAGE_COMPLETE, onMessageComplete, false);
  data(CALLBACK_URL, (at, length) => recordHead(SPAN_URL, at, length));
  data(CALLBACK_FIELD, (at, length) => recordHead(SPAN_FIELD, at, length));
  data(CALLBACK_VALUE, (at, length) => recordHead(SPAN_VALUE, at, length));
  data(CALLBACK_EXTENSION_NAME, (_at, length) => countExtension(length));
  data(CALLBACK_EXTENSION_VALUE, (_at, length) => countExtension(length));
  data(CALLBACK_BODY, (at, length) => {
    spans.push(SPAN_BODY, at - base, length);
    return 0;
  });
  return memory;
}

function recordHead(kind: number, at: number, length: number): number {
  running.headBytes += length;
  if (kind === SPAN_FIELD) {
    // A name cut by the end of the input counts twice: the limit is a bound, not a protocol number.
    running.headers++;
    running.headBytes += 4;
  }
  if (running.headBytes > running.maxHeadBytes || running.headers > running.maxHeaders) return -1;
  spans.push(kind, at - base, length);
  return 0;
}

function countExtension(length: number): number {
  running.extensionBytes += length;
  return running.extensionBytes > MAX_EXTENSION_BYTES ? -1 : 0;
}

function onHeadersComplete(): number {
  const { memory } = running.slab;
  const at = running.index * PARSER_BYTES;
  spans.push(
    SPAN_HEAD,
    memory.readUInt16LE(at + OFFSET_FLAGS),
    memory.readUInt16LE(at + OFFSET_STATUS),
  );
  if (!running.takesUpgrade && memory[at + OFFSET_UPGRADE] === 1) {
    // An Upgrade we do not take (h2c): the request goes on as plain HTTP/1.1 (RFC 9110 section 7.8).
    memory[at + OFFSET_UPGRADE] = 0;
  }
  return running.skipBody ? 1 : 0;
}

function onMessageComplete(): number {
  spans.push(SPAN_COMPLETE, 0, 0);
  // One message at a time: the caller decides when the next one may be parsed. An upgrade pauses by itself.
  const isUpgrade = running.slab.memory[running.index * PARSER_BYTES + OFFSET_UPGRADE] === 1;
  return isUpgrade ? 0 : HPE_PAUSED;
}

function newSlab(): Slab {
  const memory = Buffer.allocUnsafeSlow(PARSER_BYTES * PARSERS_PER_SLAB);
  const free = Array.from({ length: PARSERS_PER_SLAB }, (_, index) => PARSERS_PER_SLAB - 1 - index);
  return { memory, address: Number(koffi.address(memory)), free };
}

/** What a parser tells: all, or only where heads and messages end, with method and status. Then it keeps no limits. */
export type ParserDetail = 'whole' | 'outline';

/** Takes a parser's memory; give it back with {@link freeParser}. */
export function createParser(
  kind: 'request' | 'response',
  maxHeadBytes: number,
  maxHeaders: number,
  detail: ParserDetail = 'whole',
): NativeParser {
  let slab = slabs.find(({ free }) => free.length > 0);
  if (slab === undefined) {
    slab = newSlab();
    slabs.push(slab);
  }
  const index = slab.free.pop() ?? 0;
  const address = slab.address + index * PARSER_BYTES;
  const type = kind === 'request' ? TYPE_REQUEST : TYPE_RESPONSE;
  bound.init(address, type, settingsAddress(detail));
  return { ...emptyParser(), slab, index, address, maxHeadBytes, maxHeaders };
}

const knownSettingsAddresses = { whole: 0, outline: 0 };

function settingsAddress(detail: ParserDetail): number {
  knownSettingsAddresses[detail] ||= Number(koffi.address(settings[detail]));
  return knownSettingsAddresses[detail];
}

/** Gives the memory back. The parser must not be running and not be used again. */
export function freeParser(parser: NativeParser): void {
  parser.slab.free.push(parser.index);
}

/** Parses bytes; what was found is in `into`. Stops after each message with {@link HPE_PAUSED}. */
export function executeParser(
  parser: NativeParser,
  address: number,
  length: number,
  into: SpanList,
): number {
  const [outerParser, outerBase, outerSpans] = [running, base, spans];
  running = parser;
  base = address;
  spans = into;
  into.used = 0;
  try {
    return bound.execute(parser.address, address, length);
  } finally {
    running = outerParser;
    base = outerBase;
    spans = outerSpans;
  }
}

/** Tells the parser that the peer ended: completes a message that lasts until then, else an error. */
export function finishParser(parser: NativeParser, into: SpanList): number {
  const [outerParser, outerSpans] = [running, spans];
  running = parser;
  spans = into;
  into.used = 0;
  try {
    return bound.finish(parser.address);
  } finally {
    running = outerParser;
    spans = outerSpans;
  }
}

/** Where parsing stopped, as an address; meaningful after any result but {@link HPE_OK}. */
export function stopAddress(parser: NativeParser): number {
  const at = parser.index * PARSER_BYTES + OFFSET_ERROR_POS;
  const { memory } = parser.slab;
  return memory.readUInt32LE(at) + memory.readUInt32LE(at + 4) * 2 ** 32;
}

/** Goes on after a pause; the limits start again for the next message. */
export function resumeParser(parser: NativeParser): void {
  bound.resume(parser.address);
  parser.headBytes = 0;
  parser.headers = 0;
  parser.extensionBytes = 0;
}

/** Goes on as HTTP after an upgrade that did not happen. */
export function resumeAfterUpgrade(parser: NativeParser): void {
  bound.resumeAfterUpgrade(parser.address);
}

/** Method of the request being parsed, from llhttp's table. */
export function methodOf(parser: NativeParser): string {
  const code = parser.slab.memory[parser.index * PARSER_BYTES + OFFSET_METHOD] ?? 0;
  let name = methods.get(code);
  if (name === undefined) {
    name = bound.methodName(code);
    methods.set(code, name);
  }
  return name;
}

/** 0 for HTTP/1.0, 1 for HTTP/1.1. */
export function minorVersionOf(parser: NativeParser): number {
  return parser.slab.memory[parser.index * PARSER_BYTES + OFFSET_MINOR] ?? 0;
}

/** llhttp's words for the last error. */
export function parserErrorReason(parser: NativeParser): string {
  return bound.reason(parser.address) ?? 'invalid message';
}

/** Copies native memory into a buffer whose address is known. */
export function copyInto(toAddress: number, fromAddress: number, length: number): void {
  bound.copy(toAddress, fromAddress, length);
}

/** Address of a buffer's first byte. The buffer must own its memory (`allocUnsafeSlow`) and be kept alive. */
export function addressOfBuffer(buffer: Buffer): number {
  return Number(koffi.address(buffer));
}
