// One result for each connection, written exactly once: counters, and the access line. Connections refused before
// anything was decided are counted too (Istio's ztunnel only logs them), by reason.
import { MeshError } from '../../common/errors.ts';
import type { PolicyVerdict } from '../../common/policy/evaluate.ts';
import type { Logger } from '../../common/telemetry/logger.ts';
import { renderLabels } from '../../common/telemetry/series-table.ts';
import type { FamilyDefinition, SeriesTable } from '../../common/telemetry/series-table.ts';
import type { Workload } from '../../common/workload/model.ts';
import type { RelayCounters } from '../../engine/reactor/duplex.ts';
import { REASON_FLAGS } from './reasons.ts';
import type { FailureReason } from './reasons.ts';
import { sourceLabels, trafficLabels } from './traffic-labels.ts';
import type { ConnectionParties } from './traffic-labels.ts';

export const TRAFFIC_FAMILIES: readonly FamilyDefinition[] = [
  {
    name: 'istio_tcp_connections_opened',
    help: 'The total number of TCP connections opened.',
    type: 'counter',
  },
  {
    name: 'istio_tcp_connections_closed',
    help: 'The total number of TCP connections closed.',
    type: 'counter',
  },
  {
    name: 'istio_tcp_received_bytes',
    help: 'The size of total bytes received during request in case of a TCP connection.',
    type: 'counter',
  },
  {
    name: 'istio_tcp_sent_bytes',
    help: 'The size of total bytes sent during response in case of a TCP connection.',
    type: 'counter',
  },
  {
    name: 'istio_tcp_connections_failed',
    help: 'The total number of TCP connections that failed (unstable).',
    type: 'counter',
  },
  {
    name: 'istio_tcp_sockets_open',
    help: 'The number of TCP sockets open (unstable).',
    type: 'gauge',
  },
  {
    name: 'ambient_connections_refused',
    help: 'Connections that ended badly, by reason; also those refused before any policy or dial.',
    type: 'counter',
  },
  {
    name: 'istio_crl_policy_rejections',
    help: 'Connections rejected or closed because the certificate of the peer is revoked (unstable).',
    type: 'counter',
  },
  {
    name: 'ambient_policy_dry_run',
    help: 'Inbound connections checked by dry-run policies, by what these would have done.',
    type: 'counter',
  },
  {
    name: 'ambient_connect_retries',
    help: 'Connects that failed before any byte was delivered and were tried again, by the reason of the failure.',
    type: 'counter',
  },
  {
    name: 'istio_on_demand_dns',
    help: 'Total number of requests that used on-demand DNS (unstable).',
    type: 'counter',
  },
];

const GROUP_FAMILIES = [
  'istio_tcp_connections_opened',
  'istio_tcp_connections_closed',
  'istio_tcp_received_bytes',
  'istio_tcp_sent_bytes',
];

/** Addresses of a connection, for the access line. */
export interface ConnectionAddresses {
  readonly src: string;
  readonly dst: string;
  /** Authority of the tunnel. */
  readonly hboneAddr?: string | undefined;
}

/** How a connection ended. */
export interface ConnectionOutcome {
  /** Undefined is success. */
  readonly reason?: FailureReason | undefined;
  readonly detail?: string | undefined;
  /** The policy that decided. */
  readonly policy?: string | undefined;
  /** Index of its rule. */
  readonly rule?: number | undefined;
}

interface SeriesGroup {
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

/** Makes and finishes the records of a data thread. */
export class ConnectionRecorder {
  readonly #table: SeriesTable;
  readonly #logger: Logger;
  readonly #now: () => number;
  /** Parties to their cells. Cleared when a workload or service changes: labels may have. */
  readonly #groups = new Map<Workload, Map<Workload, CachedGroup[]>>();
  /** Every group that has series, by label text. */
  readonly #byLabels = new Map<string, SeriesGroup>();
  readonly #socketsOpen: { readonly inbound: number; readonly outbound: number };

  constructor(table: SeriesTable, logger: Logger, now: () => number = Date.now) {
    this.#table = table;
    this.#logger = logger;
    this.#now = now;
    this.#socketsOpen = {
      inbound: table.cell('istio_tcp_sockets_open', 'reporter="destination"'),
      outbound: table.cell('istio_tcp_sockets_open', 'reporter="source"'),
    };
  }

