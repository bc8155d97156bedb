// The receiving half of a session. Every frame goes to nghttp2, but two: DATA of tunnels (CONNECT) goes to the stream right from
// the decrypted batch, and WINDOW_UPDATE to the sending half, which counts windows itself. Only their fixed headers are read here
// (RFC 9113 sections 4.1, 6.1, 6.9); a frame that is not plainly in order is nghttp2's to judge. Why: ADR 8.
import {
  WINDOW_BYTES,
  copyInto,
  copyOut,
  reserve,
  scratch,
  windowIndex,
  windowOf,
} from '../native/memory.ts';
import {
  FRAME_CONTINUATION,
  FRAME_DATA,
  FRAME_HEADERS,
  FRAME_PUSH_PROMISE,
  FRAME_WINDOW_UPDATE,
  NGHTTP2_FLAG_END_STREAM,
} from '../native/nghttp2.ts';
import {
  HEADER_BYTES,
  LAST_DATA_FRAME,
  MAX_31_BITS,
  UPDATE_BYTES,
  putFrameHeader,
} from './frame-header.ts';
import type { OwnedStream } from './http2-stream.ts';

const PREFACE_BYTES = 24;
const FLAG_PADDED = 8;
const FLAG_END_HEADERS = 4;
const OPENS_BLOCK = new Set([FRAME_HEADERS, FRAME_PUSH_PROMISE, FRAME_CONTINUATION]);
/** A header that came in parts, and the end of a tunnel as nghttp2 is told of it. */
const heldOffset = reserve(HEADER_BYTES + UPDATE_BYTES);
const endOffset = reserve(HEADER_BYTES);

/** Where the parts of the input go. Each call may end the session: `isClosed` is looked at afterwards. */
export interface FrameUser {
  readonly isClosed: boolean;
  /** Bytes for nghttp2. */
  control(address: number, length: number): void;
  /** The tunnel whose DATA is read here; undefined if nghttp2 is to judge the frame. */
  tunnelOf(streamId: number): OwnedStream | undefined;
  /** DATA of this length begins, and counts against the windows. */
  begin(stream: OwnedStream, length: number): void;
  data(stream: OwnedStream, address: number, length: number): void;
  /** Bytes that count but carry nothing. */
  padding(stream: OwnedStream, length: number): void;
  /** The peer takes more, of one stream or of all with 0. False if nghttp2 is to judge the frame. */
  opened(streamId: number, increment: number): boolean;
  malformed(detail: string): void;
}

/** Splits the input of one session. */
export class FrameReader {
  readonly #user: FrameUser;
  readonly #maxFrameBytes: number;
  /** A header that is not whole yet, with the four bytes of WINDOW_UPDATE. */
  readonly #head = Buffer.alloc(HEADER_BYTES + UPDATE_BYTES);
  #held = 0;
  /** Bytes to come of a frame for nghttp2, or of the preface. */
  #control: number;
  /** The tunnel whose DATA is being read, its bytes to come, and how many of them are padding. */
  #stream: OwnedStream | undefined;
  #left = 0;
  #padding = 0;
  #isPaddingDue = false;
  #endsStream = false;
  /** A header block is open: whatever comes now is nghttp2's (RFC 9113 section 6.10). */
  #isBlockOpen = false;
  // The frame header read last.
  #length = 0;
  #type = 0;
  #flags = 0;
  #id = 0;
  #increment = 0;

  constructor(user: FrameUser, isServer: boolean, maxFrameBytes: number) {
    this.#user = user;
    this.#maxFrameBytes = maxFrameBytes;
    this.#control = isServer ? PREFACE_BYTES : 0;
  }

  /** Reads what the transport decrypted. */
  read(address: number, length: number): void {
    const user = this.#user;
    let at = 0;
    /** From here to `at` nghttp2 has not been given. */
    let from = 0;
    while (at < length && !user.isClosed) {
      if (this.#control > 0) {
        const part = Math.min(this.#control, length - at);
        this.#control -= part;
        at += part;
        continue;
      }
      if (this.#stream !== undefined) {
        at += this.#readData(this.#stream, address + at, length - at);
        from = at;
        continue;
      }
      const isWhole = this.#held === 0 && this.#decodeAt(address + at, length - at);
      if (isWhole && !this.#isForUs()) {
        this.#control = HEADER_BYTES + this.#length;
        continue;
      }
      if (at > from) {
        // What came before may have opened the tunnel, or closed it: first that, then this frame again.
        user.control(address + from, at - from);
        from = at;
        continue;
      }
      if (!isWhole) {
        at += this.#hold(address + at, length - at);
        from = at;
      } else if (this.#take()) {
        at += this.#type === FRAME_DATA ? HEADER_BYTES : HEADER_BYTES + UPDATE_BYTES;
        from = at;
      } else {
        this.#control = HEADER_BYTES + this.#length;
      }
    }
    if (at > from && !user.isClosed) user.control(address + from, at - from);
  }

  /** Reads a header where it lies. False if it is not whole there. */
  #decodeAt(address: number, length: number): boolean {
    const index = windowIndex(address);
    if (length < HEADER_BYTES || index + HEADER_BYTES + UPDATE_BYTES > WINDOW_BYTES) return false;
    const bytes = windowOf(address);
    this.#decode(bytes, index);
    if (!this.#isUpdate()) return true;
    if (length < HEADER_BYTES + UPDATE_BYTES) return false;
    this.#increment = bytes.readUInt32BE(index + HEADER_BYTES) & MAX_31_BITS;
    return true;
  }

  #decode(bytes: Buffer, index: number): void {
    this.#length = bytes.readUIntBE(index, 3);
    this.#type = bytes.readUInt8(index + 3);
    this.#flags = bytes.readUInt8(index + 4);
    this.#id = bytes.readUInt32BE(index + 5) & MAX_31_BITS;
  }

