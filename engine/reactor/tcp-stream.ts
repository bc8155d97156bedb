// A TCP connection on a reactor. Edge-triggered: `#readable` and `#writable` remember what epoll said and are
// cleared by a short read or write. What the kernel does not take is queued; `write` then answers false.
// `onClose` never comes from within a call made by the owner, so nobody is re-entered.
import {
  EAGAIN,
  EINTR,
  MSG_MORE,
  MSG_NOSIGNAL,
  SHUT_WR,
  SOL_SOCKET,
  SO_LINGER,
  SO_ERROR,
  SPLICE_F_MOVE,
  SPLICE_F_NONBLOCK,
  close,
  errno,
  getpeername,
  getsockname,
  getsockopt,
  readv,
  recv,
  send,
  sendmsg,
  setsockopt,
  shutdown,
  splice,
  writev,
} from '../native/libc.ts';
import {
  BLOCK_BYTES,
  ByteQueue,
  copyBytes,
  releaseBlock,
  reserve,
  scratch,
  setUint64,
  takeBlock,
} from '../native/memory.ts';
import { IGNORE_STREAM, type CloseReason, type Duplex, type DuplexHandler } from './duplex.ts';
import { readOriginalDst } from './original-dst.ts';
import { READY_ENDED, READY_ERROR, READY_READ, READY_WRITE, type Reactor } from './reactor.ts';
import {
  readSockaddr,
  resetSockaddrLength,
  sockaddr,
  sockaddrLength,
  type SocketAddress,
} from './socket-address.ts';
import { CLOSED_OK, reasonFromErrno } from './stream-error.ts';

// Reads of one stream in one turn; then others have their turn.
const READS_PER_TURN = 4;
/** Queued bytes above which `write` asks the caller to stop. */
const HIGH_WATER_BYTES = 64 * 1024;
/** One record of TLS, with the header of its frame. */
const EARLY_BYTES = 16_375;
const NO_BYTES = new Uint8Array(0);
const SPLICE_FLAGS = SPLICE_F_MOVE | SPLICE_F_NONBLOCK;
const lingerOffset = reserve(8);
// A struct msghdr of which only the pieces are ever set.
const messageOffset = reserve(56);
const MSG_IOV = 16;
const MSG_IOVLEN = 24;
const errorOffset = reserve(8);
const errorLengthOffset = reserve(8);

// An object of its own: it says that nobody has taken the stream yet.
const NO_HANDLER: DuplexHandler = { ...IGNORE_STREAM };

/** Takes over reading: told when there is something, it reads by `readInto`. See relay.ts. */
export interface ReadPuller {
  onReadable(): void;
}

/** `readInto` results besides a byte count. */
export const READ_END = 0;
export const READ_WAIT = -1;
export const READ_FAILED = -2;

/**
 * A connected TCP socket. A new one is paused and has no handler: set `handler`, then `resume()`.
 */
export class TcpStream implements Duplex {
  handler: DuplexHandler = NO_HANDLER;
  readonly reactor: Reactor;
  readonly fd: number;
  #readable: boolean;
  #writable = true;
  // FIN, RST or an error was announced: reads go on until they say so, short or not, for no new edge comes.
  #hasEnded = false;
  /** A FIN without an error was announced: everything before it lies in the receive queue. */
  #hasFin = false;
  #isAtEnd = false;
  #isPaused = true;
  #isQueued = false;
  #readEnded = false;
  #writeEnding = false;
  #finSent = false;
  #wantsDrain = false;
  #writeFailure: CloseReason | undefined;
  #closed = false;
  #puller: ReadPuller | undefined;
  readonly #pending = new ByteQueue();
  #peer: SocketAddress | undefined;
  #local: SocketAddress | undefined;

  /** Takes over a connected, non-blocking descriptor; `isRegistered` if the reactor has it already. */
  constructor(reactor: Reactor, fd: number, isRegistered = false, peer?: SocketAddress) {
    this.reactor = reactor;
    this.fd = fd;
    this.#peer = peer;
    // A new registration reports what is there already; an old one may have reported it to someone else.
    this.#readable = isRegistered;
    if (isRegistered) reactor.replaceHandler(fd, this);
    else reactor.register(fd, this);
  }

