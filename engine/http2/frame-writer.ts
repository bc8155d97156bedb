// The sending half of a session. At the end of a turn, frames are laid one after another into a 128 KiB block and
// handed to the transport at once, so that streams share TLS records and system calls. A stream joined to a
// socket is read straight into place: pieces of 16,375 bytes, each behind a gap for its 9-byte frame header.
import { memcpy } from '../native/libc.ts';
import {
  BLOCK_BYTES,
  releaseBlock,
  repeatedView,
  reserve,
  scratch,
  takeBlock,
  type Block,
} from '../native/memory.ts';
import {
  NGHTTP2_DATA_FLAG_EOF,
  NGHTTP2_DATA_FLAG_NO_COPY,
  NGHTTP2_DATA_FLAG_NO_END_STREAM,
  NGHTTP2_ERR_DATA_EXIST,
  NGHTTP2_ERR_DEFERRED,
  NGHTTP2_ERR_STREAM_CLOSED,
  NGHTTP2_ERR_TEMPORAL_CALLBACK_FAILURE,
  NGHTTP2_ERR_WOULDBLOCK,
  NGHTTP2_FLAG_END_STREAM,
  nghttp2_session_get_remote_window_size,
  nghttp2_session_get_stream_remote_window_size,
  nghttp2_session_mem_send2,
  nghttp2_session_resume_data,
  nghttp2_submit_data2,
  nghttp2_submit_trailer,
} from '../native/nghttp2.ts';
import type { Duplex } from '../reactor/duplex.ts';
import { READ_END, READ_WAIT } from '../reactor/tcp-stream.ts';
import { withHeaderBlock } from './header-block.ts';
import type { OwnedStream } from './http2-stream.ts';
import { enter, leave, nghttp2Thread, type SessionCallbacks } from './session-callbacks.ts';
import { setIov } from './sink-gather.ts';

const HEADER_BYTES = 9;
/** Payload that with its header is exactly one TLS record. */
const PIECE_BYTES = 16_375;
const FRAME_BYTES = HEADER_BYTES + PIECE_BYTES;
const MAX_PIECES = BLOCK_BYTES / FRAME_BYTES;
// Blocks of socket data one session may send in a turn.
const READS_PER_TURN = 64;
const BLOCKS_PER_TURN = 4;
const iovOffset = reserve(MAX_PIECES * 16);
const framePointerOffset = reserve(8);
const FLAG_BYTES = 4;

/** Writes the frames of one session. */
export class FrameWriter {
  readonly #pointer: number;
  readonly #session: SessionCallbacks;
  readonly #transport: Duplex;
  readonly #streams: ReadonlyMap<number, OwnedStream>;
  #ready: OwnedStream[] = [];
  /** Streams whose HEADERS nghttp2 has not sent yet, while a flush runs. */
  #unopened: OwnedStream[] = [];
  #readable: OwnedStream[] = [];
  readonly #windowBlocked = new Set<OwnedStream>();
  /** The transport has asked to wait. */
  isBlocked = false;
  /** nghttp2 may hold frames of its own accord; else a flush need not ask it before it reads sockets. */
  mayHaveFrames = true;
  /** The last flush sent frames besides DATA. */
  hasSentControl = false;
  /** Bytes of the connection's window known to be free. */
  #credit = 0;
  /** The block, its address, and bytes in it, while a flush runs. */
  #block: Block | undefined;
  #base = 0;
  #used = 0;
  #blocksSent = 0;
  /** Stream of the DATA frame between readData and sendData. */
  #frameStream: OwnedStream | undefined;
  #isFrameInPlace = false;
  /** Nothing of the stream is left after that frame: nghttp2 forgets its data source. */
  #isFrameLast = false;
  /** The stream whose prefetched bytes lie behind the used part of the block. */
  #prefetching: OwnedStream | undefined;
  #needsRoom = false;

  constructor(
    pointer: number,
    session: SessionCallbacks,
    transport: Duplex,
    streams: ReadonlyMap<number, OwnedStream>,
  ) {
    this.#pointer = pointer;
    this.#session = session;
    this.#transport = transport;
    this.#streams = streams;
  }

