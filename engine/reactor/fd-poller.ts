// Waits for descriptors in threads that run Node's own loop: poll(2) on libuv's thread pool, in slices, so that
// the process can always exit. For a few quiet control sockets only; data sockets belong on a reactor.
import { malloc, free, memcpy, pollAsync } from '../native/libc.ts';
import { reserve, scratch } from '../native/memory.ts';

const POLLIN = 1;
const SLICE_MS = 100;
const pollfdOffset = reserve(8);

/** A wait in progress. */
export interface ReadWait {
  /** Resolves when the descriptor is readable, has ended, or the wait was cancelled. Never rejects. */
  readonly ready: Promise<void>;
  /** Resolves when no poll uses the descriptor any more. */
  readonly idle: Promise<void>;
  cancel(): void;
}

/** Waits until `fd` is readable. */
export function waitReadable(fd: number): ReadWait {
  let cancelled = false;
  let setReady: () => void = () => undefined;
  let setIdle: () => void = () => undefined;
  const ready = new Promise<void>((resolve) => (setReady = resolve));
  const idle = new Promise<void>((resolve) => (setIdle = resolve));
  // Its own memory: the pool's thread reads it while this thread goes on.
  const pollfd = malloc(8);
  scratch.view.setInt32(pollfdOffset, fd, true);
  scratch.view.setInt32(pollfdOffset + 4, POLLIN, true);
  memcpy(pollfd, scratch.address + pollfdOffset, 8);
  const slice = (): void => {
    pollAsync(pollfd, 1, SLICE_MS, (count) => {
      if (count === 0 && !cancelled) {
        slice();
        return;
      }
      free(pollfd);
      setIdle();
      setReady();
    });
  };
  slice();
  return {
    ready,
    idle,
    cancel: () => {
      cancelled = true;
      setReady();
    },
  };
}
