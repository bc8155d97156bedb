// nghttp2 1.70 by FFI, from the Node binary itself: sessions, submissions, and the callbacks of this thread.
// Callbacks are registered once a thread and answer for the session that is current (engine/http2).
import koffi, { type TypeObject } from 'koffi';

const lib = koffi.load(null);

type Pointer = number;
const P = 'uintptr_t';
const S = 'size_t';

const callbacksNew: (out: Pointer) => number = lib.func('nghttp2_session_callbacks_new', 'int', [
  P,
]);
const optionNew: (out: Pointer) => number = lib.func('nghttp2_option_new', 'int', [P]);
const optionNoAutoWindowUpdate: (option: Pointer, value: number) => void = lib.func(
  'nghttp2_option_set_no_auto_window_update',
  'void',
  [P, 'int'],
);
const optionMaxOutboundAck: (option: Pointer, value: number) => void = lib.func(
  'nghttp2_option_set_max_outbound_ack',
  'void',
  [P, S],
);
const optionMaxSettings: (option: Pointer, value: number) => void = lib.func(
  'nghttp2_option_set_max_settings',
  'void',
  [P, S],
);
const optionResetRateLimit: (option: Pointer, burst: number, rate: number) => void = lib.func(
  'nghttp2_option_set_stream_reset_rate_limit',
  'void',
  [P, 'uint64_t', 'uint64_t'],
);
const optionMaxContinuations: (option: Pointer, value: number) => void = lib.func(
  'nghttp2_option_set_max_continuations',
  'void',
  [P, S],
);

export type SessionNew = (out: Pointer, callbacks: Pointer, userData: 0, option: Pointer) => number;
export const nghttp2_session_server_new2: SessionNew = lib.func(
  'nghttp2_session_server_new2',
  'int',
  [P, P, P, P],
);
export const nghttp2_session_client_new2: SessionNew = lib.func(
  'nghttp2_session_client_new2',
  'int',
  [P, P, P, P],
);
export const nghttp2_session_del: (session: Pointer) => void = lib.func(
  'nghttp2_session_del',
  'void',
  [P],
);
export const nghttp2_session_mem_recv2: (
  session: Pointer,
  from: Pointer,
  length: number,
) => number = lib.func('nghttp2_session_mem_recv2', 'int', [P, P, S]);
export const nghttp2_session_mem_send2: (session: Pointer, out: Pointer) => number = lib.func(
  'nghttp2_session_mem_send2',
  'int',
  [P, P],
);
export const nghttp2_session_want_read: (session: Pointer) => number = lib.func(
  'nghttp2_session_want_read',
  'int',
  [P],
);
export const nghttp2_session_want_write: (session: Pointer) => number = lib.func(
  'nghttp2_session_want_write',
  'int',
  [P],
);
export const nghttp2_session_consume_connection: (session: Pointer, size: number) => number =
  lib.func('nghttp2_session_consume_connection', 'int', [P, S]);
export const nghttp2_session_consume_stream: (
  session: Pointer,
  id: number,
  size: number,
) => number = lib.func('nghttp2_session_consume_stream', 'int', [P, 'int32_t', S]);
export const nghttp2_submit_data2: (
  session: Pointer,
  flags: number,
  id: number,
  provider: Pointer,
) => number = lib.func('nghttp2_submit_data2', 'int', [P, 'uint8_t', 'int32_t', P]);
export const nghttp2_session_set_local_window_size: (
  session: Pointer,
  flags: 0,
  id: number,
  size: number,
) => number = lib.func('nghttp2_session_set_local_window_size', 'int', [
  P,
  'uint8_t',
  'int32_t',
  'int32_t',
]);
export const nghttp2_session_get_stream_remote_window_size: (
  session: Pointer,
  id: number,
) => number = lib.func('nghttp2_session_get_stream_remote_window_size', 'int32_t', [P, 'int32_t']);
export const nghttp2_session_get_remote_settings: (session: Pointer, id: number) => number =
  lib.func('nghttp2_session_get_remote_settings', 'uint32_t', [P, 'int']);
export const nghttp2_session_get_last_proc_stream_id: (session: Pointer) => number = lib.func(
  'nghttp2_session_get_last_proc_stream_id',
  'int32_t',
  [P],
);
export const nghttp2_session_terminate_session: (session: Pointer, errorCode: number) => number =
  lib.func('nghttp2_session_terminate_session', 'int', [P, 'uint32_t']);
export const nghttp2_submit_headers: (
  session: Pointer,
  flags: number,
  id: number,
  ...rest: [priority: 0, headers: Pointer, count: number, userData: 0]
) => number = lib.func('nghttp2_submit_headers', 'int32_t', [P, 'uint8_t', 'int32_t', P, P, S, P]);
export const nghttp2_submit_trailer: (
  session: Pointer,
  id: number,
  headers: Pointer,
  count: number,
) => number = lib.func('nghttp2_submit_trailer', 'int', [P, 'int32_t', P, S]);
export const nghttp2_submit_settings: (
  session: Pointer,
  flags: 0,
  entries: Pointer,
  count: number,
) => number = lib.func('nghttp2_submit_settings', 'int', [P, 'uint8_t', P, S]);
export const nghttp2_submit_rst_stream: (
  session: Pointer,
  flags: 0,
  id: number,
  errorCode: number,
) => number = lib.func('nghttp2_submit_rst_stream', 'int', [P, 'uint8_t', 'int32_t', 'uint32_t']);
export const nghttp2_submit_ping: (session: Pointer, flags: 0, data: 0) => number = lib.func(
  'nghttp2_submit_ping',
  'int',
  [P, 'uint8_t', P],
);
export const nghttp2_submit_shutdown_notice: (session: Pointer) => number = lib.func(
  'nghttp2_submit_shutdown_notice',
  'int',
  [P],
);
export const nghttp2_submit_goaway: (
  session: Pointer,
  flags: 0,
  lastStreamId: number,
  ...rest: [errorCode: number, data: 0, length: 0]
) => number = lib.func('nghttp2_submit_goaway', 'int', [P, 'uint8_t', 'int32_t', 'uint32_t', P, S]);
export const nghttp2_strerror: (code: number) => string = lib.func(
  'nghttp2_strerror',
  'const char *',
  ['int'],
);

