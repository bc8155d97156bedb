// Network namespaces. setns(2) changes the calling thread only, so sockets are made in a pod's namespace by
// switching there and back within one synchronous call. If the way back fails the process is aborted: every
// later socket of this thread would land in the wrong pod.
import { closeSync, fstatSync, openSync } from 'node:fs';
import {
  CLONE_NEWNET,
  EINTR,
  F_DUPFD_CLOEXEC,
  errno,
  fcntl,
  gettid,
  setns,
} from '../native/libc.ts';
import { errnoError } from './stream-error.ts';

let ownNetns: number | undefined;
let ownId: string | undefined;
let isInside = false;

/** The namespace this thread started in. */
function ownFd(): number {
  ownNetns ??= openSync(`/proc/self/task/${gettid()}/ns/net`, 'r');
  return ownNetns;
}

/** Device and inode of the namespace this thread started in. */
function ownIdentity(): string {
  if (ownId === undefined) {
    const { dev, ino } = fstatSync(ownFd());
    ownId = `${dev}:${ino}`;
  }
  return ownId;
}

function switchTo(fd: number): number {
  for (;;) {
    if (setns(fd, CLONE_NEWNET) === 0) return 0;
    const code = errno();
    if (code !== EINTR) return code;
  }
}

/** An open network namespace. Equal namespaces have the same `inode` and `device`, not the same `fd`. */
export class Netns {
  readonly fd: number;
  readonly inode: number;
  readonly device: number;
  /** Nowhere to switch to, which needs no rights. */
  readonly #isOwn: boolean;
  #closed = false;

  private constructor(fd: number) {
    this.fd = fd;
    const stat = fstatSync(fd);
    this.inode = stat.ino;
    this.device = stat.dev;
    this.#isOwn = `${stat.dev}:${stat.ino}` === ownIdentity();
  }

  /** The namespace this thread started in. */
  static own(): Netns {
    return Netns.duplicate(ownFd());
  }

  /** Opens a namespace file (/proc/<pid>/ns/net, /run/netns/<name>). */
  static open(path: string): Netns {
    return new Netns(openSync(path, 'r'));
  }

  /** Takes over a descriptor, e.g. one received by ZDS. */
  static adopt(fd: number): Netns {
    return new Netns(fd);
  }

  /** A second handle on the namespace of a descriptor that someone else owns (another thread, say). */
  static duplicate(fd: number): Netns {
    const copy = fcntl(fd, F_DUPFD_CLOEXEC, 3);
    if (copy < 0) throw errnoError(errno(), 'dup of netns');
    return new Netns(copy);
  }

  isSame(other: Netns): boolean {
    return this.inode === other.inode && this.device === other.device;
  }

  /** Runs `fn` with this thread in the namespace. `fn` must be synchronous; do not nest. */
  runSync<T>(fn: () => T): T {
    if (this.#closed) throw new Error('netns is closed');
    if (isInside) throw new Error('netns calls must not nest');
    if (this.#isOwn) return fn();
    const own = ownFd();
    const code = switchTo(this.fd);
    if (code !== 0) throw errnoError(code, 'setns');
    isInside = true;
    try {
      return fn();
    } finally {
      isInside = false;
      if (switchTo(own) !== 0) process.abort();
    }
  }

  close(): void {
    if (this.#closed) return;
    this.#closed = true;
    closeSync(this.fd);
  }
}

/** Whether this process may enter namespaces: tried with its own. */
export function canEnterNetns(): boolean {
  return switchTo(ownFd()) === 0;
}

/** Runs `fn` in `netns`, or right here without one. */
export function runInNetns<T>(netns: Netns | undefined, fn: () => T): T {
  return netns === undefined ? fn() : netns.runSync(fn);
}
