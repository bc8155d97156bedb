// Pipes for splice(2), one pool a thread. A pipe is taken while bytes lie in it and given back empty, so that a thread
// needs about one, and one more for each bulk flow whose receiver is slow. Bounded: what gets none copies.
import { F_SETPIPE_SZ, O_CLOEXEC, O_NONBLOCK, close, fcntl, pipe2 } from '../native/libc.ts';
import { reserve, scratch } from '../native/memory.ts';

/** Asked of the kernel for each pipe; an unprivileged process may get less. */
export const PIPE_BYTES = 512 * 1024;
const MAX_PIPES = 128;
const MAX_FREE = 4;
const fdsOffset = reserve(8);

/** An empty pipe of the thread, or one that holds a flow's bytes. */
export interface Pipe {
  readonly readFd: number;
  readonly writeFd: number;
}

const free: Pipe[] = [];
let pipes = 0;

/** Open pipes of this thread; for leak tests. */
export function pipeCount(): number {
  return pipes;
}

/** A pipe, or undefined when there are too many. Give it back with `releasePipe`. */
export function takePipe(): Pipe | undefined {
  const known = free.pop();
  if (known !== undefined || pipes >= MAX_PIPES) return known;
  if (pipe2(scratch.address + fdsOffset, O_NONBLOCK | O_CLOEXEC) < 0) return undefined;
  const readFd = scratch.view.getInt32(fdsOffset, true);
  const writeFd = scratch.view.getInt32(fdsOffset + 4, true);
  // Refused above the user's limit: then it keeps the default size, and works.
  fcntl(writeFd, F_SETPIPE_SZ, PIPE_BYTES);
  pipes++;
  return { readFd, writeFd };
}

/** Gives a pipe back. One that still holds bytes is closed, and they are lost. */
export function releasePipe(pipe: Pipe, isEmpty: boolean): void {
  if (isEmpty && free.length < MAX_FREE) {
    free.push(pipe);
    return;
  }
  close(pipe.readFd);
  close(pipe.writeFd);
  pipes--;
}