  get isClosed(): boolean {
    return this.#closed;
  }

  /** Remote address (unmapped). */
  get peer(): SocketAddress {
    if (this.#peer === undefined) {
      resetSockaddrLength();
      if (this.#closed || getpeername(this.fd, sockaddr, sockaddrLength) < 0) return NO_ADDRESS;
      this.#peer = readSockaddr();
    }
    return this.#peer;
  }

  /** Our address on this connection (unmapped). */
  get local(): SocketAddress {
    if (this.#local === undefined) {
      resetSockaddrLength();
      if (this.#closed || getsockname(this.fd, sockaddr, sockaddrLength) < 0) return NO_ADDRESS;
      this.#local = readSockaddr();
    }
    return this.#local;
  }

  /** Destination before a redirect; the local address under TPROXY or without one. */
  originalDst(): SocketAddress {
    return (this.#closed ? undefined : readOriginalDst(this.fd)) ?? this.local;
  }

  onReady(events: number): void {
    if (this.#closed) return;
    this.#isQueued = false;
    if ((events & READY_ENDED) !== 0) {
      this.#hasEnded = true;
      this.#hasFin = (events & READY_ERROR) === 0;
    }
    if ((events & READY_READ) !== 0) this.#readable = true;
    if ((events & READY_WRITE) !== 0) {
      this.#writable = true;
      if (this.#pending.length > 0 || this.#wantsDrain) this.#flushPending();
    }
    if ((events & READY_ERROR) !== 0 && this.#isPaused && this.handler !== NO_HANDLER) {
      this.#failBySocketError();
      return;
    }
    this.#pump();
  }

  #pump(): void {
    if (!this.canReadNow()) return;
    if (this.#puller !== undefined) {
      this.#puller.onReadable();
      return;
    }
    for (let reads = 0; reads < READS_PER_TURN; reads++) {
      this.#readOnce();
      if (!this.canReadNow()) return;
    }
    this.readLater();
  }

  /** Goes on reading in the next turn. */
  readLater(): void {
    if (this.#isQueued || this.#closed) return;
    this.#isQueued = true;
    this.reactor.again(this);
  }

  #readOnce(): void {
    const block = takeBlock();
    try {
      const length = recv(this.fd, block.address, BLOCK_BYTES, 0);
      const result = this.#noteRead(length, BLOCK_BYTES);
      if (result > 0) this.handler.onData(block.address, result);
      // Paused streams do not end: the next read finds the FIN again.
      if (result === READ_END || (this.isAtEnd && !this.#isPaused)) this.finishRead();
    } finally {
      releaseBlock();
    }
  }

  /** Turns the result of a read into bytes, READ_END, READ_WAIT or READ_FAILED. errno must be untouched. */
  #noteRead(length: number, room: number): number {
    if (length > 0) {
      if (length < room) {
        if (!this.#hasEnded) this.#readable = false;
        // Less than asked for with the FIN there already: these were the last bytes.
        else if (this.#hasFin && this.#writeFailure === undefined) this.#isAtEnd = true;
      }
      return length;
    }
    const code = length === 0 ? 0 : errno();
    if (code === EINTR) return READ_WAIT;
    this.#readable = false;
    if (this.#writeFailure !== undefined) {
      this.#close(this.#writeFailure);
      return READ_FAILED;
    }
    if (length === 0) return READ_END;
    if (code === EAGAIN) return READ_WAIT;
    this.#close(reasonFromErrno(code, 'read'));
    return READ_FAILED;
  }

  /** Hands reading over to `puller`, or back with undefined. */
  setPuller(puller: ReadPuller | undefined): void {
    this.#puller = puller;
  }

  /** There may be something to read now. */
  canReadNow(): boolean {
    return this.#readable && !this.#closed && !this.#readEnded && !this.#isPaused;
  }

  /** For pullers: readv(2) into `iov`; bytes, READ_END (then call `finishRead`), READ_WAIT or READ_FAILED. */
  readInto(iov: number, count: number, room: number): number {
    if (this.#closed) return READ_FAILED;
    return this.#noteRead(readv(this.fd, iov, count), room);
  }

  /**
   * For pullers: moves what has come into an empty pipe (splice(2)); results as of `readInto`. A short result says
   * nothing about what is left.
   */
  spliceInto(pipe: number, length: number): number {
    if (this.#closed) return READ_FAILED;
    return this.#noteRead(splice(this.fd, pipe, length, SPLICE_FLAGS), 0);
  }

  /** The bytes read last were the last ones: call `finishRead`. */
  get isAtEnd(): boolean {
    return this.#isAtEnd && !this.#closed && !this.#readEnded;
  }

  /** The peer's FIN has been read: tells the handler, closes if both directions are done. */
  finishRead(): void {
    this.#readEnded = true;
    this.handler.onEnd();
    this.#closeIfDone();
  }

  /**
   * For an owner that has not begun to read: a copy of what lies in the socket now, 16 KiB at most. The end is left for
   * the one that reads.
   */
  readEarly(): Uint8Array {
    if (this.#closed) return NO_BYTES;
    const block = takeBlock();
    try {
      const length = this.#noteRead(recv(this.fd, block.address, EARLY_BYTES, 0), EARLY_BYTES);
      if (length === READ_END) this.#readable = true;
      return length > 0 ? copyBytes(block.address, length) : NO_BYTES;
    } finally {
      releaseBlock();
    }
  }

  pause(): void {
    this.#isPaused = true;
  }

  resume(): void {
    if (!this.#isPaused || this.#closed) return;
    this.#isPaused = false;
    if (this.#readable && !this.#readEnded) this.readLater();
  }

  write(address: number, length: number): boolean {
    if (this.#closed || this.#writeEnding || length === 0) return !this.#wantsDrain;
    let sent = 0;
    if (this.#pending.length === 0 && this.#writable) {
      sent = this.#send(address, length);
      if (sent < 0) return false;
    }
    if (sent < length) this.#pending.push(address + sent, length - sent);
    return this.#afterWrite();
  }

  writeBytes(bytes: Uint8Array): boolean {
    if (this.#closed || this.#writeEnding || bytes.length === 0) return !this.#wantsDrain;
    this.#pending.pushBytes(bytes);
    if (this.#writable) this.#flushPending();
    return this.#afterWrite();
  }

  /**
   * Gathered write: as `write` for the `count` pieces of a struct iovec array, `total` bytes in all. With `isLast` the
   * kernel holds them back for `end`, which must follow: the bytes and the FIN leave in one segment.
   */
  writeGathered(iov: number, count: number, total: number, isLast = false): boolean {
    if (this.#closed || this.#writeEnding) return !this.#wantsDrain;
    let sent = 0;
    if (this.#pending.length === 0 && this.#writable) {
      sent = isLast ? sendPieces(this.fd, iov, count, MSG_MORE) : writev(this.fd, iov, count);
      if (sent < 0) sent = this.#noteSendError();
      if (sent < 0) return false;
      if (sent < total) this.#writable = false;
    }
    if (sent < total) pushRest(this.#pending, iov, count, sent);
    return this.#afterWrite();
  }

  /**
   * Sends up to `length` bytes out of a pipe. Bytes taken; 0 when there is no room (`onDrain` follows) or nobody to send
   * to.
   */
  spliceFrom(pipe: number, length: number): number {
    if (this.#closed || this.#writeEnding) return 0;
    if (this.#pending.length === 0 && this.#writable) {
      const sent = splice(pipe, this.fd, length, SPLICE_FLAGS);
      if (sent > 0) return sent;
      if (this.#noteSendError() < 0) return 0;
    }
    this.#wantsDrain = true;
    return 0;
  }

  #afterWrite(): boolean {
    if (this.#pending.length > HIGH_WATER_BYTES) this.#wantsDrain = true;
    return !this.#wantsDrain;
  }

  /** Bytes the kernel took, 0 when it is full, -1 when the connection failed. */
  #send(address: number, length: number): number {
    const sent = send(this.fd, address, length, MSG_NOSIGNAL);
    if (sent < 0) return this.#noteSendError();
    if (sent < length) this.#writable = false;
    return sent;
  }

  #noteSendError(): number {
    const code = errno();
    // Non-blocking calls are not interrupted in practice; if one is, the next edge or turn retries.
    if (code === EAGAIN || code === EINTR) {
      this.#writable = false;
      return 0;
    }
    this.#failWrite(reasonFromErrno(code, 'write'));
    return -1;
  }

  // What the peer sent before its RST can still be read: an early answer to an upload, say. The next read that
  // finds nothing closes the stream.
  #failWrite(reason: CloseReason): void {
    if (this.#isPaused || this.#readEnded) {
      this.#close(reason);
      return;
    }
    this.#writeFailure = reason;
    this.#writeEnding = true;
    this.#wantsDrain = true;
    this.#pending.clear();
    this.#hasEnded = true;
    this.#readable = true;
    this.readLater();
  }

  #flushPending(): void {
    while (this.#pending.length > 0 && this.#writable) {
      const sent = this.#send(this.#pending.address, this.#pending.length);
      if (sent <= 0) return;
      this.#pending.shift(sent);
    }
    if (this.#pending.length > 0 || this.#writeFailure !== undefined) return;
    if (this.#writeEnding) this.#sendFin();
    if (this.#wantsDrain && !this.#closed) {
      this.#wantsDrain = false;
      this.handler.onDrain();
    }
  }

  /** Bytes waiting for the kernel. */
  get pendingBytes(): number {
    return this.#pending.length;
  }

  end(): void {
    if (this.#writeEnding || this.#closed) return;
    this.#writeEnding = true;
    if (this.#pending.length === 0) this.#sendFin();
  }

  #sendFin(): void {
    if (this.#finSent) return;
    this.#finSent = true;
    shutdown(this.fd, SHUT_WR);
    this.#closeIfDone();
  }

  #closeIfDone(): void {
    if (this.#finSent && this.#readEnded) this.#close(CLOSED_OK);
  }

  reset(): void {
    if (this.#closed) return;
    scratch.view.setInt32(lingerOffset, 1, true);
    scratch.view.setInt32(lingerOffset + 4, 0, true);
    setsockopt(this.fd, SOL_SOCKET, SO_LINGER, scratch.address + lingerOffset, 8);
    this.#close({ code: 'closed', detail: 'closed by us' });
  }

  /**
   * Gives up the descriptor, still registered, to another owner (TLS). The new owner takes over readiness with
   * `wasReadable` and calls `reactor.replaceHandler`. No `onClose` follows.
   */
  detach(): { fd: number; hasEnded: boolean } {
    this.#closed = true;
    this.#pending.clear();
    return { fd: this.fd, hasEnded: this.#hasEnded };
  }

  /** For pullers that cannot read now: ends the stream if it was reset, what it still holds is lost. */
  failIfBroken(): void {
    if (this.#hasEnded && !this.#closed) this.#failBySocketError();
  }

  #failBySocketError(): void {
    scratch.view.setInt32(errorLengthOffset, 4, true);
    const { address } = scratch;
    getsockopt(this.fd, SOL_SOCKET, SO_ERROR, address + errorOffset, address + errorLengthOffset);
    const code = scratch.view.getInt32(errorOffset, true);
    if (code !== 0) this.#close(reasonFromErrno(code, 'connection'));
  }

  #close(reason: CloseReason): void {
    if (this.#closed) return;
    this.#closed = true;
    this.#pending.clear();
    this.reactor.closeFd(this.fd);
    this.reactor.defer(() => this.handler.onClose(reason));
  }
}

function sendPieces(fd: number, iov: number, count: number, flags: number): number {
  setUint64(scratch.view, messageOffset + MSG_IOV, iov);
  setUint64(scratch.view, messageOffset + MSG_IOVLEN, count);
  return sendmsg(fd, scratch.address + messageOffset, flags | MSG_NOSIGNAL);
}

const NO_ADDRESS: SocketAddress = { address: '', port: 0 };

function pushRest(queue: ByteQueue, iov: number, count: number, skip: number): void {
  let toSkip = skip;
  for (let i = 0; i < count; i++) {
    const at = iov - scratch.address + i * 16;
    const address = Number(scratch.view.getBigUint64(at, true));
    const length = Number(scratch.view.getBigUint64(at + 8, true));
    if (toSkip >= length) {
      toSkip -= length;
      continue;
    }
    queue.push(address + toSkip, length - toSkip);
    toSkip = 0;
  }
}

/** Closes a descriptor that never became a stream. */
export function closeDescriptor(fd: number): void {
  close(fd);
}
