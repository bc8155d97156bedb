// nghttp2 for sessions that only listen (engine/observe): callbacks and options of their own, since these sessions read
// what two others say to each other. What they would answer is thrown away, and HTTP's rules are not enforced.
import koffi, { type TypeObject } from 'koffi';
import { reserve, scratch } from './memory.ts';

const lib = koffi.load(null);

type Pointer = number;
const P = 'uintptr_t';

export const nghttp2_session_set_next_stream_id: (session: Pointer, id: number) => number =
  lib.func('nghttp2_session_set_next_stream_id', 'int', [P, 'int32_t']);

/** What C calls. Each must catch everything: a throw would look like success. */
export interface ObserverCallbacks {
  onBeginHeaders(): number;
  onHeader(name: Pointer, nameLength: number, value: Pointer, valueLength: number): number;
  onFrame(frame: Pointer): number;
  onStreamClose(streamId: number, errorCode: number): number;
}

/** Addresses of the callbacks and options to make sessions with. */
export interface ObserverThread {
  readonly callbacks: Pointer;
  readonly option: Pointer;
}

// What is not looked at is declared as an int; see nghttp2.ts.
const UNUSED = 'int';
const cellOffset = reserve(8);

/** Registers the callbacks of this thread; call once. */
export function registerObserver(own: ObserverCallbacks): ObserverThread {
  const callbacks = create('nghttp2_session_callbacks_new');
  const set = (name: string, fn: (...args: number[]) => number, proto: TypeObject): void => {
    const setter = lib.func(`nghttp2_session_callbacks_set_${name}`, 'void', [P, 'void *']);
    setter(callbacks, koffi.register(fn, koffi.pointer(proto)));
  };
  set(
    'on_begin_headers_callback',
    () => own.onBeginHeaders(),
    koffi.proto('int', [UNUSED, UNUSED]),
  );
  set(
    'on_header_callback',
    // eslint-disable-next-line max-params -- the C signature
    (_s, _f, name = 0, nameLength = 0, value = 0, valueLength = 0) =>
      own.onHeader(name, nameLength, value, valueLength),
    koffi.proto('int', [UNUSED, UNUSED, P, 'int', P, 'int']),
  );
  set(
    'on_frame_recv_callback',
    (_s, frame = 0) => own.onFrame(frame),
    koffi.proto('int', [UNUSED, P]),
  );
  set(
    'on_stream_close_callback',
    (_s, id = 0, errorCode = 0) => own.onStreamClose(id, errorCode),
    koffi.proto('int', [UNUSED, 'int', 'uint32_t']),
  );
  const option = create('nghttp2_option_new');
  const limit = (name: string, ...values: number[]): void => {
    const types = values.map(() => 'uint64_t');
    lib.func(`nghttp2_option_set_${name}`, 'void', [P, ...types])(option, ...values);
  };
  limit('no_http_messaging', 1);
  limit('peer_max_concurrent_streams', 1000);
  limit('max_outbound_ack', 1000);
  limit('max_settings', 32);
  limit('stream_reset_rate_limit', 1000, 100);
  limit('max_continuations', 8);
  return { callbacks, option };
}

function create(name: string): Pointer {
  const make = lib.func(name, 'int', [P]) as (out: Pointer) => number;
  if (make(scratch.address + cellOffset) !== 0) throw new RangeError('out of memory for nghttp2');
  return Number(scratch.view.getBigUint64(cellOffset, true));
}
