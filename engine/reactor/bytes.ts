// Native memory as users of the engine see it: copies out of the (address, length) pairs of a Duplex.
import { copyBytes as copy, nativeQueueCount as count } from '../native/memory.ts';
import type { CopyBytes } from './duplex.ts';

/** Copies bytes given to `onData` into a new buffer. */
export const copyBytes: CopyBytes = copy;

/** Number of queues holding native memory in this thread. For leak tests. */
export const nativeQueueCount: () => number = count;