  addReady(stream: OwnedStream): void {
    if (stream.isReady) return;
    stream.isReady = true;
    this.#ready.push(stream);
  }

  addReadable(stream: OwnedStream): void {
    if (stream.isReadableMarked || stream.isWindowBlocked) return;
    stream.isReadableMarked = true;
    this.#readable.push(stream);
  }

  /** The peer opened the window of a stream, or of all with 0. */
  windowOpened(streamId: number): void {
    if (this.#windowBlocked.size === 0) return;
    for (const stream of this.#windowBlocked) {
      if (streamId !== 0 && stream.id !== streamId) continue;
      this.#windowBlocked.delete(stream);
      stream.isWindowBlocked = false;
      this.addReadable(stream);
    }
  }

  /** The peer's SETTINGS may have shrunk the windows. */
  windowsChanged(): void {
    this.#credit = 0;
    for (const stream of this.#streams.values()) stream.credit = 0;
    this.windowOpened(0);
  }

  /** Sockets are still readable, and the transport takes more. */
  get hasMore(): boolean {
    return !this.isBlocked && this.#readable.length > 0;
  }

  clear(): void {
    this.#ready = [];
    this.#readable = [];
    this.#windowBlocked.clear();
  }

  /** Produces this turn's output. Returns 0 or nghttp2's error. */
  flush(): number {
    if (this.isBlocked) return 0;
    this.#begin();
    try {
      let failure = this.#sendReady();
      if (failure === 0) failure = this.#sendReadable();
      this.#emit();
      return failure;
    } finally {
      this.#finish();
    }
  }

  #begin(): void {
    this.#block = takeBlock();
    this.#base = this.#block.address;
    this.#used = 0;
    this.#blocksSent = 0;
    this.hasSentControl = false;
  }

  #finish(): void {
    releaseBlock();
    this.#block = undefined;
    this.#base = 0;
  }

