// The sending half of a session. At the end of a turn, frames are laid one after another into a 128 KiB block and
// handed to the transport at once, so that streams share TLS records and system calls. DATA is framed here, within the windows the
// peer opened, and all else by nghttp2, which is told of ends only: it keeps the states of streams. A stream joined to a
// socket is read straight into place: pieces of 16,375 bytes, each behind a gap for its 9-byte frame header. Why: ADR 8.
import { memcpy } from '../native/libc.ts';
import {
  BLOCK_BYTES,
  releaseBlock,
  reserve,
  scratch,
  takeBlock,
  type Block,
} from '../native/memory.ts';
import {
  NGHTTP2_FLAG_END_STREAM,
  nghttp2_session_get_stream_remote_window_size,
  nghttp2_session_mem_recv2,
  nghttp2_session_mem_send2,
  nghttp2_submit_data2,
  nghttp2_submit_trailer,
} from '../native/nghttp2.ts';
import type { Duplex } from '../reactor/duplex.ts';
import type { JoinTap } from '../reactor/relay.ts';
import { READ_END, READ_WAIT, type TcpStream } from '../reactor/tcp-stream.ts';
import {
  DATA_FRAME,
  DEFAULT_WINDOW_BYTES,
  HEADER_BYTES,
  LAST_DATA_FRAME,
  MAX_31_BITS,
  UPDATE_BYTES,
  putFrameHeader,
  putWindowUpdate,
} from './frame-header.ts';
import { withHeaderBlock } from './header-block.ts';
import type { OwnedStream } from './http2-stream.ts';
import type { ReceiveWindow } from './receive-window.ts';
import { enter, leave, nghttp2Thread, type SessionCallbacks } from './session-callbacks.ts';
import { setIov } from './sink-gather.ts';
import type { HeaderList } from './types.ts';

/** Payload that with its header is exactly one TLS record. */
const PIECE_BYTES = 16_375;
const FRAME_BYTES = HEADER_BYTES + PIECE_BYTES;
const MAX_PIECES = BLOCK_BYTES / FRAME_BYTES;
/** Of the widest window the peer ever gave. */
const HELD_UP_PART = 0.2;
// Blocks of socket data one session may send in a turn.
const READS_PER_TURN = 64;
const BLOCKS_PER_TURN = 4;
const iovOffset = reserve(MAX_PIECES * 16);
const framePointerOffset = reserve(8);
const openingOffset = reserve(HEADER_BYTES + UPDATE_BYTES);
const NO_BLOCK: Block = { slab: scratch, offset: 0, address: 0 };

/** Writes the frames of one session. */
export class FrameWriter {
  readonly #pointer: number;
  readonly #session: SessionCallbacks;
  readonly #transport: Duplex;
  readonly #streams: ReadonlyMap<number, OwnedStream>;
  readonly #receiveWindow: ReceiveWindow;
  #ready: OwnedStream[] = [];
  #readable: OwnedStream[] = [];
  readonly #windowBlocked = new Set<OwnedStream>();
  /** The transport has asked to wait. */
  isBlocked = false;
  /** nghttp2 may hold frames. */
  mayHaveFrames = true;
  /** The last flush sent frames besides DATA. */
  hasSentControl = false;
  /** Bytes the peer takes on the connection. */
  #window = DEFAULT_WINDOW_BYTES;
  #widest = DEFAULT_WINDOW_BYTES;
  /** Bytes the peer takes on a new stream: its SETTINGS_INITIAL_WINDOW_SIZE. */
  initialWindow = DEFAULT_WINDOW_BYTES;
  /** The block, and bytes in it, while a flush runs. */
  #block: Block = NO_BLOCK;
  #used = 0;
  #blocksSent = 0;

  constructor(
    pointer: number,
    session: SessionCallbacks,
    transport: Duplex,
    on: {
      readonly streams: ReadonlyMap<number, OwnedStream>;
      readonly receiveWindow: ReceiveWindow;
    },
  ) {
    this.#pointer = pointer;
    this.#session = session;
    this.#transport = transport;
    this.#streams = on.streams;
    this.#receiveWindow = on.receiveWindow;
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

  /** Of the connection's window next to nothing is left: the peer does not read. */
  get isHeldUp(): boolean {
    return this.#window < HELD_UP_PART * this.#widest;
  }

  /**
   * The peer opened the window of a stream, or the connection's with none. False if it may not be that wide (RFC 9113
   * section 6.9.1).
   */
  windowOpened(stream: OwnedStream | undefined, increment: number): boolean {
    if (stream === undefined) {
      this.#window += increment;
      if (this.#window > MAX_31_BITS) return false;
      this.#widest = Math.max(this.#widest, this.#window);
      for (const blocked of this.#windowBlocked) this.#unblock(blocked);
      return true;
    }
    stream.sendWindow += increment;
    if (stream.isWindowBlocked) this.#unblock(stream);
    return stream.sendWindow <= MAX_31_BITS;
  }

  /** The peer's SETTINGS: windows of its streams change by the difference, and may be below zero then (section 6.9.2). */
  initialWindowIs(bytes: number): void {
    const difference = bytes - this.initialWindow;
    if (difference === 0) return;
    this.initialWindow = bytes;
    for (const stream of this.#streams.values()) {
      stream.sendWindow += difference;
      if (stream.isWindowBlocked) this.#unblock(stream);
    }
  }

  #unblock(stream: OwnedStream): void {
    this.#windowBlocked.delete(stream);
    stream.isWindowBlocked = false;
    if (stream.out.length > 0 || stream.isEnding) this.addReady(stream);
    if (stream.source !== undefined) this.addReadable(stream);
  }

  /** A stream is over. A peer that opens no window may not have us keep those that waited for it. */
  forget(stream: OwnedStream): void {
    if (stream.isWindowBlocked) this.#windowBlocked.delete(stream);
  }

  /** Streams that wait for a window. */
  get blockedCount(): number {
    return this.#windowBlocked.size;
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
      let failure = this.#sendControl();
      if (failure === 0) {
        this.#receiveWindow.open(this.#putUpdate);
        this.#sendReady();
        this.#sendReadable();
        // Ends, and what handlers said meanwhile.
        failure = this.#sendControl();
      }
      this.#emit();
      return failure;
    } finally {
      this.#finish();
    }
  }

  #begin(): void {
    this.#block = takeBlock();
    this.#used = 0;
    this.#blocksSent = 0;
    this.hasSentControl = false;
  }