  #isUpdate(): boolean {
    return this.#type === FRAME_WINDOW_UPDATE && this.#length === UPDATE_BYTES;
  }

  /** The frame may be read here. */
  #isForUs(): boolean {
    if (OPENS_BLOCK.has(this.#type)) this.#isBlockOpen = (this.#flags & FLAG_END_HEADERS) === 0;
    if (this.#isBlockOpen) return false;
    return this.#isUpdate() || (this.#type === FRAME_DATA && this.#length <= this.#maxFrameBytes);
  }

  /** Takes the frame whose header was read. False if it is nghttp2's. */
  #take(): boolean {
    if (this.#type !== FRAME_DATA) return this.#user.opened(this.#id, this.#increment);
    const stream = this.#user.tunnelOf(this.#id);
    if (stream === undefined) return false;
    this.#left = this.#length;
    this.#padding = 0;
    this.#isPaddingDue = (this.#flags & FLAG_PADDED) !== 0;
    this.#endsStream = (this.#flags & NGHTTP2_FLAG_END_STREAM) !== 0;
    this.#stream = stream;
    this.#user.begin(stream, this.#length);
    if (this.#left > 0) return true;
    if (this.#isPaddingDue) this.#user.malformed('padding of an empty DATA frame');
    else this.#endFrame(stream);
    return true;
  }

  /** Gathers a header that came in parts. Returns the bytes used. */
  #hold(address: number, length: number): number {
    const wanted = this.#held < HEADER_BYTES ? HEADER_BYTES : HEADER_BYTES + UPDATE_BYTES;
    const part = Math.min(wanted - this.#held, length);
    copyInto(address, part, this.#head.subarray(this.#held));
    this.#held += part;
    if (this.#held < wanted) return part;
    this.#decode(this.#head, 0);
    if (wanted === HEADER_BYTES && this.#isUpdate()) return part;
    this.#increment = this.#head.readUInt32BE(HEADER_BYTES) & MAX_31_BITS;
    const held = this.#held;
    this.#held = 0;
    if (this.#isForUs() && this.#take()) return part;
    copyOut(this.#head.subarray(0, held), scratch.address + heldOffset);
    this.#control = HEADER_BYTES + this.#length - held;
    this.#user.control(scratch.address + heldOffset, held);
    return part;
  }

  /** Reads payload of a tunnel. Returns the bytes used. */
  #readData(stream: OwnedStream, address: number, length: number): number {
    if (this.#isPaddingDue) return this.#readPadLength(stream, address);
    const payload = this.#left - this.#padding;
    const part = Math.min(length, payload > 0 ? payload : this.#left);
    this.#left -= part;
    if (payload > 0) this.#user.data(stream, address, part);
    else this.#padding -= part;
    if (this.#left === 0) this.#endFrame(stream);
    return part;
  }

  #readPadLength(stream: OwnedStream, address: number): number {
    this.#isPaddingDue = false;
    this.#padding = windowOf(address).readUInt8(windowIndex(address));
    this.#left -= 1;
    if (this.#padding > this.#left) {
      this.#user.malformed('padding longer than its DATA frame');
      return 1;
    }
    this.#user.padding(stream, this.#padding + 1);
    if (this.#left === 0) this.#endFrame(stream);
    return 1;
  }

  /** An end is told to nghttp2, which keeps the states of streams, by an empty frame. */
  #endFrame(stream: OwnedStream): void {
    this.#stream = undefined;
    if (!this.#endsStream || this.#user.isClosed) return;
    putFrameHeader(scratch.view, endOffset, 0, LAST_DATA_FRAME, stream.id);
    this.#user.control(scratch.address + endOffset, HEADER_BYTES);
  }
}
