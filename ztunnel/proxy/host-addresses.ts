// Addresses of names as the data thread knows them: of endpoints that are known by name only (ServiceEntry with DNS
// resolution), and of what a pod means by a name (SOCKS5). The control thread finds them; see
// dns/host-lookup.ts and dns/dns-proxy.ts.

interface Entry {
  addresses: readonly string[];
  /** Undefined: being asked for. */
  untilMs: number | undefined;
  waiting: (() => void)[];
}

const MAX_HOSTS = 4096;

/** A question: with a pod (uid) what that pod means by the name. */
export interface HostQuestion {
  readonly hostname: string;
  readonly pod?: string | undefined;
}

/** Its answer, good for `ttlMs`. */
export interface HostAddressAnswer extends HostQuestion {
  readonly addresses: readonly string[];
  readonly ttlMs: number;
}

/** Knows which hostnames were answered lately. */
export class HostAddresses {
  readonly #ask: (question: HostQuestion) => void;
  readonly #now: () => number;
  readonly #entries = new Map<string, Entry>();

  constructor(ask: (question: HostQuestion) => void, now: () => number) {
    this.#ask = ask;
    this.#now = now;
  }

  /** Undefined when the answer is not here or too old; empty when there are no addresses. */
  known(hostname: string, pod?: string): readonly string[] | undefined {
    const entry = this.#entries.get(keyOf({ hostname, pod }));
    if (entry?.untilMs === undefined || entry.untilMs <= this.#now()) return undefined;
    return entry.addresses;
  }

  /** Resolves when there is an answer. One question for all who wait. */
  resolve(hostname: string, pod?: string): Promise<void> {
    const key = keyOf({ hostname, pod });
    let entry = this.#entries.get(key);
    if (entry === undefined || entry.untilMs !== undefined) {
      entry = { addresses: [], untilMs: undefined, waiting: [] };
      this.#makeRoom();
      this.#entries.set(key, entry);
      this.#ask({ hostname, pod });
    }
    const { waiting } = entry;
    return new Promise((resolve) => waiting.push(resolve));
  }

  /** Takes an answer of the control thread. */
  answer({ addresses, ttlMs, ...question }: HostAddressAnswer): void {
    const entry = this.#entries.get(keyOf(question));
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

/** A pod's uid has no spaces, nor has a name. */
function keyOf({ hostname, pod = '' }: HostQuestion): string {
  return `${hostname} ${pod}`;
}
