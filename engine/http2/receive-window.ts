// The receiving windows of one session. What tunnels carry is counted here, and opened again by halves in frames that the sending
// half writes; DATA of other streams is nghttp2's to count, and told to it in eighths of a window rather than chunk by chunk.
// The peer sees one window for the connection: each of the two gives back just what it took.
import {
  nghttp2_session_consume_connection,
  nghttp2_session_consume_stream,
} from '../native/nghttp2.ts';
import { DEFAULT_WINDOW_BYTES } from './frame-header.ts';
import type { OwnedStream } from './http2-stream.ts';
import type { Http2Settings } from './types.ts';

const TOLD_PARTS = 8;
const OPENED_PARTS = 2;
const HELD_UP_PART = 0.7;

/** The receiving windows of one session. */
export class ReceiveWindow {
  readonly #pointer: number;
  readonly #stream: number;
  readonly #connection: number;
  /** Bytes of tunnels that came and were not given back yet. */
  #unopened = 0;
  /** Bytes of tunnels that were taken: to be given back. */
  #taken = 0;
  /** Bytes of other streams, not yet told to nghttp2. */
  #untold = 0;
  #due: OwnedStream[] = [];

  constructor(pointer: number, settings: Http2Settings) {
    this.#pointer = pointer;
    this.#stream = settings.initialWindowSize ?? DEFAULT_WINDOW_BYTES;
    this.#connection = settings.connectionWindowSize ?? DEFAULT_WINDOW_BYTES;
  }

  /** DATA of a tunnel begins. False if the peer sends more than a window allows (RFC 9113 section 6.9). */
  begin(stream: OwnedStream, bytes: number): boolean {
    stream.unopened += bytes;
    this.#unopened += bytes;
    // Before it knows our settings the peer goes by the default.
    return (
      stream.unopened <= Math.max(this.#stream, DEFAULT_WINDOW_BYTES) &&
      this.#unopened <= Math.max(this.#connection, DEFAULT_WINDOW_BYTES)
    );
  }

  /** Bytes of a stream were taken. True if there is an update to send. */
  take(stream: OwnedStream, bytes: number): boolean {
    stream.taken += bytes;
    if (!stream.isTunnel) return this.#tell(stream, bytes);
    this.#taken += bytes;
    if (stream.taken >= this.#stream / OPENED_PARTS && !stream.isUpdateDue) {
      stream.isUpdateDue = true;
      this.#due.push(stream);
    }
    return this.isDue;
  }

  /** There are updates to send. Bytes that nobody takes may bring it about too: they are what the peer has less. */
  get isDue(): boolean {
    return this.#due.length > 0 || this.#isConnectionDue();
  }

  /** When what was taken is as much as the peer has left: half of all, or less where streams hold what nobody takes. */
  #isConnectionDue(): boolean {
    return this.#taken > 0 && this.#taken >= this.#connection - this.#unopened;
  }

  /** Streams that nobody reads hold so much that the next ones may hold up all. */
  get isHeldUp(): boolean {
    return this.#unopened - this.#taken > HELD_UP_PART * this.#connection;
  }

  #tell(stream: OwnedStream, bytes: number): boolean {
    let isTold = false;
    if (stream.taken >= this.#stream / TOLD_PARTS && !stream.isClosed) {
      nghttp2_session_consume_stream(this.#pointer, stream.id, stream.taken);
      stream.taken = 0;
      isTold = true;
    }
    return this.takeForNobody(bytes) || isTold;
  }

  /** Bytes that nghttp2 counted, of a stream that is gone: only the connection's window is left to open. */
  takeForNobody(bytes: number): boolean {
    this.#untold += bytes;
    if (this.#untold < this.#connection / TOLD_PARTS) return false;
    nghttp2_session_consume_connection(this.#pointer, this.#untold);
    this.#untold = 0;
    return true;
  }

  /** Hands out the updates that are due, to be sent now: stream (0 for the connection) and increment. */
  open(send: (streamId: number, increment: number) => void): void {
    if (this.#due.length > 0) {
      const list = this.#due;
      this.#due = [];
      for (const stream of list) {
        stream.isUpdateDue = false;
        const { taken } = stream;
        stream.taken = 0;
        stream.unopened -= taken;
        if (!stream.isClosed && !stream.isEndReceived) send(stream.id, taken);
      }
    }
    if (!this.#isConnectionDue()) return;
    const taken = this.#taken;
    this.#taken = 0;
    this.#unopened -= taken;
    send(0, taken);
  }
}
