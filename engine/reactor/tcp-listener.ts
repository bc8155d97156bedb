// Accepting TCP connections on a reactor. One listening socket may be registered in the reactors of several
// threads (EPOLLEXCLUSIVE); each then accepts some of the connections.
import {
  EAGAIN,
  ECONNABORTED,
  EINTR,
  EMFILE,
  ENFILE,
  SOCK_CLOEXEC,
  SOCK_NONBLOCK,
  accept4,
  errno,
} from '../native/libc.ts';
import type { Reactor } from './reactor.ts';
import { readSockaddr, resetSockaddrLength, sockaddr, sockaddrLength } from './socket-address.ts';
import { setNodelay } from './socket-options.ts';
import { TcpStream, closeDescriptor } from './tcp-stream.ts';

const MAX_BURST = 64;
// Out of descriptors: level-triggered epoll would spin.
const PAUSE_MS = 100;

/** How to accept. */
export interface TcpListenerOptions {
  /** The socket is registered in other threads too. */
  readonly exclusive?: boolean;
  /** `close` closes the descriptor (default true). */
  readonly ownsFd?: boolean;
  /** At most so many connections in one turn (default 64): what other descriptors have to wait for. */
  readonly maxBurst?: number;
}

/** Accepts on a listening descriptor (`openTcpListener`) until closed. Accepted streams are paused. */
export class TcpListener {
  readonly fd: number;
  readonly #reactor: Reactor;
  readonly #options: TcpListenerOptions;
  readonly #onAccept: (stream: TcpStream) => void;
  #isRegistered = false;
  #burst = 1;
  #closed = false;

  constructor(
    reactor: Reactor,
    fd: number,
    onAccept: (stream: TcpStream) => void,
    options: TcpListenerOptions = {},
  ) {
    this.#reactor = reactor;
    this.fd = fd;
    this.#onAccept = onAccept;
    this.#options = options;
    // Accepted sockets inherit it.
    setNodelay(fd);
    this.resume();
  }

  /** Accepts nothing until `resume`; the kernel's backlog fills. */
  pause(): void {
    if (!this.#isRegistered) return;
    this.#isRegistered = false;
    this.#reactor.unregister(this.fd);
  }

  resume(): void {
    if (this.#isRegistered || this.#closed) return;
    this.#isRegistered = true;
    this.#reactor.registerListener(this.fd, this, this.#options.exclusive === true);
  }

  onReady(): void {
    // Level-triggered: what is not accepted now is announced again. Expecting no more connections than last time
    // saves the accept4 that finds none.
    const burst = this.#burst;
    for (let accepted = 0; accepted < burst; accepted++) {
      if (this.#closed || !this.#isRegistered || !this.#acceptOne()) {
        this.#burst = Math.max(1, accepted);
        if (accepted > 0) this.#goLast();
        return;
      }
    }
    this.#burst = Math.min(this.#options.maxBurst ?? MAX_BURST, burst * 2);
    this.#goLast();
  }

  /**
   * The kernel wakes the first of the sleeping threads that wait with EPOLLEXCLUSIVE, in the order they registered: the
   * same one again and again. Whoever has accepted registers anew and so goes to the end.
   */
  #goLast(): void {
    if (this.#options.exclusive !== true || !this.#isRegistered) return;
    this.pause();
    this.resume();
  }

  /** Accepts one connection; false when there is none. */
  #acceptOne(): boolean {
    resetSockaddrLength();
    const fd = accept4(this.fd, sockaddr, sockaddrLength, SOCK_NONBLOCK | SOCK_CLOEXEC);
    if (fd < 0) return this.#noteAcceptError(errno());
    const peer = readSockaddr();
    this.#onAccept(new TcpStream(this.#reactor, fd, false, peer));
    return true;
  }

  #noteAcceptError(code: number): boolean {
    if (code === ECONNABORTED || code === EINTR) return true;
    if (code === EAGAIN) return false;
    if (code === EMFILE || code === ENFILE) {
      this.pause();
      this.#reactor.after(PAUSE_MS, () => this.resume());
    }
    return false;
  }

  /**
   * Stops accepting for a successor on the same socket. The kernel may have told only this thread of connections that
   * wait; nobody else would hear of them, so they are accepted here.
   */
  closeForSuccessor(): void {
    this.pause();
    if (this.#options.exclusive === true) this.drainBacklog();
    this.close();
  }

  /** Accepts what is in the backlog now; before closing a socket that another process took over. */
  drainBacklog(): void {
    while (this.#acceptOne());
  }

  close(): void {
    if (this.#closed) return;
    this.pause();
    this.#closed = true;
    if (this.#options.ownsFd !== false) closeDescriptor(this.fd);
  }
}
