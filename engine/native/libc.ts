// libc by FFI: the system calls the reactor makes. Only numbers cross: pointers are addresses (safe integers),
// buffers live in native memory (memory.ts). Every function returns what C returns; read `errno()` directly
// after the call, before any other one.
import koffi from 'koffi';

const lib = koffi.load(null);

type Address = number;

/** errno of the last call in this thread. */
export const errno: () => number = () => koffi.errno();

export const malloc: (size: number) => Address = lib.func('malloc', 'uintptr_t', ['size_t']);
export const realloc: (address: Address, size: number) => Address = lib.func(
  'realloc',
  'uintptr_t',
  ['uintptr_t', 'size_t'],
);
export const free: (address: Address) => void = lib.func('free', 'void', ['uintptr_t']);
export const memcpy: (to: Address, from: Address, length: number) => void = lib.func(
  'memcpy',
  'void',
  ['uintptr_t', 'uintptr_t', 'size_t'],
);
export const memmove: (to: Address, from: Address, length: number) => void = lib.func(
  'memmove',
  'void',
  ['uintptr_t', 'uintptr_t', 'size_t'],
);

const PROT_READ_WRITE = 3;
const MAP_PRIVATE_ANONYMOUS = 0x22;
const MAP_32BIT = 0x40;
const mmap: (
  address: 0,
  length: number,
  protection: number,
  ...rest: [flags: number, fd: number, offset: 0]
) => number = lib.func('mmap', 'uintptr_t', [
  'uintptr_t',
  'size_t',
  'int',
  'int',
  'int',
  'int64_t',
]);

/**
 * Zeroed pages for the life of the process, below 2 GiB where the processor's mmap(2) can do that (x86-64): such an
 * address is a small integer in JavaScript, and crosses to C without a number on the heap. 0 where it cannot.
 */
export function mapLowMemory(length: number): Address {
  if (process.arch !== 'x64') return 0;
  const address = mmap(0, length, PROT_READ_WRITE, MAP_PRIVATE_ANONYMOUS | MAP_32BIT, -1, 0);
  return address + length < 0x8000_0000 ? address : 0;
}

const M_TRIM_THRESHOLD = -1;
const M_MMAP_THRESHOLD = -3;
const LARGE_BYTES = 256 * 1024;
const KEPT_BYTES = 1024 * 1024;

/**
 * Lets glibc take memory of more than 256 KiB as pages of its own, for the whole process: what a slow reader held is given
 * back when it is freed, and grows without being copied. Left alone, glibc puts such pieces among the small ones once it
 * has seen one freed, and they lie there between what is still in use (mallopt(3), `M_MMAP_THRESHOLD`). Other libcs keep
 * their ways.
 */
export function giveBackLargeMemory(): void {
  try {
    const mallopt: (parameter: number, value: number) => number = lib.func('mallopt', 'int', [
      'int',
      'int',
    ]);
    mallopt(M_MMAP_THRESHOLD, LARGE_BYTES);
    mallopt(M_TRIM_THRESHOLD, KEPT_BYTES);
  } catch {
    // musl has no such function, and no such habit.
  }
}

export const MADV_DONTNEED = 4;
export const madvise: (address: Address, length: number, advice: number) => number = lib.func(
  'madvise',
  'int',
  ['uintptr_t', 'size_t', 'int'],
);

export const close: (fd: number) => number = lib.func('close', 'int', ['int']);
export const dup3: (from: number, to: number, flags: number) => number = lib.func('dup3', 'int', [
  'int',
  'int',
  'int',
]);
export const fcntl: (fd: number, command: number, value: number) => number = lib.func(
  'fcntl',
  'int',
  ['int', 'int', 'int'],
);
export const setns: (fd: number, type: number) => number = lib.func('setns', 'int', ['int', 'int']);
/** The index of an interface of the thread's network namespace; 0 when there is none. */
export const ifNameToIndex: (name: string) => number = lib.func('if_nametoindex', 'uint32_t', [
  'str',
]);
export const gettid: () => number = lib.func('gettid', 'int', []);

