// Leaves out the HTTP/2 frames that say nothing of requests, before nghttp2 reads the rest: bodies cost next to nothing then,
// and windows, which a listener cannot follow without sending, never overflow. Only frame headers are looked at (RFC 9113
// section 4.1): a length and a type.
import { HEADER_BYTES } from '../http2/frame-header.ts';
import { copyInto, copyOut, reserve, scratch } from '../native/memory.ts';
import {
  FRAME_CONTINUATION,
  FRAME_DATA,
  FRAME_GOAWAY,
  FRAME_HEADERS,
  FRAME_PUSH_PROMISE,
  FRAME_RST_STREAM,
  FRAME_SETTINGS,
  NGHTTP2_FLAG_END_STREAM,
} from '../native/nghttp2.ts';

const KEPT = new Set([
  FRAME_HEADERS,
  FRAME_RST_STREAM,
  FRAME_SETTINGS,
  FRAME_PUSH_PROMISE,
  FRAME_GOAWAY,
  FRAME_CONTINUATION,
]);
const heldOffset = reserve(HEADER_BYTES);

/** Filters one direction. */
export class FrameFilter {
  readonly #header = Buffer.alloc(HEADER_BYTES);
  /** Bytes of `#header` that are there. */
  #held = 0;
  /** Bytes of the frame (or the preface) still to come. */
  #left: number;
  #isKept = true;

  /** `prefaceBytes` come first and are kept. */
  constructor(prefaceBytes: number) {
    this.#left = prefaceBytes;
  }

  /** Gives what is kept to `use`, in as few pieces as it lies in. */
  pass(address: number, length: number, use: (address: number, length: number) => void): void {
    let from = 0;
    let at = 0;
    const flush = (to: number): void => {
      if (to > from) use(address + from, to - from);
    };
    while (at < length) {
      if (this.#left > 0) {
        const part = Math.min(this.#left, length - at);
        this.#left -= part;
        at += part;
        if (!this.#isKept) from = at;
        continue;
      }
      const wasHeld = this.#held;
      const part = Math.min(HEADER_BYTES - wasHeld, length - at);
      copyInto(address + at, part, this.#header.subarray(wasHeld));
      this.#held += part;
      const isWhole = this.#held === HEADER_BYTES;
      if (isWhole) this.#readHeader();
      if (!isWhole || wasHeld > 0 || !this.#isKept) {
        flush(at);
        from = at + part;
      }
      at += part;
      if (isWhole && wasHeld > 0 && this.#isKept) {
        copyOut(this.#header, scratch.address + heldOffset);
        use(scratch.address + heldOffset, HEADER_BYTES);
      }
    }
    flush(at);
  }

  #readHeader(): void {
    this.#held = 0;
    this.#left = this.#header.readUIntBE(0, 3);
    const type = this.#header[3] ?? 0;
    const isLastData =
      type === FRAME_DATA && ((this.#header[4] ?? 0) & NGHTTP2_FLAG_END_STREAM) !== 0;
    this.#isKept = isLastData || KEPT.has(type);
  }
}
