// The sending half of a socket: what the kernel does not take is queued until epoll says there is room.
import { EAGAIN, EINTR, MSG_NOSIGNAL, errno, send } from '../native/libc.ts';
import { ByteQueue } from '../native/memory.ts';
import type { CloseReason } from '../reactor/duplex.ts';
import { reasonFromErrno } from '../reactor/stream-error.ts';

/** Sends from native memory to one descriptor. */
export class SocketWriter {
  readonly #fd: number;
  readonly #pending = new ByteQueue();
  /** False from a short send until epoll reports room. */
  isWritable = true;

  constructor(fd: number) {
    this.#fd = fd;
  }

  get pendingBytes(): number {
    return this.#pending.length;
  }

  /** Takes all bytes; a failure of the socket is returned. */
  send(address: number, length: number): CloseReason | undefined {
    let sent = 0;
    if (this.#pending.length === 0 && this.isWritable) {
      sent = this.#sendNow(address, length);
      if (sent < 0) return reasonFromErrno(-sent, 'write');
    }
    if (sent < length) this.#pending.push(address + sent, length - sent);
    return undefined;
  }

  /** Sends what waits, as far as there is room. */
  flush(): CloseReason | undefined {
    while (this.#pending.length > 0 && this.isWritable) {
      const sent = this.#sendNow(this.#pending.address, this.#pending.length);
      if (sent < 0) return reasonFromErrno(-sent, 'write');
      if (sent > 0) this.#pending.shift(sent);
    }
    return undefined;
  }

  /** Bytes sent, or a negative errno. */
  #sendNow(address: number, length: number): number {
    for (;;) {
      const sent = send(this.#fd, address, length, MSG_NOSIGNAL);
      if (sent >= 0) {
        if (sent < length) this.isWritable = false;
        return sent;
      }
      const code = errno();
      if (code === EINTR) continue;
      if (code !== EAGAIN) return -code;
      this.isWritable = false;
      return 0;
    }
  }

  clear(): void {
    this.#pending.clear();
  }
}
