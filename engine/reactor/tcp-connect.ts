// Dialling TCP from a reactor: in a pod's network namespace, marked, from a foreign source address if asked.
import {
  EADDRNOTAVAIL,
  EALREADY,
  EINPROGRESS,
  EINTR,
  EISCONN,
  SOCK_STREAM,
  SOL_SOCKET,
  SO_ERROR,
  SO_MARK,
  close,
  connect,
  errno,
  getsockopt,
} from '../native/libc.ts';
import { reserve, scratch } from '../native/memory.ts';
import { READY_FAILED, type FdHandler, type Reactor } from './reactor.ts';
import { runInNetns, type Netns } from './netns.ts';
import { sockaddr, writeSockaddr, type SocketAddress } from './socket-address.ts';
import {
  bindSource,
  newSocket,
  requireOption,
  setKeepalive,
  setNodelay,
  type Keepalive,
} from './socket-options.ts';
import { StreamError, errnoError } from './stream-error.ts';
import { TcpStream } from './tcp-stream.ts';
import type { ReactorTimer } from './timer-heap.ts';

const errorOffset = reserve(16);

/** Where and how to connect. */
export interface TcpConnectOptions {
  /** IP address; names are resolved elsewhere. */
  readonly address: string;
  readonly port: number;
  /** Default 10 s. */
  readonly timeoutMs?: number;
  readonly netns?: Netns;
  readonly mark?: number | undefined;
  /**
   * Source address to show, needs IP_TRANSPARENT. If it cannot be bound the connection goes out unbound and
   * `onSourceRefused` is told.
   */
  readonly sourceAddress?: string;
  /**
   * Take the source port from below the range that kernels choose from. Needed where a connection of the same client
   * to the same port may already be tracked in this network namespace: the two must not get one 4-tuple.
   */
  readonly isSourcePortLow?: boolean;
  readonly onSourceRefused?: () => void;
  readonly keepalive?: Keepalive;
  readonly userTimeoutMs?: number;
  readonly signal?: AbortSignal;
}

/**
 * Connects. Rejects with StreamError (`reason.code`: refused, timeout, unreachable, closed when aborted, io).
 * The stream is paused: set `handler`, then `resume()`.
 */
export function connectTcp(reactor: Reactor, options: TcpConnectOptions): Promise<TcpStream> {
  return new Promise((resolve, reject) => {
    if (options.signal?.aborted === true) {
      reject(new StreamError('closed', 'aborted'));
      return;
    }
    const fd = startTcpConnect(options);
    const code = askConnected(fd, options);
    if (code === 0) resolve(new TcpStream(reactor, fd, false, addressOf(options)));
    else if (code === EALREADY) new Connecting(reactor, fd, options, resolve, reject).start();
    else {
      close(fd);
      reject(errnoError(code, describe(options)));
    }
  });
}

/**
 * Starts a connect and leaves the descriptor to the caller: for quiet control sockets on Node's own loop
 * (`new net.Socket({ fd })`), which learns how it ended. Throws StreamError.
 */
export function startTcpConnect(options: TcpConnectOptions): number {
  return runInNetns(options.netns, () => openConnecting(options));
}
const LOW_PORT_MIN = 10_240;
const LOW_PORT_MAX = 32_767;
const LOW_PORT_TRIES = 8;

function openConnecting(options: TcpConnectOptions): number {
  const { sourceAddress } = options;
  if (sourceAddress !== undefined && options.isSourcePortLow === true) {
    for (let tries = 0; tries < LOW_PORT_TRIES; tries++) {
      const port = LOW_PORT_MIN + Math.floor(Math.random() * (LOW_PORT_MAX - LOW_PORT_MIN + 1));
      const fd = openFrom(options, port);
      if (fd !== undefined) return fd;
    }
  }
  const fd = openFrom(options, 0);
  if (fd === undefined) throw errnoError(EADDRNOTAVAIL, describe(options));
  return fd;
}