  #finish(): void {
    releaseBlock();
    this.#block = NO_BLOCK;
  }

  /** What nghttp2 still has to say before the connection ends. */
  sendLast(): void {
    if (this.#block !== NO_BLOCK || this.isBlocked) return;
    const before = enter(this.#session);
    this.#begin();
    try {
      this.mayHaveFrames = true;
      this.#sendControl();
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
    if (!this.#transport.write(this.#block.address, length)) this.isBlocked = true;
  }

  /** Makes room for `length` bytes. False if the transport takes no more. */
  #hasRoom(length: number): boolean {
    if (this.#used + length > BLOCK_BYTES) this.#emit();
    return !this.isBlocked;
  }

  /** Lets nghttp2 write until it has nothing more or the transport is full. */
  #sendControl(): number {
    if (!this.mayHaveFrames) return 0;
    while (!this.isBlocked) {
      const length = nghttp2_session_mem_send2(this.#pointer, scratch.address + framePointerOffset);
      if (length < 0) return length;
      if (length === 0) {
        this.mayHaveFrames = false;
        return 0;
      }
      this.#append(Number(scratch.view.getBigUint64(framePointerOffset, true)), length);
    }
    return 0;
  }

  #append(address: number, length: number): void {
    this.hasSentControl = true;
    if (this.#used + length > BLOCK_BYTES) this.#emit();
    if (length > BLOCK_BYTES) {
      if (!this.#transport.write(address, length)) this.isBlocked = true;
      return;
    }
    memcpy(this.#block.address + this.#used, address, length);
    this.#used += length;
  }

  #sendReady(): void {
    const list = this.#ready;
    if (list.length === 0) return;
    this.#ready = [];
    for (const stream of list) {
      stream.isReady = false;
      if (!this.#sendQueued(stream)) this.addReady(stream);
    }
  }

  /** Frames what waits in a stream's queue, and its end. False if that must wait for another flush. */
  #sendQueued(stream: OwnedStream): boolean {
    if (stream.isClosed || stream.isEndSent) return true;
    if (this.isBlocked || !this.#isOpen(stream)) return false;
    while (stream.out.length > 0) {
      const wanted = Math.min(stream.out.length, PIECE_BYTES);
      const length = Math.min(wanted, this.#windowOf(stream));
      if (length <= 0) return this.#waitForWindow(stream);
      if (!this.#hasRoom(HEADER_BYTES + length)) return false;
      memcpy(this.#block.address + this.#used + HEADER_BYTES, stream.out.address, length);
      stream.out.shift(length);
      this.#putData(stream, length);
      stream.noteSent();
    }
    if (!stream.isEndDue) return true;
    if (!this.#hasRoom(HEADER_BYTES)) return false;
    if (stream.trailers === undefined) this.#putData(stream, 0);
    else this.#submitTrailers(stream, stream.trailers);
    return true;
  }

  /** HEADERS of a request may wait in nghttp2 for the peer's limit of streams. */
  #isOpen(stream: OwnedStream): boolean {
    if (stream.isOpen) return true;
    stream.isOpen = nghttp2_session_get_stream_remote_window_size(this.#pointer, stream.id) >= 0;
    if (stream.isOpen && stream.source !== undefined) this.addReadable(stream);
    return stream.isOpen;
  }

  /** Reads sockets into frames, one after another, while there is room. */
  #sendReadable(): void {
    let next = 0;
    for (let reads = 0; reads < READS_PER_TURN && next < this.#readable.length; reads++) {
      if (this.isBlocked || this.#blocksSent >= BLOCKS_PER_TURN) break;
      if (BLOCK_BYTES - this.#used < FRAME_BYTES) {
        this.#emit();
        continue;
      }
      const stream = this.#readable[next++];
      if (stream === undefined) break;
      stream.isReadableMarked = false;
      if (this.#readSource(stream)) this.addReadable(stream);
    }
    this.#readable = next === this.#readable.length ? [] : this.#readable.slice(next);
  }

  /** Reads a stream's socket into place. True if there may be more to read. */
  #readSource(stream: OwnedStream): boolean {
    const { source } = stream;
    if (source?.canReadNow() !== true || stream.isClosed || stream.isEnding) return false;
    // What could not be framed earlier goes first.
    if (stream.out.length > 0 || !stream.isOpen) {
      if (!this.#sendQueued(stream)) this.addReady(stream);
      if (stream.out.length > 0 || !stream.isOpen) return stream.isOpen && !stream.isWindowBlocked;
      if (BLOCK_BYTES - this.#used < FRAME_BYTES) return true;
    }
    const pieces = Math.min(
      stream.sourceSegments,
      Math.floor((BLOCK_BYTES - this.#used) / FRAME_BYTES),
    );
    const room = Math.min(pieces * PIECE_BYTES, this.#windowOf(stream));
    if (room <= 0) return !this.#waitForWindow(stream);
    const length = source.readInto(scratch.address + iovOffset, this.#layOut(room), room);
    if (length > 0) {
      stream.sourceSegments =
        length === room
          ? Math.min(MAX_PIECES, stream.sourceSegments * 8)
          : Math.ceil(length / PIECE_BYTES);
      stream.countSource(length);
      if (stream.tap !== undefined) this.#show(stream.tap, length);
      this.#frameInPlace(stream, source, length);
    } else if (length === READ_END) {
      source.finishRead();
      return false;
    } else if (length !== READ_WAIT) {
      return false;
    }
    return source.canReadNow();
  }

  /** What was read into place, before the end that may come with it. */
  #show(tap: JoinTap, length: number): void {
    let at = this.#block.address + this.#used + HEADER_BYTES;
    for (let left = length; left > 0; left -= PIECE_BYTES, at += FRAME_BYTES)
      tap.sent(at, Math.min(left, PIECE_BYTES));
  }

  /** Frames bytes that were read into place. If they were the socket's last, the end goes with them. */
  #frameInPlace(stream: OwnedStream, source: TcpStream, length: number): void {
    if (source.isAtEnd) {
      stream.isFraming = true;
      source.finishRead();
      stream.isFraming = false;
      if (stream.isClosed) return;
    }
    for (let left = length; left > 0;) {
      const part = Math.min(left, PIECE_BYTES);
      left -= part;
      this.#putData(stream, part, left > 0);
    }
    if (stream.isEndDue) this.addReady(stream);
  }

  /** Bytes that may be sent. */
  #windowOf(stream: OwnedStream): number {
    return Math.min(stream.sendWindow, this.#window);
  }

  #waitForWindow(stream: OwnedStream): true {
    stream.isWindowBlocked = true;
    this.#windowBlocked.add(stream);
    return true;
  }

  /** Lays pieces with gaps over the free part of the block. Returns their count. */
  #layOut(room: number): number {
    let at = this.#block.address + this.#used;
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

  /** Puts the header before a payload that is in place, with END_STREAM if it is the stream's last. */
  #putData(stream: OwnedStream, length: number, hasMore = false): void {
    const isEnd =
      stream.isEnding && !hasMore && stream.out.length === 0 && stream.trailers === undefined;
    const { slab, offset } = this.#block;
    const kind = isEnd ? LAST_DATA_FRAME : DATA_FRAME;
    putFrameHeader(slab.view, offset + this.#used, length, kind, stream.id);
    this.#used += HEADER_BYTES + length;
    stream.sendWindow -= length;
    this.#window -= length;
    if (!isEnd) return;
    stream.isEndSent = true;
    this.#tellEnd(stream);
  }

  readonly #putUpdate = (streamId: number, increment: number): void => {
    this.#hasRoom(HEADER_BYTES + UPDATE_BYTES);
    const { slab, offset } = this.#block;
    this.#used += putWindowUpdate(slab.view, offset + this.#used, streamId, increment);
  };

  /** nghttp2 "sends" an empty last frame for the one that was sent here. */
  #tellEnd(stream: OwnedStream): void {
    // It knows no more of windows than where they began, and with none it would wait.
    if (this.initialWindow <= 0) this.#openForNghttp2(stream.id);
    const { provider } = nghttp2Thread();
    nghttp2_submit_data2(this.#pointer, NGHTTP2_FLAG_END_STREAM, stream.id, provider);
    this.mayHaveFrames = true;
  }

  #openForNghttp2(streamId: number): void {
    const length = putWindowUpdate(scratch.view, openingOffset, streamId, 1);
    nghttp2_session_mem_recv2(this.#pointer, scratch.address + openingOffset, length);
  }

  #submitTrailers(stream: OwnedStream, trailers: HeaderList): void {
    stream.isEndSent = true;
    stream.trailers = undefined;
    withHeaderBlock(trailers, (address, count) =>
      nghttp2_submit_trailer(this.#pointer, stream.id, address, count),
    );
    this.mayHaveFrames = true;
  }
}
