// L7 sight without a waypoint (docs/design/l7-sight.md): which connections are observed, and for whom. The proxy stays an L4
// proxy: what is seen is counted, and nothing depends on it.
import type { SeriesTable } from '../../common/telemetry/series-table.ts';
import { serviceKey } from '../../common/workload/model.ts';
import type { Workload } from '../../common/workload/model.ts';
import { HttpObserver } from '../../engine/observe/http-observer.ts';
import { ObserveBudget } from '../../engine/observe/observe-budget.ts';
import type { ObserveEnd } from '../../engine/observe/types.ts';
import type { RelayObserver } from '../../engine/reactor/duplex.ts';
import type { Config } from '../config.ts';
import { L7Series } from './l7-series.ts';
import type { L7Group } from './l7-series.ts';
import type { ConnectionParties } from './traffic-labels.ts';

// Of a data thread's time, all its observers together.
const SHARE = 0.2;
const BURST_MS = 500;

/** One connection that is observed. */
interface Watched {
  readonly observer: HttpObserver;
  readonly reported: readonly { readonly parties: ConnectionParties; readonly group: L7Group }[];
}

/** Whether this end of a connection reports what is seen. Pure. */
export function isReported(
  reporter: Config['l7Sight']['reporter'],
  parties: ConnectionParties,
): boolean {
  const own = parties.direction === 'outbound' ? 'source' : 'destination';
  return percentOf(parties) > 0 && (reporter === 'both' || reporter === own);
}

/** What the namespace of this end's own workload asks for. */
function percentOf(parties: ConnectionParties): number {
  return ownWorkload(parties)?.l7Percent ?? 0;
}

function ownWorkload({ direction, source, destination }: ConnectionParties): Workload | undefined {
  return direction === 'outbound' ? source : destination;
}

/** Of the destination workload: the number, or the text that ends in it; undefined where only a gateway's is known. */
export type WorkloadPort = number | string | undefined;

function portOf(authority: string): number {
  return Number(authority.slice(authority.lastIndexOf(':') + 1));
}

/**
 * Whether the service says of this port of the destination that it is no HTTP. Where no service was addressed, all that have the
 * port must say so. Pure.
 */
export function isDeclaredOpaque(
  { destination, service }: ConnectionParties,
  target: WorkloadPort,
): boolean {
  if (destination === undefined || target === undefined) return false;
  const port = typeof target === 'number' ? target : portOf(target);
  const { services } = destination;
  const named = service && services[serviceKey(service)];
  const mappings = (named === undefined ? Object.values(services).flat() : named).filter(
    ({ targetPort }) => targetPort === port,
  );
  return mappings.length > 0 && mappings.every(({ isOpaque }) => isOpaque === true);
}

/** The observers of a data thread. */
export class L7Sight {
  readonly #config: Config['l7Sight'];
  readonly #series: L7Series;
  readonly #now: () => number;
  readonly #random: () => number;
  readonly #budget: ObserveBudget;
  readonly #watched = new Set<Watched>();

  constructor(
    table: SeriesTable,
    config: Config['l7Sight'],
    now: () => number,
    random: () => number = Math.random,
  ) {
    this.#config = config;
    this.#series = new L7Series(table);
    this.#now = now;
    this.#random = random;
    this.#budget = new ObserveBudget(SHARE, BURST_MS, now());
  }

  /**
   * The observer of a new connection, if it is to be observed. `port` is at the destination; `other` is the second end, where
   * this proxy joins both; the relay's forward direction must be the client's.
   */
  watch(
    parties: ConnectionParties,
    port: WorkloadPort,
    other?: ConnectionParties,
  ): RelayObserver | undefined {
    const { reporter } = this.#config;
    const isOther = other !== undefined && isReported(reporter, other);
    if (!isOther && !isReported(reporter, parties)) return undefined;
    const ends = [parties, other].filter(
      (each) => each !== undefined && isReported(reporter, each),
    ) as ConnectionParties[];
    // Drawn once: of two ends with different rates, what the smaller one has the larger one has too.
    const draw = this.#random() * 100;
    const limit = this.#config.percent;
    const sampled = ends.filter((end) => draw < Math.min(limit, percentOf(end)));
    for (const end of ends) {
      if (!sampled.includes(end)) this.#series.countConnection(end, 'not_sampled');
    }
    if (sampled.length === 0) return undefined;
    const reason = isDeclaredOpaque(parties, port) ? 'opaque' : this.#refusal();
    if (reason === undefined) return this.#start(sampled);
    for (const end of sampled) this.#series.countConnection(end, reason);
    return undefined;
  }

  #refusal(): 'full' | 'busy' | undefined {
    if (this.#watched.size >= this.#config.maxConnections) return 'full';
    return this.#budget.spend(0, this.#now()) ? undefined : 'busy';
  }

  #start(ends: readonly ConnectionParties[]): RelayObserver {
    const reported = ends.map((parties) => ({ parties, group: this.#series.open(parties) }));
    const observer = new HttpObserver(
      {
        now: this.#now,
        onExchange: (exchange) => {
          for (const { group } of reported) group.count(exchange);
        },
        onEnd: (end) => this.#ended(watched, end),
      },
      this.#budget,
    );
    const watched: Watched = { observer, reported };
    this.#watched.add(watched);
    return observer;
  }

  #ended(watched: Watched, end: ObserveEnd): void {
    this.#watched.delete(watched);
    for (const { parties, group } of watched.reported) {
      this.#series.countConnection(parties, end);
      this.#series.close(group);
    }
  }

  /** Workload records have changed: a namespace that asks no more is no longer looked at. */
  recordsChanged(changed: readonly Workload[]): void {
    if (this.#watched.size === 0) return;
    const blind = new Set(changed.filter((one) => one.l7Percent === 0).map(({ uid }) => uid));
    if (blind.size === 0) return;
    for (const { observer, reported } of this.#watched) {
      const isOver = reported.some(({ parties }) => {
        const own = ownWorkload(parties);
        return own !== undefined && blind.has(own.uid);
      });
      if (isOver) observer.stop();
    }
  }

  /** Workloads have gone. */
  markStale(uids: readonly string[]): void {
    this.#series.markStale(uids);
  }

  /** Removes stale series. */
  sweep(): void {
    this.#series.sweep();
  }
}
