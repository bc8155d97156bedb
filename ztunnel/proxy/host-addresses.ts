// Addresses of endpoints that are known by name only (ServiceEntry with DNS resolution, ztunnel-spec 4.6), as the data
// thread knows them. The control thread asks name servers; see dns/host-lookup.ts.

interface Entry {
  addresses: readonly string[];
  /** Undefined: being asked for. */
  untilMs: number | undefined;
  waiting: (() => void)[];
}

const MAX_HOSTS = 4096;

/** Knows which hostnames were answered lately. */
export class HostAddresses {
  readonly #ask: (hostname: string) => void;
  readonly #now: () => number;
  readonly #entries = new Map<string, Entry>();

  constructor(ask: (hostname: string) => void, now: () => number) {
    this.#ask = ask;
    this.#now = now;
  }

  /** Undefined when the answer is not here or too old; empty when there are no addresses. */
  known(hostname: string): readonly string[] | undefined {
    const entry = this.#entries.get(hostname);
    if (entry?.untilMs === undefined || entry.untilMs <= this.#now()) return undefined;
    return entry.addresses;
  }

  /** Resolves when there is an answer. One question for all who wait. */
  resolve(hostname: string): Promise<void> {
    let entry = this.#entries.get(hostname);
    if (entry === undefined || entry.untilMs !== undefined) {
      entry = { addresses: [], untilMs: undefined, waiting: [] };
      this.#makeRoom();
      this.#entries.set(hostname, entry);
      this.#ask(hostname);
    }
    const { waiting } = entry;
    return new Promise((resolve) => waiting.push(resolve));
  }

  /** Takes an answer of the control thread, good for `ttlMs`. */
  answer(hostname: string, addresses: readonly string[], ttlMs: number): void {
    const entry = this.#entries.get(hostname);
    if (entry === undefined) return;
    entry.addresses = addresses;
    entry.untilMs = this.#now() + ttlMs;
    for (const resolve of entry.waiting.splice(0)) resolve();
  }

  /** The oldest answer goes first; a question somebody waits for stays. */
  #makeRoom(): void {
    if (this.#entries.size < MAX_HOSTS) return;
    for (const [hostname, { untilMs }] of this.#entries) {
      if (untilMs === undefined) continue;
      this.#entries.delete(hostname);
      return;
    }
  }
}
