// Watches a relay's bytes for HTTP, after they were handed on: finds out the protocol from the first of them, follows it, and
// tells each request with its answer. Holds at most a few bytes, spends at most its share of time, never throws into the relay.
import { classify } from '../http1/detect.ts';
import { ByteQueue, copyBytes } from '../native/memory.ts';
import type { RelayObserver } from '../reactor/duplex.ts';
import { Http1Observer } from './http1-observer.ts';
import { Http2Observer } from './http2-observer.ts';
import { ObserveBudget } from './observe-budget.ts';
import type { ExchangeSink, ObserveEnd, ProtocolObserver } from './types.ts';

const PREFACE_BYTES = 24;
// An HTTP/2 server may send its SETTINGS before it has read anything.
const MAX_EARLY_BYTES = 256;
const SHARE = 0.1;
const BURST_MS = 200;

/** What is seen, and how it ended: once. */
export interface HttpObserverEvents extends ExchangeSink {
  onEnd(end: ObserveEnd): void;
}

/** Observes one relay whose forward direction is the client's. */
export class HttpObserver implements RelayObserver {
  readonly #events: HttpObserverEvents;
  readonly #budgets: readonly ObserveBudget[];
  readonly #held = new ByteQueue();
  readonly #heldBack = new ByteQueue();
  #protocol: ProtocolObserver | undefined;
  #isDone = false;

  /** `shared` is the budget of all observers of the thread. */
  constructor(events: HttpObserverEvents, shared: ObserveBudget) {
    this.#events = events;
    this.#budgets = [new ObserveBudget(SHARE, BURST_MS, events.now()), shared];
  }

  sawForward(address: number, length: number): boolean {
    return this.#look(() =>
      this.#protocol === undefined
        ? this.#detect(address, length)
        : this.#protocol.sawForward(address, length),
    );
  }

  sawBackward(address: number, length: number): boolean {
    return this.#look(() => {
      if (this.#protocol !== undefined) return this.#protocol.sawBackward(address, length);
      if (this.#heldBack.length + length > MAX_EARLY_BYTES) return 'server_first';
      this.#heldBack.push(address, length);
      return undefined;
    });
  }

  sawBackwardEnd(): boolean {
    return this.#look(() => this.#protocol?.sawBackwardEnd());
  }

  ended(): void {
    if (this.#isDone) return;
    this.#look(() => {
      this.#protocol?.abandon();
      return 'ended';
    });
  }

  /** Looks no more. */
  stop(): void {
    if (!this.#isDone) this.#finish('stopped');
  }

  #detect(address: number, length: number): ObserveEnd | undefined {
    const held = this.#held.length;
    // Enough to tell; the rest is not copied.
    const added = Math.min(length, PREFACE_BYTES - held);
    this.#held.push(address, added);
    const found = classify(copyBytes(this.#held.address, this.#held.length));
    if (found === undefined) return undefined;
    if (found === 'other') return 'not_http';
    const protocol =
      found === 'http1' ? new Http1Observer(this.#events) : new Http2Observer(this.#events);
    this.#protocol = protocol;
    const end = this.#replay(protocol);
    return end ?? protocol.sawForward(address + added, length - added);
  }

  /** In the order they came: what the client says may answer what the server said first. */
  #replay(protocol: ProtocolObserver): ObserveEnd | undefined {
    const [early, first] = [this.#heldBack, this.#held];
    let end = early.length > 0 ? protocol.sawBackward(early.address, early.length) : undefined;
    end ??= protocol.sawForward(first.address, first.length);
    early.clear();
    first.clear();
    return end;
  }

  /** Looks within the budgets; false when that was the last time. */
  #look(read: () => ObserveEnd | undefined): boolean {
    if (this.#isDone) return false;
    const startedMs = this.#events.now();
    let end: ObserveEnd | undefined;
    try {
      end = read();
    } catch {
      end = 'failed';
    }
    const nowMs = this.#events.now();
    for (const budget of this.#budgets) {
      if (!budget.spend(nowMs - startedMs, nowMs)) end ??= 'cpu';
    }
    if (end !== undefined) this.#finish(end);
    return end === undefined;
  }

  #finish(end: ObserveEnd): void {
    this.#isDone = true;
    this.#held.clear();
    this.#heldBack.clear();
    this.#protocol?.close();
    this.#protocol = undefined;
    this.#events.onEnd(end);
  }
}
