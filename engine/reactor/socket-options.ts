// Making sockets: families, options, binding. Everything here is one synchronous call, so that it can run inside
// another network namespace (netns.ts).
import {
  AF_INET,
  AF_INET6,
  F_DUPFD_CLOEXEC,
  IPV6_TRANSPARENT,
  IPV6_V6ONLY,
  IP_BIND_ADDRESS_NO_PORT,
  IP_TRANSPARENT,
  SOCK_CLOEXEC,
  SOCK_DGRAM,
  SOCK_NONBLOCK,
  SOCK_STREAM,
  SOL_IP,
  SOL_IPV6,
  SOL_SOCKET,
  SOL_TCP,
  SO_KEEPALIVE,
  SO_MARK,
  SO_REUSEADDR,
  SO_REUSEPORT,
  TCP_KEEPCNT,
  TCP_KEEPIDLE,
  TCP_KEEPINTVL,
  TCP_NODELAY,
  TCP_USER_TIMEOUT,
  bind,
  close,
  errno,
  fcntl,
  getsockname,
  listen,
  setsockopt,
  socket,
} from '../native/libc.ts';
import { reserve, scratch } from '../native/memory.ts';
import { runInNetns, type Netns } from './netns.ts';
import {
  familyOf,
  readSockaddr,
  resetSockaddrLength,
  sockaddr,
  sockaddrLength,
  writeSockaddr,
} from './socket-address.ts';
import { errnoError } from './stream-error.ts';

const valueOffset = reserve(8);

/** TCP keepalive (TCP_KEEPIDLE, TCP_KEEPINTVL, TCP_KEEPCNT). */
export interface Keepalive {
  readonly idleSec: number;
  readonly intervalSec: number;
  readonly probes: number;
}

/** A second descriptor of the same socket, for another owner. */
export function duplicateDescriptor(fd: number): number {
  const copy = fcntl(fd, F_DUPFD_CLOEXEC, 3);
  if (copy < 0) throw errnoError(errno(), 'dup');
  return copy;
}

/** Sets one integer option; false when the kernel refuses. */
export function setOption(fd: number, level: number, name: number, value: number): boolean {
  scratch.view.setInt32(valueOffset, value, true);
  return setsockopt(fd, level, name, scratch.address + valueOffset, 4) === 0;
}

/** Sets one integer option or throws. */
export function requireOption(fd: number, level: number, name: number, value: number): void {
  if (!setOption(fd, level, name, value)) throw errnoError(errno(), `setsockopt ${level}/${name}`);
}

/** Keepalive and user timeout; refusals are ignored, as they only cost detection time. */
export function setKeepalive(
  fd: number,
  keepalive: Keepalive | undefined,
  userTimeoutMs?: number,
): void {
  if (keepalive !== undefined) {
    setOption(fd, SOL_SOCKET, SO_KEEPALIVE, 1);
    setOption(fd, SOL_TCP, TCP_KEEPIDLE, keepalive.idleSec);
    setOption(fd, SOL_TCP, TCP_KEEPINTVL, keepalive.intervalSec);
    setOption(fd, SOL_TCP, TCP_KEEPCNT, keepalive.probes);
  }
  if (userTimeoutMs !== undefined) setOption(fd, SOL_TCP, TCP_USER_TIMEOUT, userTimeoutMs);
}

/** Sends small writes at once. */
export function setNodelay(fd: number): void {
  setOption(fd, SOL_TCP, TCP_NODELAY, 1);
}

/** Lets the socket use addresses that are not this host's. False without the right. */
export function setTransparent(fd: number, isV6: boolean): boolean {
  // The v4 option works on v6 sockets too, for mapped traffic.
  const v4 = setOption(fd, SOL_IP, IP_TRANSPARENT, 1);
  return isV6 ? setOption(fd, SOL_IPV6, IPV6_TRANSPARENT, 1) && v4 : v4;
}

/** Whether this process may use addresses that are not this host's. */
export function canBeTransparent(): boolean {
  return isAllowed((fd) => setTransparent(fd, false));
}

/** Whether this process may mark its packets. */
export function canMark(): boolean {
  return isAllowed((fd) => setOption(fd, SOL_SOCKET, SO_MARK, 1));
}