  /** Starts a record; its owner must call `finish`. `startedMs` is when the connection was accepted. */
  open(
    parties: ConnectionParties,
    addresses: ConnectionAddresses,
    startedMs: number,
  ): OpenConnection {
    const group = this.#group(parties);
    group.isStale = false;
    this.#table.add(group.opened, 1);
    this.#table.add(this.#socketsOpen[parties.direction], 1);
    group.openCount++;
    if (this.#logger.isLevelEnabled('debug')) {
      this.#logger.debug(baseFields(parties, addresses), 'connection opened');
    }
    const fields = { parties, addresses, startedMs };
    return new OpenConnection(this.#table, group, fields, this.#onFinish);
  }

  /** One function for all connections: a closure for each would be kept as long as it. */
  readonly #onFinish: FinishConnection = (connection, group, outcome) => {
    const { parties } = connection.fields;
    this.#table.add(group.closed, 1);
    this.#table.add(this.#socketsOpen[parties.direction], -1);
    group.openCount--;
    this.#countFailure(parties, group, outcome);
    this.#writeLine(connection, outcome);
  };

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

  /** Records a connection that was refused before it was opened. */
  refuse(
    parties: ConnectionParties,
    addresses: ConnectionAddresses,
    reason: FailureReason,
    detail: string,
  ): void {
    this.#countReason(parties.direction, reason);
    if (!this.#logger.isLevelEnabled('warn')) return;
    const fields = { ...baseFields(parties, addresses), error: detail, reason };
    this.#logger.warn(fields, 'connection failed');
  }

  /** Reports what dry-run policies would have done to a connection. */
  dryRun(parties: ConnectionParties, addresses: ConnectionAddresses, verdict: PolicyVerdict): void {
    const { dryRun } = verdict;
    if (dryRun === undefined) return;
    const result = dryRun.isAllowed ? 'allow' : 'deny';
    this.#table.add(this.#table.cell('ambient_policy_dry_run', `result="${result}"`), 1);
    if (dryRun.matched.length === 0 && dryRun.isAllowed === verdict.isAllowed) return;
    const policies = dryRun.matched.map(({ policy, rule }) => `${policy}[${rule}]`).join(' ');
    const fields = { ...baseFields(parties, addresses), would: result, policies };
    this.#logger.info(fields, 'policy dry run');
  }

  /** A failed connect is tried again, elsewhere or later. */
  countRetry(reason: FailureReason): void {
    const labels = renderLabels([['reason', reason]]);
    this.#table.add(this.#table.cell('ambient_connect_retries', labels), 1);
  }

  /** A connection used an endpoint that is known by name only. */
  countOnDemandDns(source: Workload, hostname: string): void {
    const labels = renderLabels([...sourceLabels(source), ['hostname', hostname]]);
    this.#table.add(this.#table.cell('istio_on_demand_dns', labels), 1);
  }

  /** Labels may have changed: look them up again for the next connection. */
  forgetGroups(): void {
    this.#groups.clear();
  }

  #group(parties: ConnectionParties): SeriesGroup {
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

  #countReason(direction: 'inbound' | 'outbound', reason: FailureReason): void {
    const reporter = direction === 'outbound' ? 'source' : 'destination';
    const labels = renderLabels([
      ['reporter', reporter],
      ['reason', reason],
      ['response_flags', REASON_FLAGS[reason]],
    ]);
    this.#table.add(this.#table.cell('ambient_connections_refused', labels), 1);
    if (reason !== 'certificate_revoked') return;
    const rejected = this.#table.cell('istio_crl_policy_rejections', `reporter="${reporter}"`);
    this.#table.add(rejected, 1);
  }

