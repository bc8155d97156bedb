// Resolves the hostnames of workloads without address (ServiceEntry with DNS resolution), for the
// data thread: by this process's own name servers, search list and ndots, from its own network namespace. c-ares, since
// getaddrinfo would block the few threads of libuv's pool while a name server is silent.
import { Resolver } from 'node:dns/promises';
import type { RecordWithTtl } from 'node:dns';
import { isIP } from 'node:net';
import type { Clock } from '../../common/clock.ts';
import { joinHostPort, normalizeIp } from '../../common/workload/ip.ts';
import type { ResolvConf } from './upstream-servers.ts';

const MAX_CACHED = 4096;
const MAX_IN_FLIGHT = 256;
const MAX_ADDRESSES = 64;
const MAX_NAMES = 7;
const MIN_TTL_MS = 1000;
const MAX_TTL_MS = 300_000;
/** A name without addresses, and an old answer that could not be renewed. */
const RETRY_MS = 2000;
/** How long an old answer is better than none while name servers do not answer. */
const STALE_MS = 3_600_000;
const TRY_MS = 1000;
const TRIES = 2;

/** Addresses of a name, and how long they hold. */
export interface HostAnswer {
  /** Both families; empty: there are none, or nobody could say. */
  readonly addresses: readonly string[];
  readonly ttlMs: number;
}

/** Options of {@link HostLookup}. */
export interface HostLookupOptions {
  readonly resolvConf: () => ResolvConf;
  readonly isIpv6: boolean;
  readonly clock: Clock;
}

interface Cached {
  readonly addresses: readonly string[];
  readonly untilMs: number;
  /** Until then the addresses are better than none, while name servers do not answer. */
  readonly staleUntilMs: number;
}

/** One for the process. */
export class HostLookup {
  readonly #options: HostLookupOptions;
  readonly #cache = new Map<string, Cached>();
  readonly #inFlight = new Map<string, Promise<HostAnswer>>();

  constructor(options: HostLookupOptions) {
    this.#options = options;
  }

  /** Never rejects. One question for all who ask at the same time. */
  lookup(hostname: string): Promise<HostAnswer> {
    const name = hostname.toLowerCase();
    const now = this.#options.clock.elapsed();
    const cached = this.#cache.get(name);
    if (cached !== undefined && cached.untilMs > now) {
      return Promise.resolve({ addresses: cached.addresses, ttlMs: cached.untilMs - now });
    }
    const running = this.#inFlight.get(name);
    if (running !== undefined) return running;
    if (this.#inFlight.size >= MAX_IN_FLIGHT) return Promise.resolve(NOTHING);
    const started = this.#ask(name, cached).finally(() => this.#inFlight.delete(name));
    this.#inFlight.set(name, started);
    return started;
  }

  async #ask(name: string, old: Cached | undefined): Promise<HostAnswer> {
    const { resolvConf, clock } = this.#options;
    const { servers, search, ndots } = resolvConf();
    const resolver = new Resolver({ timeout: TRY_MS, tries: TRIES });
    let isUnsure = servers.length === 0;
    resolver.setServers(servers.map(({ address, port }) => joinHostPort(address, port)));
    for (const candidate of isUnsure ? [] : candidatesOf(name, search, ndots)) {
      const found = await this.#askOne(resolver, candidate);
      if (found === undefined) isUnsure = true;
      else if (found.addresses.length > 0) return this.#remember(name, found);
    }
    const isStale = isUnsure && old !== undefined && clock.elapsed() < old.staleUntilMs;
    if (!isStale) return this.#remember(name, NOTHING);
    // Failing to renew an answer does not keep it alive.
    return this.#remember(name, { addresses: old.addresses, ttlMs: RETRY_MS }, old.staleUntilMs);
  }

  /** Undefined when no name server answered. */
  async #askOne(resolver: Resolver, name: string): Promise<HostAnswer | undefined> {
    const answers = await Promise.all([
      settle(resolver.resolve4(name, { ttl: true })),
      this.#options.isIpv6 ? settle(resolver.resolve6(name, { ttl: true })) : [],
    ]);
    const records = answers.flatMap((answer) => answer ?? []);
    if (records.length === 0) return answers.includes(undefined) ? undefined : NOTHING;
    const ttlMs = Math.min(...records.map(({ ttl }) => ttl)) * 1000;
    return {
      addresses: records
        .slice(0, MAX_ADDRESSES)
        .map(({ address }) => normalizeIp(address) ?? address),
      ttlMs: Math.min(MAX_TTL_MS, Math.max(MIN_TTL_MS, ttlMs)),
    };
  }

  #remember(name: string, answer: HostAnswer, staleUntilMs?: number): HostAnswer {
    this.#cache.delete(name);
    if (this.#cache.size >= MAX_CACHED) {
      for (const oldest of this.#cache.keys()) {
        this.#cache.delete(oldest);
        break;
      }
    }
    const untilMs = this.#options.clock.elapsed() + answer.ttlMs;
    this.#cache.set(name, {
      addresses: answer.addresses,
      untilMs,
      staleUntilMs: staleUntilMs ?? untilMs + STALE_MS,
    });
    return answer;
  }
}

const NOTHING: HostAnswer = { addresses: [], ttlMs: RETRY_MS };

/** The names to ask for, as resolv.conf(5) has it: with enough dots as it is first, else last. */
export function candidatesOf(name: string, search: readonly string[], ndots: number): string[] {
  if (isIP(name) !== 0) return [];
  if (name.endsWith('.')) return [name.slice(0, -1)];
  const dots = name.split('.').length - 1;
  const searched = search.filter((domain) => domain !== '').map((domain) => `${name}.${domain}`);
  const names = dots >= ndots ? [name, ...searched] : [...searched, name];
  return names.slice(0, MAX_NAMES);
}

/** Records; none for a name or type that does not exist; undefined when there was no answer. */
async function settle(asked: Promise<RecordWithTtl[]>): Promise<RecordWithTtl[] | undefined> {
  try {
    return await asked;
  } catch (err) {
    const code = err instanceof Error && 'code' in err ? err.code : '';
    return code === 'ENOTFOUND' || code === 'ENODATA' || code === 'EBADNAME' ? [] : undefined;
  }
}