  /** What nghttp2 still has to say before the connection ends. */
  sendLast(): void {
    if (this.#base !== 0 || this.isBlocked) return;
    const before = enter(this.#session);
    this.#begin();
    try {
      this.#sendFrames();
      this.#emit();
    } finally {
      this.#finish();
      leave(before);
    }
  }

  #emit(): void {
    if (this.#used === 0) return;
    const length = this.#used;
    this.#used = 0;
    this.#blocksSent++;
    if (!this.#transport.write(this.#base, length)) this.isBlocked = true;
  }

  #sendReady(): number {
    const list = this.#ready;
    if (list.length === 0 && !this.mayHaveFrames) return 0;
    const failure = this.#sendListed(list);
    this.mayHaveFrames = this.isBlocked;
    return failure;
  }

  #sendListed(list: readonly OwnedStream[]): number {
    if (list.length === 0) return this.#sendFrames();
    this.#ready = [];
    for (const stream of list) {
      stream.isReady = false;
      if (!this.#submit(stream)) this.#unopened.push(stream);
    }
    const failure = this.#sendFrames();
    if (failure !== 0 || this.#unopened.length === 0) return failure;
    // Their HEADERS have gone out now, if there was room.
    const unopened = this.#unopened;
    this.#unopened = [];
    for (const stream of unopened) if (!this.#submit(stream)) this.addReady(stream);
    return this.#sendFrames();
  }

  /**
   * Tells nghttp2 that the stream has data. One item lasts until the stream has nothing more, so that nghttp2 need
   * not ask again just to be put off. False if the stream is not open yet.
   */
  #submit(stream: OwnedStream): boolean {
    if (stream.isClosed || stream.isEndSent) return true;
    if (stream.isDataSubmitted) {
      nghttp2_session_resume_data(this.#pointer, stream.id);
      return true;
    }
    const { provider } = nghttp2Thread();
    const code = nghttp2_submit_data2(this.#pointer, NGHTTP2_FLAG_END_STREAM, stream.id, provider);
    stream.isDataSubmitted = code === 0 || code === NGHTTP2_ERR_DATA_EXIST;
    return code !== NGHTTP2_ERR_STREAM_CLOSED;
  }

  /** Lets nghttp2 write until it has nothing more or the transport is full. */
  #sendFrames(): number {
    while (!this.isBlocked) {
      const length = nghttp2_session_mem_send2(this.#pointer, scratch.address + framePointerOffset);
      if (length < 0) return length;
      if (length > 0) {
        this.#append(Number(scratch.view.getBigUint64(framePointerOffset, true)), length);
      } else if (this.#needsRoom) {
        this.#needsRoom = false;
        this.#emit();
      } else {
        return 0;
      }
    }
    return 0;
  }

  #append(address: number, length: number): void {
    this.#spill();
    this.hasSentControl = true;
    if (this.#used + length > BLOCK_BYTES) this.#emit();
    if (length > BLOCK_BYTES) {
      if (!this.#transport.write(address, length)) this.isBlocked = true;
      return;
    }
    memcpy(this.#base + this.#used, address, length);
    this.#used += length;
  }

  /** Reads sockets into frames, one after another, while there is room. */
  #sendReadable(): number {
    for (let reads = 0; reads < READS_PER_TURN; reads++) {
      if (this.isBlocked || this.#blocksSent >= BLOCKS_PER_TURN) return 0;
      const stream = this.#readable[0];
      if (stream === undefined) return 0;
      if (BLOCK_BYTES - this.#used < FRAME_BYTES) {
        this.#emit();
        continue;
      }
      this.#readable.shift();
      stream.isReadableMarked = false;
      if (this.#readSource(stream)) this.addReadable(stream);
      const failure = this.#sendFrames();
      this.#spill();
      if (failure !== 0) return failure;
    }
    return 0;
  }

  /** Reads a stream's socket into place. True if there may be more to read. */
  #readSource(stream: OwnedStream): boolean {
    const { source } = stream;
    if (source?.canReadNow() !== true || stream.isClosed || stream.isEnding) return false;
    // What could not be framed earlier goes first.
    if (stream.out.length > 0) {
      this.#submit(stream);
      this.#sendFrames();
      if (this.isBlocked) return true;
      if (stream.out.length > 0) return this.#waitForWindow(stream);
      if (BLOCK_BYTES - this.#used < FRAME_BYTES) return true;
    }
    const pieces = Math.min(
      stream.sourceSegments,
      Math.floor((BLOCK_BYTES - this.#used) / FRAME_BYTES),
    );
    const room = this.#windowOf(stream, pieces * PIECE_BYTES);
    if (room <= 0) return this.#waitForWindow(stream);
    const length = source.readInto(scratch.address + iovOffset, this.#layOut(room), room);
    if (length > 0) {
      stream.sourceSegments =
        length === room
          ? Math.min(MAX_PIECES, stream.sourceSegments * 8)
          : Math.ceil(length / PIECE_BYTES);
      stream.prefetched = length;
      this.#prefetching = stream;
      stream.countSource(length);
      if (source.isAtEnd) source.finishRead();
      if (!this.#submit(stream)) stream.session.markReady(stream);
    } else if (length === READ_END) {
      source.finishRead();
      return false;
    } else if (length !== READ_WAIT) {
      return false;
    }
    return source.canReadNow();
  }

  /** Bytes that may be sent, at most `wanted`. Between two looks windows only grow (see `windowsChanged`). */
  #windowOf(stream: OwnedStream, wanted: number): number {
    if (stream.credit < wanted) {
      stream.credit = nghttp2_session_get_stream_remote_window_size(this.#pointer, stream.id);
    }
    if (this.#credit < wanted) this.#credit = nghttp2_session_get_remote_window_size(this.#pointer);
    return Math.min(wanted, stream.credit, this.#credit);
  }

  #waitForWindow(stream: OwnedStream): false {
    stream.isWindowBlocked = true;
    this.#windowBlocked.add(stream);
    return false;
  }

  /** Lays pieces with gaps over the free part of the block. Returns their count. */
  #layOut(room: number): number {
    let at = this.#base + this.#used;
    let left = room;
    let count = 0;
    while (left > 0) {
      const length = Math.min(left, PIECE_BYTES);
      setIov(iovOffset + count * 16, at + HEADER_BYTES, length);
      at += FRAME_BYTES;
      left -= length;
      count++;
    }
    return count;
  }

  /** Moves prefetched bytes that were not framed into the stream's queue: something else wants the room. */
  #spill(): void {
    const stream = this.#prefetching;
    this.#prefetching = undefined;
    if (stream === undefined) return;
    let at = this.#base + this.#used + HEADER_BYTES;
    while (stream.prefetched > 0) {
      const length = Math.min(stream.prefetched, PIECE_BYTES);
      if (!stream.isClosed) stream.out.push(at, length);
      stream.prefetched -= length;
      at += FRAME_BYTES;
    }
  }

  /** nghttp2 asks how much a stream has. */
  readData(streamId: number, maxLength: number, flagsAddress: number): number {
    const stream = this.#streams.get(streamId);
    if (stream === undefined || stream.isClosed) return NGHTTP2_ERR_DEFERRED;
    let flags = NGHTTP2_DATA_FLAG_NO_COPY;
    let length = 0;
    this.#isFrameInPlace = false;
    if (stream.out.length > 0) {
      length = Math.min(stream.out.length, maxLength, PIECE_BYTES);
    } else if (stream.prefetched > 0) {
      length = Math.min(stream.prefetched, PIECE_BYTES);
      this.#isFrameInPlace = true;
      if (length > maxLength) {
        // The window is smaller than promised: go by the queue.
        this.#spill();
        this.#isFrameInPlace = false;
        length = Math.min(stream.out.length, maxLength);
      }
    } else if (!stream.isEnding) {
      return NGHTTP2_ERR_DEFERRED;
    }
    this.#isFrameLast = length === stream.out.length + stream.prefetched;
    if (this.#isFrameLast) {
      flags |= stream.isEnding
        ? this.#endFlags(stream)
        : NGHTTP2_DATA_FLAG_EOF | NGHTTP2_DATA_FLAG_NO_END_STREAM;
    }
    this.#frameStream = stream;
    repeatedView(flagsAddress, FLAG_BYTES).setUint32(0, flags, true);
    return length;
  }

  #endFlags(stream: OwnedStream): number {
    stream.isEndSent = true;
    if (stream.trailers === undefined) return NGHTTP2_DATA_FLAG_EOF;
    const { trailers } = stream;
    stream.trailers = undefined;
    withHeaderBlock(trailers, (address, count) =>
      nghttp2_submit_trailer(this.#pointer, stream.id, address, count),
    );
    return NGHTTP2_DATA_FLAG_EOF | NGHTTP2_DATA_FLAG_NO_END_STREAM;
  }

  /** nghttp2 has made the header of the frame announced by readData. */
  sendData(frameHeader: number, length: number): number {
    const stream = this.#frameStream;
    // The stream may have been closed while the frame waited for room.
    if (stream === undefined || stream.isClosed) return NGHTTP2_ERR_TEMPORAL_CALLBACK_FAILURE;
    if (!this.#isFrameInPlace && this.#used + HEADER_BYTES + length > BLOCK_BYTES) {
      this.#needsRoom = true;
      return NGHTTP2_ERR_WOULDBLOCK;
    }
    const at = this.#base + this.#used;
    if (this.#isFrameInPlace) {
      stream.prefetched -= length;
    } else if (this.#prefetching !== undefined) {
      // A frame from a queue would overwrite what lies in place.
      this.#spill();
    }
    this.#copyHeader(frameHeader);
    if (!this.#isFrameInPlace && length > 0) {
      memcpy(at + HEADER_BYTES, stream.out.address, length);
      stream.out.shift(length);
      stream.noteSent();
    }
    stream.credit -= length;
    this.#credit -= length;
    this.#used += HEADER_BYTES + length;
    if (this.#isFrameLast) {
      stream.isDataSubmitted = false;
      // More may have come while the frame waited for room.
      const isEndDue = stream.isEnding && !stream.isEndSent;
      if (stream.out.length > 0 || isEndDue) stream.session.markReady(stream);
    }
    return 0;
  }

  #copyHeader(from: number): void {
    if (this.#block === undefined) return;
    const { slab, offset } = this.#block;
    const header = repeatedView(from, HEADER_BYTES);
    const at = offset + this.#used;
    slab.view.setUint32(at, header.getUint32(0, true), true);
    slab.view.setUint32(at + 4, header.getUint32(4, true), true);
    slab.view.setUint8(at + 8, header.getUint8(8));
  }
}