/** Tries an option on a socket of its own. */
function isAllowed(set: (fd: number) => boolean): boolean {
  const fd = newSocket('127.0.0.1', SOCK_STREAM);
  try {
    return set(fd);
  } finally {
    close(fd);
  }
}

/**
 * Binds the source of a socket about to connect: foreign addresses too. With port 0 the kernel chooses one on connect.
 * False without the right, or when the port is taken.
 */
export function bindSource(fd: number, address: string, port = 0): boolean {
  const isV6 = familyOf(address) === 6;
  // Transparent sockets may bind any address; IP_FREEBIND would add nothing.
  if (!setTransparent(fd, isV6)) return false;
  if (port === 0) setOption(fd, SOL_IP, IP_BIND_ADDRESS_NO_PORT, 1);
  else setOption(fd, SOL_SOCKET, SO_REUSEADDR, 1);
  return bind(fd, sockaddr, writeSockaddr(address, port)) === 0;
}

/** A listening or bound socket; `fd` belongs to the caller. */
export interface BoundSocket {
  readonly fd: number;
  readonly address: string;
  readonly port: number;
}

/** How to bind. */
export interface BindOptions {
  /** `::` is dual-stack unless `v6Only`. */
  readonly address: string;
  /** 0 lets the kernel choose. */
  readonly port: number;
  readonly netns?: Netns;
  readonly mark?: number | undefined;
  readonly transparent?: boolean;
  readonly reusePort?: boolean;
  readonly v6Only?: boolean;
  readonly backlog?: number;
  /** Of accepted sockets, which inherit it. */
  readonly keepalive?: Keepalive;
  readonly userTimeoutMs?: number;
}

/** Makes a TCP listener (non-blocking, close-on-exec), if asked in another network namespace. Throws StreamError. */
export function openTcpListener(options: BindOptions): BoundSocket {
  return runInNetns(options.netns, () => openBound(options, SOCK_STREAM));
}

/** Makes a bound UDP socket, e.g. for `dgram.Socket.bind({ fd })`. Throws StreamError. */
export function openUdpSocket(options: BindOptions): BoundSocket {
  return runInNetns(options.netns, () => openBound(options, SOCK_DGRAM));
}

function openBound(options: BindOptions, type: number): BoundSocket {
  const fd = newSocket(options.address, type);
  try {
    applyBindOptions(fd, options, type);
    if (bind(fd, sockaddr, writeSockaddr(options.address, options.port)) < 0) {
      throw errnoError(errno(), `bind ${options.address} port ${options.port}`);
    }
    if (type === SOCK_STREAM && listen(fd, options.backlog ?? 1024) < 0) {
      throw errnoError(errno(), `listen on ${options.address} port ${options.port}`);
    }
    resetSockaddrLength();
    if (getsockname(fd, sockaddr, sockaddrLength) < 0) throw errnoError(errno(), 'getsockname');
    return { fd, ...readSockaddr() };
  } catch (err) {
    close(fd);
    throw err;
  }
}

function applyBindOptions(fd: number, options: BindOptions, type: number): void {
  const isV6 = familyOf(options.address) === 6;
  if (isV6) requireOption(fd, SOL_IPV6, IPV6_V6ONLY, options.v6Only === true ? 1 : 0);
  if (options.reusePort === true) requireOption(fd, SOL_SOCKET, SO_REUSEPORT, 1);
  else if (type === SOCK_STREAM) setOption(fd, SOL_SOCKET, SO_REUSEADDR, 1);
  if (options.mark !== undefined) requireOption(fd, SOL_SOCKET, SO_MARK, options.mark);
  if (type === SOCK_STREAM) setKeepalive(fd, options.keepalive, options.userTimeoutMs);
  if (options.transparent === true && !setTransparent(fd, isV6)) {
    throw errnoError(errno(), 'set IP_TRANSPARENT');
  }
}

/** A new non-blocking, close-on-exec socket of the address's family. Throws StreamError. */
export function newSocket(address: string, type: number): number {
  const domain = familyOf(address) === 6 ? AF_INET6 : AF_INET;
  const fd = socket(domain, type | SOCK_NONBLOCK | SOCK_CLOEXEC, 0);
  if (fd < 0) throw errnoError(errno(), 'socket');
  return fd;
}
