// What a session does by the clock: PING keepalive, and not waiting for a peer that never closes.
import { IGNORE_STREAM, closeWatcher, type Duplex } from '../reactor/duplex.ts';
import type { Reactor } from '../reactor/reactor.ts';
import type { ReactorTimer } from '../reactor/timer-heap.ts';
import type { Http2SessionOptions } from './types.ts';

const CLOSE_GRACE_MS = 1000;

interface PingActions {
  ping(): void;
  expired(): void;
}

/** Sends PING at the interval; `start` is called again for each answer. */
export class PingKeepalive {
  readonly #reactor: Reactor;
  readonly #options: Http2SessionOptions;
  readonly #actions: PingActions;
  #timer: ReactorTimer | undefined;

  constructor(reactor: Reactor, options: Http2SessionOptions, actions: PingActions) {
    this.#reactor = reactor;
    this.#options = options;
    this.#actions = actions;
  }

  start(): void {
    this.stop();
    const { pingIntervalMs, pingTimeoutMs } = this.#options;
    if (pingIntervalMs === 0) return;
    this.#timer = this.#reactor.after(pingIntervalMs, () => {
      this.#timer = this.#reactor.after(pingTimeoutMs, () => this.#actions.expired());
      this.#actions.ping();
    });
  }

  stop(): void {
    this.#timer?.cancel();
    this.#timer = undefined;
  }
}

/** Ends a transport nobody listens to any more: FIN, and RST if the peer does not follow. */
export function closeTransport(reactor: Reactor, transport: Duplex): void {
  if (transport.isClosed) {
    transport.handler = IGNORE_STREAM;
    return;
  }
  const grace = reactor.after(CLOSE_GRACE_MS, () => transport.reset());
  transport.handler = closeWatcher(() => grace.cancel());
  transport.resume();
  transport.end();
}