  #countFailure(
    parties: ConnectionParties,
    group: SeriesGroup,
    { reason }: ConnectionOutcome,
  ): void {
    if (reason === undefined) return;
    this.#countReason(parties.direction, reason);
    const flag = REASON_FLAGS[reason];
    if (flag === '-') return;
    let labels = group.failed.get(flag);
    if (labels === undefined) {
      // A value cannot hold this text: its quotes would be escaped.
      labels = group.labels.replace('response_flags="-"', `response_flags="${flag}"`);
      group.failed.set(flag, labels);
    }
    this.#table.add(this.#table.cell('istio_tcp_connections_failed', labels), 1);
  }

  #writeLine(connection: OpenConnection, outcome: ConnectionOutcome): void {
    const { parties, addresses, startedMs } = connection.fields;
    const { reason } = outcome;
    const level = reason === undefined || !isOurFailure(reason) ? 'info' : 'error';
    if (!this.#logger.isLevelEnabled(level)) return;
    const isOutbound = parties.direction === 'outbound';
    const fields = {
      ...baseFields(parties, addresses),
      bytes_sent: isOutbound ? connection.received : connection.sent,
      bytes_recv: isOutbound ? connection.sent : connection.received,
      duration: `${Math.round(this.#now() - startedMs)}ms`,
      ...(reason === undefined
        ? {}
        : { error: outcome.detail, reason, response_flags: REASON_FLAGS[reason] }),
      ...(outcome.policy === undefined ? {} : { policy: outcome.policy, rule: outcome.rule }),
    };
    this.#logger[level](fields, 'connection complete');
  }
}

/** What is known of a connection when it opens. */
export interface ConnectionFields {
  readonly parties: ConnectionParties;
  readonly addresses: ConnectionAddresses;
  /** When it was accepted. */
  readonly startedMs: number;
}

type FinishConnection = (
  connection: OpenConnection,
  group: SeriesGroup,
  outcome: ConnectionOutcome,
) => void;

/** A connection that is being relayed. Counters: received is client to server, sent is server to client. */
export class OpenConnection implements RelayCounters {
  received = 0;
  sent = 0;
  readonly #table: SeriesTable;
  readonly #group: SeriesGroup;
  readonly fields: ConnectionFields;
  readonly #onFinish: FinishConnection;
  #isFinished = false;

  constructor(
    table: SeriesTable,
    group: SeriesGroup,
    fields: ConnectionFields,
    onFinish: FinishConnection,
  ) {
    this.#table = table;
    this.#group = group;
    this.fields = fields;
    this.#onFinish = onFinish;
  }

  addForward(bytes: number): void {
    this.received += bytes;
    this.#table.add(this.#group.received, bytes);
  }

  addBackward(bytes: number): void {
    this.sent += bytes;
    this.#table.add(this.#group.sent, bytes);
  }

  /** Writes the result. A second call is a bug. */
  finish(outcome: ConnectionOutcome): void {
    if (this.#isFinished) throw new MeshError('result_twice', 'connection result recorded twice');
    this.#isFinished = true;
    this.#onFinish(this, this.#group, outcome);
  }

  get isFinished(): boolean {
    return this.#isFinished;
  }
}

/** The same connection, without what differs from peer to peer. */
function withoutPeer(parties: ConnectionParties): ConnectionParties {
  return parties.direction === 'outbound'
    ? { ...parties, destination: undefined, service: undefined }
    : {
        ...parties,
        source: undefined,
        sourceBaggage: undefined,
        // Not its name, but that it had one: the security label says so.
        sourceIdentity: parties.sourceIdentity && 'unknown',
      };
}

/** An application's reset is none; a connection that we cut is, though its flag says nothing. */
function isOurFailure(reason: FailureReason): boolean {
  return REASON_FLAGS[reason] !== '-' || reason === 'drained' || reason === 'pod_removed';
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

function baseFields(parties: ConnectionParties, addresses: ConnectionAddresses): object {
  const { source, sourceBaggage: baggage, destination, service } = parties;
  return {
    'src.addr': addresses.src,
    'src.workload': source?.name ?? baggage?.canonicalName,
    'src.namespace': source?.namespace ?? baggage?.namespace,
    'src.identity': parties.sourceIdentity,
    'src.cluster': source?.clusterId ?? baggage?.clusterId,
    'dst.addr': addresses.dst,
    'dst.hbone_addr': addresses.hboneAddr,
    'dst.service': service?.hostname,
    'dst.workload': destination?.name,
    'dst.namespace': destination?.namespace,
    'dst.identity': parties.destinationIdentity,
    'dst.cluster': destination?.clusterId,
    direction: parties.direction,
    ...(parties.isNodeLocal === true ? { path: 'node_local' } : {}),
  };
}