/** What C calls. Each must catch everything: a throw would look like success. */
export interface Nghttp2Callbacks {
  onBeginHeaders(frame: Pointer): number;
  onHeader(name: Pointer, nameLength: number, value: Pointer, valueLength: number): number;
  onDataChunk(streamId: number, data: Pointer, length: number): number;
  onFrame(frame: Pointer): number;
  onStreamClose(streamId: number, errorCode: number): number;
  /** Asked only for ends: the DATA frames themselves are ours. */
  readData(flags: Pointer): number;
}

/** The registered callbacks, the options, and the data provider for submissions. */
export interface Nghttp2Thread {
  readonly callbacks: Pointer;
  readonly option: Pointer;
  /** Address of a `nghttp2_data_provider2` whose read callback is `readData`. */
  readonly provider: Pointer;
}

// A pointer above 2^31 becomes a number on the heap, and each argument costs: what is not looked at is declared as an
// int, or left out at the end, which the calling conventions allow. Lengths here are far below 2^31.
const UNUSED = 'int';
const protos = {
  frame: koffi.proto('int', [UNUSED, P]),
  header: koffi.proto('int', [UNUSED, UNUSED, P, 'int', P, 'int']),
  chunk: koffi.proto('int', [UNUSED, UNUSED, 'int', P, 'int']),
  close: koffi.proto('int', [UNUSED, 'int', 'uint32_t']),
  read: koffi.proto('int64_t', [UNUSED, 'int', UNUSED, 'int', P]),
  send: koffi.proto('int', [UNUSED]),
};

/**
 * Registers the callbacks of this thread; call once. `cell` is 16 bytes of native memory that stay reserved, and
 * `readPointer` reads its first 8 bytes.
 */
export function registerNghttp2(
  own: Nghttp2Callbacks,
  cell: Pointer,
  readPointer: () => number,
  writePointer: (value: bigint) => void,
): Nghttp2Thread {
  callbacksNew(cell);
  const callbacks = readPointer();
  const set = (name: string, fn: (...args: number[]) => number, proto: TypeObject): void => {
    const setter = lib.func(`nghttp2_session_callbacks_set_${name}`, 'void', [P, 'void *']);
    setter(callbacks, koffi.register(fn, koffi.pointer(proto)));
  };
  set('on_begin_headers_callback', (_s, frame = 0) => own.onBeginHeaders(frame), protos.frame);
  set(
    'on_header_callback',
    // eslint-disable-next-line max-params -- the C signature
    (_s, _f, name = 0, nameLength = 0, value = 0, valueLength = 0) =>
      own.onHeader(name, nameLength, value, valueLength),
    protos.header,
  );
  set(
    'on_data_chunk_recv_callback',
    (_s, _flags, id = 0, data = 0, length = 0) => own.onDataChunk(id, data, length),
    protos.chunk,
  );
  set('on_frame_recv_callback', (_s, frame = 0) => own.onFrame(frame), protos.frame);
  set(
    'on_stream_close_callback',
    (_s, id = 0, errorCode = 0) => own.onStreamClose(id, errorCode),
    protos.close,
  );
  set('send_data_callback', () => 0, protos.send);
  const read = koffi.register(
    (_s: number, _id: number, _buf: number, _length: number, flags: number) => own.readData(flags),
    koffi.pointer(protos.read),
  );
  optionNew(cell);
  const option = readPointer();
  optionNoAutoWindowUpdate(option, 1);
  optionMaxOutboundAck(option, 1000);
  optionMaxSettings(option, 32);
  optionResetRateLimit(option, 1000, 100);
  optionMaxContinuations(option, 8);
  writePointer(read);
  return { callbacks, option, provider: cell };
}

// Constants of nghttp2.h.
export const NGHTTP2_ERR_TEMPORAL_CALLBACK_FAILURE = -521;
export const NGHTTP2_ERR_CALLBACK_FAILURE = -902;
export const NGHTTP2_DATA_FLAG_EOF = 1;
export const NGHTTP2_DATA_FLAG_NO_COPY = 4;
export const NGHTTP2_FLAG_END_STREAM = 1;
export const NGHTTP2_FLAG_ACK = 1;
export const FRAME_DATA = 0;
export const FRAME_HEADERS = 1;
export const FRAME_RST_STREAM = 3;
export const FRAME_SETTINGS = 4;
export const FRAME_PUSH_PROMISE = 5;
export const FRAME_PING = 6;
export const FRAME_GOAWAY = 7;
export const FRAME_WINDOW_UPDATE = 8;
export const FRAME_CONTINUATION = 9;
export const SETTINGS_ENABLE_PUSH = 2;
export const SETTINGS_MAX_CONCURRENT_STREAMS = 3;
export const SETTINGS_INITIAL_WINDOW_SIZE = 4;
export const SETTINGS_MAX_FRAME_SIZE = 5;
export const SETTINGS_MAX_HEADER_LIST_SIZE = 6;
export const SETTINGS_ENABLE_CONNECT_PROTOCOL = 8;
