// The event loop of a data thread: epoll, timers, deferred calls, and work at the end of each turn. One a thread.
// A turn waits in epoll, dispatches, and flushes; promises run between turns. libuv (MessagePorts, timers of Node)
// has its turn when another thread woke the reactor, when nothing was ready, and every few milliseconds. While the
// reactor waits nothing of libuv runs in the thread: the wait is capped, and `wake` ends it.
import { performance } from 'node:perf_hooks';
import {
  EAGAIN,
  EFD_CLOEXEC,
  EFD_NONBLOCK,
  EINTR,
  EPOLLERR,
  EPOLLET,
  EPOLLEXCLUSIVE,
  EPOLLHUP,
  EPOLLIN,
  EPOLLOUT,
  EPOLLRDHUP,
  EPOLL_CTL_ADD,
  EPOLL_CTL_DEL,
  SOCK_CLOEXEC,
  close,
  epollCreate1,
  epollCtl,
  epollWait,
  errno,
  eventfd,
  read,
  write,
} from '../native/libc.ts';
import { reserve, scratch } from '../native/memory.ts';
import { drainMicrotasks } from '../native/microtasks.ts';
import { errnoError } from './stream-error.ts';
import { TimerHeap, type ReactorTimer } from './timer-heap.ts';

const MAX_EVENTS = 256;
// The kernel packs struct epoll_event on x86-64 only.
const EVENT_BYTES = process.arch === 'x64' ? 12 : 16;
const EVENT_DATA = process.arch === 'x64' ? 4 : 8;
const eventsOffset = reserve(MAX_EVENTS * EVENT_BYTES);
const eventOffset = reserve(16);
const counterOffset = reserve(8);
// A flush may mark other sessions (a tunnel inside a tunnel); more rounds than this wait for the next turn.
const FLUSH_ROUNDS = 8;
// A pass through libuv's loop costs as much as a small read: under load it is made this often, not every turn.
const LIBUV_EVERY_MS = 5;
// With a shorter wait than this libuv shares the thread, and has its turn after each of ours.
const OWN_THREAD_WAIT_MS = 10;

/** Receives readiness of one descriptor. Bits are EPOLLIN and so on; see the READY_ constants. */
export interface FdHandler {
  onReady(events: number): void;
}

export const READY_READ: number = EPOLLIN | EPOLLRDHUP | EPOLLHUP | EPOLLERR;
export const READY_WRITE: number = EPOLLOUT | EPOLLHUP | EPOLLERR;
export const READY_ENDED: number = EPOLLRDHUP | EPOLLHUP | EPOLLERR;
export const READY_ERROR: number = EPOLLERR;
export const READY_FAILED: number = EPOLLERR | EPOLLHUP;

/** Tuning of a reactor. */
export interface ReactorOptions {
  /** Longest wait in one turn. In worker threads 50 is right; where libuv shares the thread, use 1. */
  readonly maxWaitMs?: number;
  /** Gets what a handler threw. Default: thrown from a microtask, i.e. an uncaught exception. */
  readonly onError?: (err: unknown) => void;
}

interface Registration {
  readonly generation: number;
  handler: FdHandler;
}

/** One event loop. Create it in the thread that runs it, then `start()`. */
export class Reactor {
  readonly #epoll: number;
  readonly #wakeFd: number;
  readonly #maxWaitMs: number;
  readonly #onError: (err: unknown) => void;
  readonly #timers = new TimerHeap();
  // Indexed by descriptor. The generation is in the event too: an event of a descriptor that was closed and
  // reused within the same turn finds another generation and is dropped.
  readonly #registrations: (Registration | undefined)[] = [];
  #generation = 0;
  #deferred: (() => void)[] = [];
  #again: FdHandler[] = [];
  #dirty: (() => void)[] = [];
  #running = false;
  #closed = false;
  #turns = 0;
  /** The last turn found events, and none was a wake-up by another thread. */
  #isBusy = false;
  /** When the last turn's events were dispatched. */
  #turnMs = 0;