export const epollCreate1: (flags: number) => number = lib.func('epoll_create1', 'int', ['int']);
export const epollCtl: (epoll: number, op: number, fd: number, event: Address) => number = lib.func(
  'epoll_ctl',
  'int',
  ['int', 'int', 'int', 'uintptr_t'],
);
export const epollWait: (
  epoll: number,
  events: Address,
  maxEvents: number,
  timeoutMs: number,
) => number = lib.func('epoll_wait', 'int', ['int', 'uintptr_t', 'int', 'int']);
export const eventfd: (initial: number, flags: number) => number = lib.func('eventfd', 'int', [
  'uint32_t',
  'int',
]);
const pollFunction = lib.func('poll', 'int', ['uintptr_t', 'uint64_t', 'int']);
/** poll(2) on a thread of libuv's pool; the memory must stay alive until `done`. */
export function pollAsync(
  fds: Address,
  count: number,
  timeoutMs: number,
  done: (ready: number) => void,
): void {
  pollFunction.async(fds, count, timeoutMs, (_err: unknown, ready: number) => done(ready));
}

export const socket: (domain: number, type: number, protocol: number) => number = lib.func(
  'socket',
  'int',
  ['int', 'int', 'int'],
);
export const socketpair: (domain: number, type: number, protocol: number, fds: Address) => number =
  lib.func('socketpair', 'int', ['int', 'int', 'int', 'uintptr_t']);
export const bind: (fd: number, sockaddr: Address, length: number) => number = lib.func(
  'bind',
  'int',
  ['int', 'uintptr_t', 'uint32_t'],
);
export const listen: (fd: number, backlog: number) => number = lib.func('listen', 'int', [
  'int',
  'int',
]);
export const connect: (fd: number, sockaddr: Address, length: number) => number = lib.func(
  'connect',
  'int',
  ['int', 'uintptr_t', 'uint32_t'],
);
export const accept4: (fd: number, sockaddr: Address, length: Address, flags: number) => number =
  lib.func('accept4', 'int', ['int', 'uintptr_t', 'uintptr_t', 'int']);
export const getsockname: (fd: number, sockaddr: Address, length: Address) => number = lib.func(
  'getsockname',
  'int',
  ['int', 'uintptr_t', 'uintptr_t'],
);
export const getpeername: (fd: number, sockaddr: Address, length: Address) => number = lib.func(
  'getpeername',
  'int',
  ['int', 'uintptr_t', 'uintptr_t'],
);
export const setsockopt: (
  fd: number,
  level: number,
  name: number,
  value: Address,
  length: number,
) => number = lib.func('setsockopt', 'int', ['int', 'int', 'int', 'uintptr_t', 'uint32_t']);
export const getsockopt: (
  fd: number,
  level: number,
  name: number,
  value: Address,
  length: Address,
) => number = lib.func('getsockopt', 'int', ['int', 'int', 'int', 'uintptr_t', 'uintptr_t']);
export const shutdown: (fd: number, how: number) => number = lib.func('shutdown', 'int', [
  'int',
  'int',
]);

export const recv: (fd: number, to: Address, length: number, flags: number) => number = lib.func(
  'recv',
  'int',
  ['int', 'uintptr_t', 'size_t', 'int'],
);
export const send: (fd: number, from: Address, length: number, flags: number) => number = lib.func(
  'send',
  'int',
  ['int', 'uintptr_t', 'size_t', 'int'],
);
export const read: (fd: number, to: Address, length: number) => number = lib.func('read', 'int', [
  'int',
  'uintptr_t',
  'size_t',
]);
export const write: (fd: number, from: Address, length: number) => number = lib.func(
  'write',
  'int',
  ['int', 'uintptr_t', 'size_t'],
);
export const readv: (fd: number, iov: Address, count: number) => number = lib.func('readv', 'int', [
  'int',
  'uintptr_t',
  'int',
]);
export const writev: (fd: number, iov: Address, count: number) => number = lib.func(
  'writev',
  'int',
  ['int', 'uintptr_t', 'int'],
);
export const pipe2: (fds: Address, flags: number) => number = lib.func('pipe2', 'int', [
  'uintptr_t',
  'int',
]);
const spliceFunction = lib.func('splice', 'int64_t', [
  'int',
  'uintptr_t',
  'int',
  'uintptr_t',
  'size_t',
  'uint32_t',
]);
/** splice(2) without offsets: one end is a pipe. */
export function splice(from: number, to: number, length: number, flags: number): number {
  return spliceFunction(from, 0, to, 0, length, flags) as number;
}
export const sendmsg: (fd: number, message: Address, flags: number) => number = lib.func(
  'sendmsg',
  'int64_t',
  ['int', 'uintptr_t', 'int'],
);
export const recvmsg: (fd: number, message: Address, flags: number) => number = lib.func(
  'recvmsg',
  'int64_t',
  ['int', 'uintptr_t', 'int'],
);
export const inetNtop: (family: number, from: Address, to: Address, size: number) => Address =
  lib.func('inet_ntop', 'uintptr_t', ['int', 'uintptr_t', 'uintptr_t', 'uint32_t']);
