// An nghttp2 session that listens to one direction of somebody else's HTTP/2 connection. It reads what one peer sent, and is
// told what the other peer sent (`mirror...`), so that both its streams and its HPACK tables are those of the real one.
import { readLatin1, repeatedView, nativeView, reserve, scratch } from '../native/memory.ts';
import {
  FRAME_GOAWAY,
  FRAME_HEADERS,
  FRAME_SETTINGS,
  NGHTTP2_ERR_CALLBACK_FAILURE,
  NGHTTP2_FLAG_ACK,
  NGHTTP2_FLAG_END_STREAM,
  SETTINGS_ENABLE_CONNECT_PROTOCOL,
  SETTINGS_ENABLE_PUSH,
  SETTINGS_INITIAL_WINDOW_SIZE,
  SETTINGS_MAX_FRAME_SIZE,
  nghttp2_session_client_new2,
  nghttp2_session_del,
  nghttp2_session_mem_recv2,
  nghttp2_session_mem_send2,
  nghttp2_session_server_new2,
  nghttp2_session_set_local_window_size,
  nghttp2_session_want_read,
  nghttp2_submit_headers,
  nghttp2_submit_rst_stream,
  nghttp2_submit_settings,
} from '../native/nghttp2.ts';
import {
  nghttp2_session_set_next_stream_id,
  registerObserver,
} from '../native/nghttp2-observer.ts';
import { StreamError } from '../reactor/stream-error.ts';
import { FrameFilter } from './frame-filter.ts';
import { MAX_HEAD_BYTES, type ObserveEnd } from './types.ts';

const SETTINGS_HEADER_TABLE_SIZE = 1;
const MAX_WINDOW = 0x7fffffff;
const MAX_HEADER_TABLE = 64 * 1024;
const MAX_SETTINGS = 32;
const HEADER_OVERHEAD = 32;
const NEW_STREAM = -1;
const PREFACE_BYTES = 24;

// nghttp2_frame: the header, then by type the category of HEADERS or the entries of SETTINGS.
const FRAME_BYTES = 64;
const STREAM_ID_AT = 8;
const TYPE_AT = 12;
const FLAGS_AT = 13;
const ENTRY_COUNT_AT = 16;
const ENTRIES_AT = 24;
const CATEGORY_AT = 56;
const ENTRY_BYTES = 8;

const pointerOffset = reserve(8);
const settingsOffset = reserve(ENTRY_BYTES * (MAX_SETTINGS + 1));

/** What a session says of its peer. Called from within `receive`. */
export interface MirrorEvents {
  /** A head or trailers were read completely. */
  onHeaders(streamId: number, isRequest: boolean): void;
  /** `submit` tells the other session what this peer's SETTINGS are, before it reads their ACK. */
  onSettings(submit: (other: MirrorSession) => void): void;
  onStreamClose(streamId: number): void;
}

/** The header fields that are looked at, of the block that is being read. */
export interface SeenHeaders {
  method: string;
  status: string;
  grpcStatus: string | undefined;
  isGrpc: boolean;
}

let sessions = 0;

/** Listening sessions of this thread; for leak tests. */
export function mirrorSessionCount(): number {
  return sessions;
}

let current: MirrorSession | undefined;
let thrown: { readonly error: unknown } | undefined;

/** Makes `session` the one that callbacks are for; returns the one before. */
function enter(session: MirrorSession): MirrorSession | undefined {
  const before = current;
  current = session;
  return before;
}

/** Runs one callback; what it throws is kept for `receive`, and C sees a failure. */
function guarded(call: (session: MirrorSession) => void): number {
  if (current === undefined) return NGHTTP2_ERR_CALLBACK_FAILURE;
  try {
    call(current);
    return current.end === undefined ? 0 : NGHTTP2_ERR_CALLBACK_FAILURE;
  } catch (error) {
    thrown ??= { error };
    return NGHTTP2_ERR_CALLBACK_FAILURE;
  }
}

// Now, not when the first session is made: that may be within a callback of a tunnel, where koffi must not register.
const thread = registerObserver({
  onBeginHeaders: () => guarded((session) => session.beginHeaders()),
  onHeader: (name, nameLength, value, valueLength) =>
    guarded((session) => session.header(name, nameLength, value, valueLength)),
  onFrame: (frame) => guarded((session) => session.frame(frame)),
  onStreamClose: (id) => guarded((session) => session.streamClosed(id)),
});

/** One direction. */
export class MirrorSession {
  readonly #pointer: number;
  readonly #isServer: boolean;
  readonly #events: MirrorEvents;
  readonly #filter: FrameFilter;
  readonly seen: SeenHeaders = { method: '', status: '', grpcStatus: undefined, isGrpc: false };
  #headBytes = 0;
  #isGoaway = false;
  /** Why it cannot go on. */
  end: ObserveEnd | undefined;

  /** `reads`: whose bytes. */
  constructor(reads: 'client' | 'server', events: MirrorEvents) {
    this.#isServer = reads === 'client';
    this.#events = events;
    this.#filter = new FrameFilter(this.#isServer ? PREFACE_BYTES : 0);
    const { callbacks, option } = thread;
    const create = this.#isServer ? nghttp2_session_server_new2 : nghttp2_session_client_new2;
    if (create(scratch.address + pointerOffset, callbacks, 0, option) !== 0) {
      throw new StreamError('io', 'out of memory for an http2 session');
    }
    this.#pointer = Number(scratch.view.getBigUint64(pointerOffset, true));
    sessions++;
    // Flow control is the real peers' business, and most of the bodies are left out.
    nghttp2_session_set_local_window_size(this.#pointer, 0, 0, MAX_WINDOW);
  }

  /** Reads what the peer sent. */
  receive(address: number, length: number): void {
    this.#filter.pass(address, length, this.#read);
  }

  readonly #read = (address: number, length: number): void => {
    if (this.end !== undefined) return;
    const result = this.#run(() => nghttp2_session_mem_recv2(this.#pointer, address, length));
    if (result < 0) this.end ??= 'parse_error';
  };