/** Undefined: with this source port the connection exists already. */
function openFrom(options: TcpConnectOptions, sourcePort: number): number | undefined {
  const fd = newSocket(options.address, SOCK_STREAM);
  try {
    if (options.mark !== undefined) requireOption(fd, SOL_SOCKET, SO_MARK, options.mark);
    setNodelay(fd);
    setKeepalive(fd, options.keepalive, options.userTimeoutMs);
    const { sourceAddress } = options;
    if (sourceAddress !== undefined && !bindSource(fd, sourceAddress, sourcePort)) {
      if (sourcePort !== 0) {
        close(fd);
        return undefined;
      }
      options.onSourceRefused?.();
    }
    for (;;) {
      if (connect(fd, sockaddr, writeSockaddr(options.address, options.port)) === 0) return fd;
      const code = errno();
      if (code === EINPROGRESS) return fd;
      if (code === EADDRNOTAVAIL) {
        close(fd);
        return undefined;
      }
      if (code !== EINTR) throw errnoError(code, describe(options));
    }
  } catch (err) {
    close(fd);
    throw err;
  }
}

/**
 * How far a connect has come: 0 is connected, EALREADY on its way, anything else how it failed. With an application of
 * this machine the kernel shakes hands within connect(2), but says only EINPROGRESS; the second call says more
 * and saves a turn.
 */
function askConnected(fd: number, { address, port }: TcpConnectOptions): number {
  if (connect(fd, sockaddr, writeSockaddr(address, port)) === 0) return 0;
  const code = errno();
  if (code === EISCONN) return 0;
  return code === EINTR ? EALREADY : code;
}

function addressOf({ address, port }: TcpConnectOptions): SocketAddress {
  return { address, port };
}

function describe(options: TcpConnectOptions): string {
  return `connect to ${options.address} port ${options.port}`;
}

class Connecting implements FdHandler {
  readonly #reactor: Reactor;
  readonly #fd: number;
  readonly #options: TcpConnectOptions;
  readonly #resolve: (stream: TcpStream) => void;
  readonly #reject: (err: StreamError) => void;
  #timer: ReactorTimer | undefined;
  #done = false;

  constructor(
    reactor: Reactor,
    fd: number,
    options: TcpConnectOptions,
    resolve: (stream: TcpStream) => void,
    reject: (err: StreamError) => void,
  ) {
    this.#reactor = reactor;
    this.#fd = fd;
    this.#options = options;
    this.#resolve = resolve;
    this.#reject = reject;
  }

  start(): void {
    this.#reactor.register(this.#fd, this);
    this.#timer = this.#reactor.after(this.#options.timeoutMs ?? 10_000, () =>
      this.#fail(new StreamError('timeout', `${describe(this.#options)}: timed out`)),
    );
    this.#options.signal?.addEventListener('abort', this.#onAbort);
  }

  readonly #onAbort = (): void => {
    this.#fail(new StreamError('closed', 'aborted'));
  };

  onReady(events: number): void {
    if (this.#done) return;
    const code = (events & READY_FAILED) === 0 ? 0 : this.#socketError();
    if (code !== 0) {
      this.#fail(errnoError(code, describe(this.#options)));
      return;
    }
    this.#finish();
    const stream = new TcpStream(this.#reactor, this.#fd, true, addressOf(this.#options));
    // Data and FIN may have come with the connection; no other edge tells.
    stream.onReady(events);
    this.#resolve(stream);
  }

  #socketError(): number {
    const { address, view } = scratch;
    view.setInt32(errorOffset + 8, 4, true);
    getsockopt(this.#fd, SOL_SOCKET, SO_ERROR, address + errorOffset, address + errorOffset + 8);
    return view.getInt32(errorOffset, true);
  }

  #fail(err: StreamError): void {
    if (this.#done) return;
    this.#finish();
    this.#reactor.closeFd(this.#fd);
    this.#reject(err);
  }

  #finish(): void {
    this.#done = true;
    this.#timer?.cancel();
    this.#options.signal?.removeEventListener('abort', this.#onAbort);
  }
}