export const inetPton: (family: number, text: string, to: Address) => number = lib.func(
  'inet_pton',
  'int',
  ['int', 'const char *', 'uintptr_t'],
);

// Linux constants, the same on x86-64 and arm64.
export const AF_UNIX = 1;
export const AF_INET = 2;
export const AF_INET6 = 10;
export const SOCK_STREAM = 1;
export const SOCK_DGRAM = 2;
export const SOCK_SEQPACKET = 5;
export const SOCK_NONBLOCK = 0o4000;
export const SOCK_CLOEXEC = 0o2000000;
export const SOL_SOCKET = 1;
export const SO_REUSEADDR = 2;
export const SO_ERROR = 4;
export const SO_KEEPALIVE = 9;
export const SO_LINGER = 13;
export const SO_REUSEPORT = 15;
export const SO_MARK = 36;
export const SCM_RIGHTS = 1;
export const SOL_IP = 0;
export const IP_TRANSPARENT = 19;
export const IP_BIND_ADDRESS_NO_PORT = 24;
export const SO_ORIGINAL_DST = 80;
export const SOL_IPV6 = 41;
export const IPV6_V6ONLY = 26;
export const IPV6_TRANSPARENT = 75;
export const IP6T_SO_ORIGINAL_DST = 80;
export const SOL_TCP = 6;
export const TCP_NODELAY = 1;
export const TCP_KEEPIDLE = 4;
export const TCP_KEEPINTVL = 5;
export const TCP_KEEPCNT = 6;
export const TCP_USER_TIMEOUT = 18;
export const SHUT_WR = 1;
export const SHUT_RDWR = 2;
export const MSG_DONTWAIT = 0x40;
export const MSG_CTRUNC = 0x8;
export const MSG_TRUNC = 0x20;
export const MSG_NOSIGNAL = 0x4000;
export const MSG_MORE = 0x8000;
export const MSG_CMSG_CLOEXEC = 0x40000000;
export const F_GETFL = 3;
export const F_SETFL = 4;
export const F_DUPFD_CLOEXEC = 1030;
export const O_NONBLOCK = 0o4000;
export const O_CLOEXEC = 0o2000000;
export const F_SETPIPE_SZ = 1031;
export const SPLICE_F_MOVE = 1;
export const SPLICE_F_NONBLOCK = 2;
export const CLONE_NEWNET = 0x40000000;
export const EPOLL_CTL_ADD = 1;
export const EPOLL_CTL_DEL = 2;
export const EPOLL_CTL_MOD = 3;
export const EPOLLIN = 0x1;
export const EPOLLOUT = 0x4;
export const EPOLLERR = 0x8;
export const EPOLLHUP = 0x10;
export const EPOLLRDHUP = 0x2000;
export const EPOLLEXCLUSIVE = 0x10000000;
export const EPOLLET = 0x80000000;
export const EFD_NONBLOCK = 0o4000;
export const EFD_CLOEXEC = 0o2000000;

export const EINTR = 4;
export const EAGAIN = 11;
export const EMFILE = 24;
export const ENFILE = 23;
export const EPIPE = 32;
export const ENETUNREACH = 101;
export const ECONNABORTED = 103;
export const ECONNRESET = 104;
export const ENOTCONN = 107;
export const ETIMEDOUT = 110;
export const ECONNREFUSED = 111;
export const EHOSTUNREACH = 113;
export const EADDRNOTAVAIL = 99;
export const EINPROGRESS = 115;
export const EALREADY = 114;
export const EISCONN = 106;
