// Native memory as users of the engine see it: copies out of the (address, length) pairs of a Duplex.
import { copyBytes as copy, eachBlock, nativeQueueCount as count } from '../native/memory.ts';
import type { CopyBytes } from './duplex.ts';

/** Copies bytes given to `onData` into a new buffer. */
export const copyBytes: CopyBytes = copy;

/** Shows JavaScript bytes to a user of native ones, part by part, until it says false; false then. */
export const showBytes: (
  bytes: Uint8Array,
  use: (address: number, length: number) => boolean,
) => boolean = eachBlock;

/** Number of queues holding native memory in this thread. For leak tests. */
export const nativeQueueCount: () => number = count;
