// The series of connections with the same labels: found by the parties of a connection, counted against a bound, and
// removed some time after a workload that they name has gone.
import type { SeriesTable } from '../../common/telemetry/series-table.ts';
import { renderLabels } from '../../common/telemetry/series-table.ts';
import type { Workload } from '../../common/workload/model.ts';
import { trafficLabels, withoutPeer } from './traffic-labels.ts';
import type { ConnectionParties } from './traffic-labels.ts';

const GROUP_FAMILIES = [
  'istio_tcp_connections_opened',
  'istio_tcp_connections_closed',
  'istio_tcp_received_bytes',
  'istio_tcp_sent_bytes',
];

/** The cells of one label text, and what tells when they may go. */
export interface SeriesGroup {
  readonly opened: number;
  readonly closed: number;
  readonly received: number;
  readonly sent: number;
  readonly labels: string;
  /** Label text of its failed series, by flag. */
  readonly failed: Map<string, string>;
  /** Workloads (uid) it names. */
  readonly uids: readonly string[];
  /** Named by a peer's own words: nobody tells us when it has gone, so it goes when it is idle. */
  readonly isOfStranger: boolean;
  openCount: number;
  /** A workload it names has gone: to be removed when nothing is open and it was scraped a last time. */
  isStale: boolean;
}

/** A scrape of that many is 35 MB. Beyond, connections are counted without their peer's names. */
const MAX_GROUPS = 10_000;

/** Long enough for a last scrape. */
export const STALE_SERIES_MS = 300_000;

interface CachedGroup {
  readonly parties: ConnectionParties;
  readonly group: SeriesGroup;
}

/** All groups of a data thread. */
export class SeriesGroups {
  readonly #table: SeriesTable;
  /** Parties to their cells. Cleared when a workload or service changes: labels may have. */
  readonly #groups = new Map<Workload, Map<Workload, CachedGroup[]>>();
  /** Every group that has series, by label text. */
  readonly #byLabels = new Map<string, SeriesGroup>();

  constructor(table: SeriesTable) {
    this.#table = table;
  }

  /** The group that counts connections of these parties. */
  of(parties: ConnectionParties): SeriesGroup {
    const { source, destination } = parties;
    // What a stranger claims about itself is not worth a cache.
    if (source === undefined || destination === undefined) return this.#newGroup(parties);
    let byDestination = this.#groups.get(source);
    if (byDestination === undefined) {
      byDestination = new Map();
      this.#groups.set(source, byDestination);
    }
    const cached = byDestination.get(destination) ?? [];
    for (const entry of cached) if (isSameParties(entry.parties, parties)) return entry.group;
    const group = this.#newGroup(parties);
    byDestination.set(destination, [...cached, { parties, group }]);
    return group;
  }

  #newGroup(parties: ConnectionParties): SeriesGroup {
    const isFull = this.#byLabels.size >= MAX_GROUPS;
    const labels = renderLabels(trafficLabels(isFull ? withoutPeer(parties) : parties, '-'));
    const known = this.#byLabels.get(labels);
    if (known !== undefined) return known;
    const [opened = 0, closed = 0, received = 0, sent = 0] = this.#table.cells(
      GROUP_FAMILIES,
      labels,
    );
    const { source, destination } = parties;
    const group: SeriesGroup = {
      opened,
      closed,
      received,
      sent,
      labels,
      failed: new Map(),
      uids: [source?.uid, destination?.uid].filter((uid) => uid !== undefined),
      isOfStranger: source === undefined && parties.sourceBaggage !== undefined,
      openCount: 0,
      isStale: false,
    };
    this.#byLabels.set(labels, group);
    return group;
  }

  /** Labels may have changed: look them up again for the next connection. */
  forget(): void {
    this.#groups.clear();
  }

  /** Workloads have gone: their series go too, at the next {@link sweep} after this one. */
  markStale(uids: readonly string[]): void {
    if (uids.length === 0) return;
    const gone = new Set(uids);
    for (const group of this.#byLabels.values()) {
      if (group.uids.some((uid) => gone.has(uid))) group.isStale = true;
    }
  }

  /** Removes stale series that nothing uses. */
  sweep(): void {
    for (const group of this.#byLabels.values()) {
      if (group.openCount > 0) continue;
      if (!group.isStale) {
        group.isStale = group.isOfStranger;
        continue;
      }
      for (const family of GROUP_FAMILIES) this.#table.remove(family, group.labels);
      for (const labels of group.failed.values()) {
        this.#table.remove('istio_tcp_connections_failed', labels);
      }
      this.#byLabels.delete(group.labels);
      this.#groups.clear();
    }
  }
}

/** Whether both have the same labels, given the same two workloads. */
function isSameParties(a: ConnectionParties, b: ConnectionParties): boolean {
  return (
    a.service === b.service &&
    a.direction === b.direction &&
    a.isNodeLocal === b.isNodeLocal &&
    a.sourceIdentity === b.sourceIdentity &&
    a.destinationIdentity === b.destinationIdentity
  );
}
