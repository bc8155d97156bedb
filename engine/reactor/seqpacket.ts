// Unix SEQPACKET sockets with descriptors (SCM_RIGHTS), as ZDS needs them. They work in any thread that runs
// Node's own loop; they do not need a reactor. Messages are small and lock-step: sends are synchronous, and
// waiting is one poll(2) at a time on libuv's pool, short enough never to hold up the exit of the process.
import { chmodSync, lstatSync, unlinkSync } from 'node:fs';
import {
  AF_UNIX,
  EAGAIN,
  EINTR,
  MSG_CMSG_CLOEXEC,
  MSG_CTRUNC,
  MSG_NOSIGNAL,
  MSG_TRUNC,
  SCM_RIGHTS,
  SOCK_CLOEXEC,
  SOCK_NONBLOCK,
  SOCK_SEQPACKET,
  SOL_SOCKET,
  accept4,
  bind,
  close,
  connect,
  errno,
  listen,
  recvmsg,
  sendmsg,
  shutdown,
  socket,
  socketpair,
} from '../native/libc.ts';
import { SHUT_RDWR } from '../native/libc.ts';
import { reserve, scratch } from '../native/memory.ts';
import { waitReadable, type ReadWait } from './fd-poller.ts';
import { StreamError, errnoError } from './stream-error.ts';

/** Longest message; ZDS messages are far smaller. */
export const MAX_SEQPACKET_BYTES = 16 * 1024;
/** As many as one message can carry (SCM_MAX_FD of the kernel): one with too many for its receiver is read whole. */
const MAX_FDS = 253;
const CMSG_HEADER = 16;
const PATH_OFFSET = 2;
const MAX_PATH = 107;

const messageOffset = reserve(56);
const iovOffset = reserve(16);
const controlBytes = CMSG_HEADER + MAX_FDS * 4;
const controlOffset = reserve(controlBytes);
const dataOffset = reserve(MAX_SEQPACKET_BYTES);
const addressOffset = reserve(112);

/** One message; the receiver owns the descriptors and closes them. */
export interface SeqpacketMessage {
  readonly data: Buffer;
  readonly fds: readonly number[];
}

/** A connected SEQPACKET socket. */
export class SeqpacketSocket {
  readonly #fd: number;
  #wait: ReadWait | undefined;
  #closed = false;

  /** Takes over a connected, non-blocking descriptor. */
  constructor(fd: number) {
    this.#fd = fd;
  }

  get isClosed(): boolean {
    return this.#closed;
  }

