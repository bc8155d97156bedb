// What streams have taken, told to nghttp2 in eighths of a window rather than chunk by chunk: each call costs, and
// nghttp2 sends WINDOW_UPDATE only at a half of a window anyway.
import {
  nghttp2_session_consume_connection,
  nghttp2_session_consume_stream,
} from '../native/nghttp2.ts';
import type { OwnedStream } from './http2-stream.ts';
import type { Http2Settings } from './types.ts';

const DEFAULT_WINDOW_BYTES = 65_535;
const PARTS = 8;

/** The receiving windows of one session. */
export class ReceiveWindow {
  readonly #pointer: number;
  readonly #streamPart: number;
  readonly #connectionPart: number;
  #taken = 0;

  constructor(pointer: number, settings: Http2Settings) {
    this.#pointer = pointer;
    this.#streamPart = (settings.initialWindowSize ?? DEFAULT_WINDOW_BYTES) / PARTS;
    this.#connectionPart = (settings.connectionWindowSize ?? DEFAULT_WINDOW_BYTES) / PARTS;
  }

  /** Bytes of a stream were taken. True if nghttp2 was told, and may have an update to send. */
  take(stream: OwnedStream, bytes: number): boolean {
    stream.taken += bytes;
    let isTold = false;
    if (stream.taken >= this.#streamPart && !stream.isClosed) {
      nghttp2_session_consume_stream(this.#pointer, stream.id, stream.taken);
      stream.taken = 0;
      isTold = true;
    }
    return this.takeForNobody(bytes) || isTold;
  }

  /** Bytes of a stream that is gone: only the connection's window is left to open. */
  takeForNobody(bytes: number): boolean {
    this.#taken += bytes;
    if (this.#taken < this.#connectionPart) return false;
    nghttp2_session_consume_connection(this.#pointer, this.#taken);
    this.#taken = 0;
    return true;
  }
}