  /** Lets the session believe that it has sent what it was told, and its own answers, which go nowhere. */
  drain(): void {
    const out = scratch.address + pointerOffset;
    let length: number;
    do {
      length = this.#run(() => nghttp2_session_mem_send2(this.#pointer, out));
      if (length < 0) this.end ??= 'parse_error';
    } while (length > 0);
    if (this.end === undefined && nghttp2_session_want_read(this.#pointer) === 0) {
      this.end = this.#isGoaway ? 'ended' : 'parse_error';
    }
  }

  #run(call: () => number): number {
    const before = enter(this);
    let result: number;
    try {
      result = call();
    } finally {
      current = before;
    }
    if (thrown !== undefined) {
      const { error } = thrown;
      thrown = undefined;
      throw error;
    }
    return result;
  }

  /** The other peer has opened a stream. Its body does not matter here: the stream counts as half closed. */
  mirrorRequest(streamId: number): void {
    const refusal = nghttp2_session_set_next_stream_id(this.#pointer, streamId);
    const opened =
      refusal ||
      nghttp2_submit_headers(this.#pointer, NGHTTP2_FLAG_END_STREAM, NEW_STREAM, 0, 0, 0, 0);
    if (opened < 0 && !this.#isGoaway) this.end ??= 'parse_error';
  }

  /** The stream is over, whoever ended it; what still comes for it is ignored. */
  mirrorReset(streamId: number): void {
    nghttp2_submit_rst_stream(this.#pointer, 0, streamId, 0);
  }

  beginHeaders(): void {
    this.#headBytes = 0;
    Object.assign(this.seen, { method: '', status: '', grpcStatus: undefined, isGrpc: false });
  }

  header(name: number, nameLength: number, value: number, valueLength: number): void {
    this.#headBytes += nameLength + valueLength + HEADER_OVERHEAD;
    if (this.#headBytes > MAX_HEAD_BYTES) this.end ??= 'limit';
    // Only four names are of interest, told apart by length first.
    if (nameLength !== 7 && nameLength !== 11 && nameLength !== 12) return;
    const text = readLatin1(name, nameLength);
    const read = (): string => readLatin1(value, Math.min(valueLength, 32));
    if (text === ':method') this.seen.method = read();
    else if (text === ':status') this.seen.status = read();
    else if (text === 'grpc-status') this.seen.grpcStatus = read();
    else if (text === 'content-type') this.seen.isGrpc = read().startsWith('application/grpc');
  }

  frame(address: number): void {
    const view = repeatedView(address, FRAME_BYTES);
    switch (view.getUint8(TYPE_AT)) {
      case FRAME_HEADERS:
        this.#events.onHeaders(
          view.getInt32(STREAM_ID_AT, true),
          view.getInt32(CATEGORY_AT, true) === 0,
        );
        break;
      case FRAME_SETTINGS:
        if ((view.getUint8(FLAGS_AT) & NGHTTP2_FLAG_ACK) === 0) this.#settings(view);
        break;
      case FRAME_GOAWAY:
        this.#isGoaway = true;
        break;
    }
  }

  /** The other session "sends" them, so that the ACK finds them, and they hold for what follows it. */
  #settings(frame: DataView): void {
    const count = Number(frame.getBigUint64(ENTRY_COUNT_AT, true));
    const from = Number(frame.getBigUint64(ENTRIES_AT, true));
    const entries: [number, number][] = [[SETTINGS_INITIAL_WINDOW_SIZE, MAX_WINDOW]];
    const view = count === 0 ? undefined : nativeView(from, count * ENTRY_BYTES);
    for (let at = 0; at < Math.min(count, MAX_SETTINGS); at++) {
      const id = view?.getInt32(at * ENTRY_BYTES, true) ?? 0;
      const value = view?.getUint32(at * ENTRY_BYTES + 4, true) ?? 0;
      if (id === SETTINGS_HEADER_TABLE_SIZE && value > MAX_HEADER_TABLE) this.end ??= 'limit';
      if (isMirrored(id, this.#isServer)) entries.push([id, value]);
    }
    this.#events.onSettings((other) => other.#submitSettings(entries));
  }

  #submitSettings(entries: readonly (readonly [number, number])[]): void {
    for (const [at, [id, value]] of entries.entries()) {
      scratch.view.setInt32(settingsOffset + at * ENTRY_BYTES, id, true);
      scratch.view.setUint32(settingsOffset + at * ENTRY_BYTES + 4, value, true);
    }
    const address = scratch.address + settingsOffset;
    if (nghttp2_submit_settings(this.#pointer, 0, address, entries.length) < 0) {
      this.end ??= 'parse_error';
    }
  }

  streamClosed(streamId: number): void {
    this.#events.onStreamClose(streamId);
  }

  /** Frees it; not from within a callback. */
  close(): void {
    nghttp2_session_del(this.#pointer);
    sessions--;
  }
}

/** Those that change how the other peer's frames are read. */
function isMirrored(id: number, isFromClient: boolean): boolean {
  return (
    id === SETTINGS_HEADER_TABLE_SIZE ||
    id === SETTINGS_MAX_FRAME_SIZE ||
    (isFromClient ? id === SETTINGS_ENABLE_PUSH : id === SETTINGS_ENABLE_CONNECT_PROTOCOL)
  );
}