  /** Sends one message; the descriptors stay the caller's. Throws StreamError. */
  send(data: Uint8Array, fds: readonly number[] = []): void {
    if (this.#closed) throw new StreamError('closed', 'seqpacket socket is closed');
    if (data.length > MAX_SEQPACKET_BYTES || fds.length > MAX_FDS) {
      throw new StreamError('limit', 'seqpacket message too large');
    }
    scratch.bytes.set(data, dataOffset);
    writeMessage(data.length, fds.length === 0 ? 0 : CMSG_HEADER + fds.length * 4);
    if (fds.length > 0) writeRights(fds);
    for (;;) {
      if (sendmsg(this.#fd, scratch.address + messageOffset, MSG_NOSIGNAL) >= 0) return;
      const code = errno();
      if (code !== EINTR) throw errnoError(code, 'seqpacket send');
    }
  }

  /** The next message, or undefined when the peer has closed. One call at a time. */
  async receive(): Promise<SeqpacketMessage | undefined> {
    for (;;) {
      if (this.#closed) return undefined;
      const message = this.#receiveNow();
      if (message !== 'wait') return message;
      this.#wait = waitReadable(this.#fd);
      await this.#wait.ready;
      this.#wait = undefined;
    }
  }

  #receiveNow(): SeqpacketMessage | undefined | 'wait' {
    writeMessage(MAX_SEQPACKET_BYTES, controlBytes);
    const length = recvmsg(this.#fd, scratch.address + messageOffset, MSG_CMSG_CLOEXEC);
    if (length < 0) {
      const code = errno();
      if (code === EAGAIN || code === EINTR) return 'wait';
      throw errnoError(code, 'seqpacket receive');
    }
    const fds = readRights();
    const flags = scratch.view.getInt32(messageOffset + 48, true);
    if ((flags & (MSG_TRUNC | MSG_CTRUNC)) !== 0) {
      for (const fd of fds) close(fd);
      throw new StreamError('limit', 'seqpacket message too large');
    }
    if (length === 0) {
      for (const fd of fds) close(fd);
      return undefined;
    }
    const data = Buffer.from(scratch.bytes.subarray(dataOffset, dataOffset + length));
    return { data, fds };
  }

  /** Ends the connection; a pending `receive` resolves to undefined. */
  close(): void {
    if (this.#closed) return;
    this.#closed = true;
    shutdown(this.#fd, SHUT_RDWR);
    closeAfter(this.#fd, this.#wait);
  }
}

/** Two connected sockets: one to use here, a descriptor to hand to a child process (and to close after that). */
export function seqpacketPair(): { readonly socket: SeqpacketSocket; readonly peerFd: number } {
  const type = SOCK_SEQPACKET | SOCK_NONBLOCK | SOCK_CLOEXEC;
  if (socketpair(AF_UNIX, type, 0, scratch.address + addressOffset) < 0) {
    throw errnoError(errno(), 'seqpacket pair');
  }
  const fd = scratch.view.getInt32(addressOffset, true);
  const peerFd = scratch.view.getInt32(addressOffset + 4, true);
  return { socket: new SeqpacketSocket(fd), peerFd };
}

/** Connects to a listening SEQPACKET socket. Throws StreamError. */
export function connectSeqpacket(path: string): SeqpacketSocket {
  const fd = openSocket();
  if (connect(fd, scratch.address + addressOffset, writePath(path)) < 0) {
    const code = errno();
    close(fd);
    throw errnoError(code, `connect to ${path}`);
  }
  return new SeqpacketSocket(fd);
}

/** A listening SEQPACKET socket. */
export class SeqpacketServer {
  readonly path: string;
  readonly #fd: number;
  #wait: ReadWait | undefined;
  #closed = false;

  private constructor(fd: number, path: string) {
    this.#fd = fd;
    this.path = path;
  }

  /** Listens at `path`; a socket left there by an earlier process is removed first. */
  static listen(path: string, mode = 0o600): SeqpacketServer {
    if (lstatSync(path, { throwIfNoEntry: false })?.isSocket()) unlinkSync(path);
    const fd = openSocket();
    if (bind(fd, scratch.address + addressOffset, writePath(path)) < 0 || listen(fd, 16) < 0) {
      const code = errno();
      close(fd);
      throw errnoError(code, `listen on ${path}`);
    }
    chmodSync(path, mode);
    return new SeqpacketServer(fd, path);
  }

  /** The next connection, or undefined once closed. One call at a time. */
  async accept(): Promise<SeqpacketSocket | undefined> {
    while (!this.#closed) {
      const fd = accept4(this.#fd, 0, 0, SOCK_NONBLOCK | SOCK_CLOEXEC);
      if (fd >= 0) return new SeqpacketSocket(fd);
      const code = errno();
      if (code !== EAGAIN && code !== EINTR) throw errnoError(code, 'seqpacket accept');
      this.#wait = waitReadable(this.#fd);
      await this.#wait.ready;
      this.#wait = undefined;
    }
    return undefined;
  }

  /** Stops listening and removes the path; a pending `accept` resolves to undefined. */
  close(): void {
    if (this.#closed) return;
    this.#closed = true;
    shutdown(this.#fd, SHUT_RDWR);
    closeAfter(this.#fd, this.#wait);
    try {
      unlinkSync(this.path);
    } catch {
      // Removed by someone else: what we wanted.
    }
  }
}

// A descriptor in a running poll(2) must not be reused by another socket before the poll has ended.
function closeAfter(fd: number, wait: ReadWait | undefined): void {
  if (wait === undefined) {
    close(fd);
    return;
  }
  wait.cancel();
  void wait.idle.then(() => close(fd));
}

function openSocket(): number {
  const fd = socket(AF_UNIX, SOCK_SEQPACKET | SOCK_NONBLOCK | SOCK_CLOEXEC, 0);
  if (fd < 0) throw errnoError(errno(), 'seqpacket socket');
  return fd;
}

function writePath(path: string): number {
  const bytes = Buffer.from(path);
  if (bytes.length > MAX_PATH) throw new StreamError('limit', `socket path too long: ${path}`);
  scratch.view.setUint16(addressOffset, AF_UNIX, true);
  scratch.bytes.fill(0, addressOffset + PATH_OFFSET, addressOffset + 112);
  scratch.bytes.set(bytes, addressOffset + PATH_OFFSET);
  return PATH_OFFSET + bytes.length + 1;
}

// struct msghdr of LP64: name, namelen, iov, iovlen, control, controllen, flags.
function writeMessage(dataLength: number, controlLength: number): void {
  const { view, address } = scratch;
  view.setBigUint64(iovOffset, BigInt(address + dataOffset), true);
  view.setBigUint64(iovOffset + 8, BigInt(dataLength), true);
  view.setBigUint64(messageOffset, 0n, true);
  view.setBigUint64(messageOffset + 8, 0n, true);
  view.setBigUint64(messageOffset + 16, BigInt(address + iovOffset), true);
  view.setBigUint64(messageOffset + 24, 1n, true);
  view.setBigUint64(
    messageOffset + 32,
    controlLength === 0 ? 0n : BigInt(address + controlOffset),
    true,
  );
  view.setBigUint64(messageOffset + 40, BigInt(controlLength), true);
  view.setBigUint64(messageOffset + 48, 0n, true);
}

function writeRights(fds: readonly number[]): void {
  const { view } = scratch;
  view.setBigUint64(controlOffset, BigInt(CMSG_HEADER + fds.length * 4), true);
  view.setInt32(controlOffset + 8, SOL_SOCKET, true);
  view.setInt32(controlOffset + 12, SCM_RIGHTS, true);
  fds.forEach((fd, i) => view.setInt32(controlOffset + CMSG_HEADER + i * 4, fd, true));
}

function readRights(): number[] {
  const { view } = scratch;
  const available = Number(view.getBigUint64(messageOffset + 40, true));
  if (available < CMSG_HEADER) return [];
  const length = Math.min(Number(view.getBigUint64(controlOffset, true)), available);
  const isRights =
    view.getInt32(controlOffset + 8, true) === SOL_SOCKET &&
    view.getInt32(controlOffset + 12, true) === SCM_RIGHTS;
  if (!isRights) return [];
  const fds: number[] = [];
  for (let at = CMSG_HEADER; at + 4 <= length; at += 4) {
    fds.push(view.getInt32(controlOffset + at, true));
  }
  return fds;
}
