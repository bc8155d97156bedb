// The C callbacks of this thread and the session they answer for. nghttp2 calls back only from within a call on
// a session, so the current session is a variable; calls nest when a tunnel carries another session.
import { repeatedView, reserve, scratch } from '../native/memory.ts';
import {
  NGHTTP2_DATA_FLAG_EOF,
  NGHTTP2_DATA_FLAG_NO_COPY,
  NGHTTP2_ERR_CALLBACK_FAILURE,
  registerNghttp2,
  type Nghttp2Callbacks,
  type Nghttp2Thread,
} from '../native/nghttp2.ts';

/** The parts of nghttp2_frame that are read; one object, refilled for each frame. */
export interface FrameView {
  streamId: number;
  type: number;
  flags: number;
  /** HEADERS: category; GOAWAY: last stream id. */
  detail: number;
}

/** A session as the callbacks see it. Results are nghttp2's. */
export interface SessionCallbacks {
  onBeginHeaders(frame: FrameView): number;
  onHeader(name: number, nameLength: number, value: number, valueLength: number): number;
  onDataChunk(streamId: number, address: number, length: number): number;
  onFrame(frame: FrameView): number;
  onStreamClose(streamId: number, errorCode: number): number;
}

const FRAME_BYTES = 64;
const CATEGORY_AT = 56;
const LAST_STREAM_AT = 16;
const FRAME_TYPE_HEADERS = 1;
const FLAG_BYTES = 4;
const END_FLAGS = NGHTTP2_DATA_FLAG_NO_COPY | NGHTTP2_DATA_FLAG_EOF;
const cellOffset = reserve(16);
const frame: FrameView = { streamId: 0, type: 0, flags: 0, detail: 0 };

let current: SessionCallbacks | undefined;
let thrown: { error: unknown } | undefined;
let thread: Nghttp2Thread | undefined;

// The frame is part of its session, so its address is one of a few.
let frameAddress = 0;
let frameMemory: DataView | undefined;

function readFrame(address: number): FrameView {
  if (address !== frameAddress || frameMemory === undefined) {
    frameMemory = repeatedView(address, FRAME_BYTES);
    frameAddress = address;
  }
  const view = frameMemory;
  frame.streamId = view.getInt32(8, true);
  frame.type = view.getUint8(12);
  frame.flags = view.getUint8(13);
  frame.detail = view.getInt32(
    frame.type === FRAME_TYPE_HEADERS ? CATEGORY_AT : LAST_STREAM_AT,
    true,
  );
  return frame;
}

/** Runs one callback; what it throws is kept for the caller of nghttp2, and C sees a failure. */
function guarded(call: (session: SessionCallbacks) => number): number {
  if (current === undefined) return NGHTTP2_ERR_CALLBACK_FAILURE;
  try {
    return call(current);
  } catch (error) {
    thrown ??= { error };
    return NGHTTP2_ERR_CALLBACK_FAILURE;
  }
}

const callbacks: Nghttp2Callbacks = {
  onBeginHeaders: (address) => guarded((session) => session.onBeginHeaders(readFrame(address))),
  onHeader: (name, nameLength, value, valueLength) =>
    guarded((session) => session.onHeader(name, nameLength, value, valueLength)),
  onDataChunk: (id, address, length) =>
    guarded((session) => session.onDataChunk(id, address, length)),
  onFrame: (address) => guarded((session) => session.onFrame(readFrame(address))),
  onStreamClose: (id, errorCode) => guarded((session) => session.onStreamClose(id, errorCode)),
  readData: (flags) => {
    // nghttp2 is told of nothing but ends; see FrameWriter.
    repeatedView(flags, FLAG_BYTES).setUint32(0, END_FLAGS, true);
    return 0;
  },
};

/** The registered callbacks, options and data provider of this thread. */
export function nghttp2Thread(): Nghttp2Thread {
  thread ??= registerNghttp2(
    callbacks,
    scratch.address + cellOffset,
    () => Number(scratch.view.getBigUint64(cellOffset, true)),
    (value) => {
      scratch.view.setBigUint64(cellOffset, 0n, true);
      scratch.view.setBigUint64(cellOffset + 8, value, true);
    },
  );
  return thread;
}

/** Makes `session` current for calls into nghttp2; returns the one before, for `leave`. */
export function enter(session: SessionCallbacks): SessionCallbacks | undefined {
  const before = current;
  current = session;
  return before;
}

/** Ends `enter`; returns what a callback threw. */
export function leave(before: SessionCallbacks | undefined): { error: unknown } | undefined {
  current = before;
  const result = thrown;
  thrown = undefined;
  return result;
}
