// Which proxies run under a holder, as a state machine without I/O: events in, actions out.
//
// Before the first proxy has been ready the holder is transparent: its exit is the container's, and nothing is held, so
// that a version that cannot start takes no connections from the one it was to replace. From then on a proxy that dies
// is started again.

/** What a proxy is doing. */
export type ProxyPhase = 'starting' | 'serving' | 'draining';

/** What the holder does next. */
export type FleetAction =
  | { readonly kind: 'start'; readonly delayMs: number; readonly isReplacement: boolean }
  | { readonly kind: 'drain'; readonly id: number; readonly isReplaced: boolean }
  | { readonly kind: 'kill'; readonly id: number }
  /** Give up the held sockets: their connections are for another process. */
  | { readonly kind: 'releaseSockets' }
  | { readonly kind: 'exit'; readonly code: number };

/** How a proxy ended; a signal counts as 128 and its number. */
export interface ProxyExit {
  readonly code: number;
  /** Since it was started. */
  readonly ranMs: number;
}

const FIRST_DELAY_MS = 100;
const MAX_DELAY_MS = 10_000;
/** Old processes at once: each costs its memory, and one of the holder's few threads that wait. */
const MAX_DRAINING = 2;
/** A proxy that ran this long is started again at once when it dies. */
const STABLE_MS = 10_000;

/** All proxies of a holder. */
export class Fleet {
  readonly #proxies = new Map<number, ProxyPhase>();
  #hasBeenReady = false;
  #isStopping = false;
  /** A start was ordered and has not been seen. */
  #isStartDue = false;
  #crashesInRow = 0;
  crashCount = 0;

  get hasBeenReady(): boolean {
    return this.#hasBeenReady;
  }

  get isStopping(): boolean {
    return this.#isStopping;
  }

  phase(id: number): ProxyPhase | undefined {
    return this.#proxies.get(id);
  }

  /** Proxies in a phase. */
  ids(phase: ProxyPhase): number[] {
    return [...this.#proxies].filter(([, one]) => one === phase).map(([id]) => id);
  }

  /** The holder starts. */
  begin(): FleetAction[] {
    return [this.#start(0, false)];
  }

  /** A proxy process was started. */
  started(id: number): void {
    this.#isStartDue = false;
    this.#proxies.set(id, 'starting');
  }

  /** A proxy serves: those before it drain. */
  ready(id: number): FleetAction[] {
    if (this.#proxies.get(id) !== 'starting') return [];
    this.#hasBeenReady = true;
    const before = this.ids('serving');
    this.#proxies.set(id, 'serving');
    for (const one of before) this.#proxies.set(one, 'draining');
    return before.map((one) => ({ kind: 'drain', id: one, isReplaced: true }));
  }

  /** Someone asks for a new process in place of the serving one. Nothing follows while that cannot be. */
  replace(): FleetAction[] {
    const isStarting = this.#isStartDue || this.ids('starting').length > 0;
    const isBusy = this.#isStopping || isStarting || this.ids('draining').length >= MAX_DRAINING;
    return isBusy ? [] : [this.#start(0, this.ids('serving').length > 0)];
  }

  /** A replacement took too long; the one it was to replace goes on. */
  replacementTimedOut(id: number): FleetAction[] {
    const isReplacement = this.#proxies.get(id) === 'starting' && this.ids('serving').length > 0;
    return isReplacement ? [{ kind: 'kill', id }] : [];
  }

  /** The container is asked to end; no start follows. Sockets go first: no backlog may fill that nobody serves. */
  stop(): FleetAction[] {
    if (this.#isStopping) return [];
    this.#isStopping = true;
    this.#isStartDue = false;
    const running = [...this.ids('starting'), ...this.ids('serving')];
    for (const id of running) this.#proxies.set(id, 'draining');
    const drains = running.map((id): FleetAction => ({ kind: 'drain', id, isReplaced: false }));
    return [
      { kind: 'releaseSockets' },
      ...drains,
      ...(this.#proxies.size === 0 ? [{ kind: 'exit', code: 0 } as const] : []),
    ];
  }

  /** The container must end now. */
  kill(): FleetAction[] {
    this.#isStopping = true;
    return [...this.#proxies.keys()].map((id) => ({ kind: 'kill', id }));
  }

  /** A proxy process has ended. */
  exited(id: number, exit: ProxyExit): FleetAction[] {
    const phase = this.#proxies.get(id);
    this.#proxies.delete(id);
    if (this.#isStopping) {
      return this.#proxies.size === 0 ? [{ kind: 'exit', code: 0 }] : [];
    }
    if (phase === 'draining' || phase === undefined) return [];
    if (!this.#hasBeenReady) return [{ kind: 'releaseSockets' }, { kind: 'exit', code: exit.code }];
    this.crashCount++;
    // Another one serves, or is about to.
    if (this.#isStartDue || this.ids('serving').length + this.ids('starting').length > 0) return [];
    this.#crashesInRow = exit.ranMs >= STABLE_MS ? 0 : this.#crashesInRow;
    const delayMs =
      this.#crashesInRow === 0
        ? 0
        : Math.min(MAX_DELAY_MS, FIRST_DELAY_MS * 2 ** (this.#crashesInRow - 1));
    this.#crashesInRow++;
    return [this.#start(delayMs, false)];
  }

  #start(delayMs: number, isReplacement: boolean): FleetAction {
    this.#isStartDue = true;
    return { kind: 'start', delayMs, isReplacement };
  }
}
