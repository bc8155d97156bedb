// Runs promise callbacks between two turns of the reactor without a pass through libuv's loop. Node does the same
// after each of its own callbacks; the function it uses is not documented, so its absence is allowed for.
interface NodeInternals {
  readonly _tickCallback?: () => void;
}

const internals: NodeInternals = process as NodeInternals;
const tickCallback = internals._tickCallback;

/** Runs `process.nextTick` and promise callbacks now. False if this Node cannot: go through the event loop. */
export function drainMicrotasks(): boolean {
  if (tickCallback === undefined) return false;
  tickCallback.call(process);
  return true;
}