  constructor(options: ReactorOptions = {}) {
    this.#maxWaitMs = options.maxWaitMs ?? 50;
    this.#onError =
      options.onError ??
      ((err) =>
        queueMicrotask(() => {
          throw err;
        }));
    this.#epoll = epollCreate1(SOCK_CLOEXEC);
    if (this.#epoll < 0) throw errnoError(errno(), 'epoll_create');
    this.#wakeFd = eventfd(0, EFD_NONBLOCK | EFD_CLOEXEC);
    if (this.#wakeFd < 0) throw errnoError(errno(), 'eventfd');
    this.#control(EPOLL_CTL_ADD, this.#wakeFd, EPOLLIN, -1);
  }

  /** Milliseconds of the monotonic clock. */
  now(): number {
    return performance.now();
  }

  /** Descriptor for `wakeReactor` in another thread. */
  get wakeFd(): number {
    return this.#wakeFd;
  }

  /** Number of turns so far. */
  get turns(): number {
    return this.#turns;
  }

  /** Registered descriptors; for leak tests and admin. */
  get registered(): number {
    let count = 0;
    for (const entry of this.#registrations) if (entry !== undefined) count++;
    return count;
  }

  /** Pending timers; for leak tests. */
  get timers(): number {
    return this.#timers.size;
  }

  /** Runs until `close`. */
  start(): void {
    if (this.#running || this.#closed) return;
    this.#running = true;
    setImmediate(this.#next);
  }

  readonly #next = (): void => {
    if (this.#closed) return;
    const until = this.#maxWaitMs < OWN_THREAD_WAIT_MS ? 0 : this.now() + LIBUV_EVERY_MS;
    do this.turn();
    while (this.#isBusy && !this.isClosed && this.#turnMs < until && drainMicrotasks());
    if (!this.isClosed) setImmediate(this.#next);
  };

  /** Ends the loop and closes its own descriptors. Registered sockets stay open; close them first. */
  close(): void {
    if (this.#closed) return;
    this.#closed = true;
    this.#runDeferred();
    this.#timers.clear();
    close(this.#wakeFd);
    close(this.#epoll);
  }

  get isClosed(): boolean {
    return this.#closed;
  }

  /** One turn: wait (at most `maxWaitMs`, not at all while work is pending), dispatch, timers, flush. */
  turn(): void {
    this.#turns++;
    // What was left over or came from promises, before waiting: no turn with a zero wait just for that.
    this.#runAgain();
    this.#runDeferred();
    this.#flush();
    this.#runDeferred();
    const count = epollWait(
      this.#epoll,
      scratch.address + eventsOffset,
      MAX_EVENTS,
      this.#waitMs(),
    );
    if (count < 0) {
      const code = errno();
      if (code !== EINTR) throw errnoError(code, 'epoll_wait');
    }
    this.#isBusy = count > 0;
    for (let i = 0; i < count && !this.#closed; i++) this.#dispatch(i);
    this.#runTimers();
    this.#runDeferred();
    this.#flush();
    this.#runDeferred();
  }

  #waitMs(): number {
    if (this.#again.length > 0 || this.#dirty.length > 0 || this.#deferred.length > 0) return 0;
    const next = this.#timers.next();
    if (next === undefined) return this.#maxWaitMs;
    // Rounded up: waking before the deadline would spin.
    return Math.max(0, Math.min(this.#maxWaitMs, Math.ceil(next - this.now())));
  }

  #dispatch(index: number): void {
    const at = eventsOffset + index * EVENT_BYTES;
    const events = scratch.view.getUint32(at, true);
    const fd = scratch.view.getInt32(at + EVENT_DATA, true);
    if (fd < 0) {
      this.#isBusy = false;
      read(this.#wakeFd, scratch.address + counterOffset, 8);
      return;
    }
    const entry = this.#registrations[fd];
    if (entry?.generation !== scratch.view.getInt32(at + EVENT_DATA + 4, true)) return;
    this.#call(entry.handler, events);
  }

  #call(handler: FdHandler, events: number): void {
    try {
      handler.onReady(events);
    } catch (err) {
      this.#onError(err);
    }
  }

  #runAgain(): void {
    if (this.#again.length === 0) return;
    const list = this.#again;
    this.#again = [];
    for (const handler of list) this.#call(handler, 0);
  }

  #runTimers(): void {
    const now = this.now();
    this.#turnMs = now;
    for (let fn = this.#timers.takeDue(now); fn !== undefined; fn = this.#timers.takeDue(now)) {
      this.#guard(fn);
    }
  }

  #runDeferred(): void {
    while (this.#deferred.length > 0) {
      const list = this.#deferred;
      this.#deferred = [];
      for (const fn of list) this.#guard(fn);
    }
  }

  #flush(): void {
    for (let round = 0; this.#dirty.length > 0 && round < FLUSH_ROUNDS; round++) {
      const list = this.#dirty;
      this.#dirty = [];
      for (const fn of list) this.#guard(fn);
    }
  }

  #guard(fn: () => void): void {
    try {
      fn();
    } catch (err) {
      this.#onError(err);
    }
  }

  /** Calls `fn` once after `delayMs`; satisfies the project's `Clock.after`. */
  after(delayMs: number, fn: () => void): ReactorTimer {
    return this.#timers.add(this.now() + delayMs, fn);
  }

  /** Calls `fn` later in this turn, outside the caller's stack. */
  defer(fn: () => void): void {
    this.#deferred.push(fn);
  }

  /** Calls `handler.onReady(0)` in the next turn: it stopped for fairness with input left. */
  again(handler: FdHandler): void {
    this.#again.push(handler);
  }

  /** Calls `flush` once at the end of this turn. The caller keeps track of being marked already. */
  markDirty(flush: () => void): void {
    this.#dirty.push(flush);
  }

  /** Ends the current or next wait. For the reactor's own thread; other threads use `wakeReactor`. */
  wake(): void {
    wakeReactor(this.#wakeFd);
  }

  /** Registers both directions, edge-triggered. The descriptor must be non-blocking. */
  register(fd: number, handler: FdHandler): void {
    const generation = this.#add(fd, handler);
    this.#control(EPOLL_CTL_ADD, fd, EPOLLIN | EPOLLOUT | EPOLLRDHUP | (EPOLLET | 0), generation);
  }

  /** Registers a listener: readable, level-triggered; `exclusive` when other threads have it too. */
  registerListener(fd: number, handler: FdHandler, exclusive: boolean): void {
    const generation = this.#add(fd, handler);
    this.#control(EPOLL_CTL_ADD, fd, EPOLLIN | (exclusive ? EPOLLEXCLUSIVE : 0), generation);
  }

  /** Gives a registered descriptor to another handler; no readiness is lost, but none is repeated either. */
  replaceHandler(fd: number, handler: FdHandler): void {
    const entry = this.#registrations[fd];
    if (entry !== undefined) entry.handler = handler;
  }

  /** Forgets a descriptor that stays open. */
  unregister(fd: number): void {
    this.#registrations[fd] = undefined;
    epollCtl(this.#epoll, EPOLL_CTL_DEL, fd, 0);
  }

  /** Forgets and closes a descriptor. */
  closeFd(fd: number): void {
    this.#registrations[fd] = undefined;
    close(fd);
  }

  #add(fd: number, handler: FdHandler): number {
    const generation = (this.#generation + 1) & 0x3fffffff;
    this.#generation = generation;
    this.#registrations[fd] = { generation, handler };
    return generation;
  }

  #control(op: number, fd: number, events: number, generation: number): void {
    scratch.view.setUint32(eventOffset, events >>> 0, true);
    scratch.view.setInt32(eventOffset + EVENT_DATA, generation < 0 ? -1 : fd, true);
    scratch.view.setInt32(eventOffset + EVENT_DATA + 4, generation, true);
    if (epollCtl(this.#epoll, op, fd, scratch.address + eventOffset) < 0) {
      throw errnoError(errno(), 'epoll_ctl');
    }
  }
}

/**
 * Wakes the reactor of another thread: call it after every `postMessage` to that thread, and before exit.
 * `wakeFd` is `Reactor.wakeFd`, passed as a number.
 */
export function wakeReactor(wakeFd: number): void {
  scratch.view.setBigUint64(counterOffset, 1n, true);
  if (write(wakeFd, scratch.address + counterOffset, 8) < 0) {
    const code = errno();
    // EAGAIN: the counter is full, so the reactor is awake anyway.
    if (code !== EAGAIN) throw errnoError(code, 'write to eventfd');
  }
}
