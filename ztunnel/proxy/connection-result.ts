// One result for each connection, written exactly once: counters, and the access line. Connections refused before
// anything was decided are counted too (Istio's ztunnel only logs them), by reason.
import { MeshError } from '../../common/errors.ts';
import type { PolicyVerdict } from '../../common/policy/evaluate.ts';
import type { Logger } from '../../common/telemetry/logger.ts';
import { renderLabels } from '../../common/telemetry/series-table.ts';
import type { SeriesTable } from '../../common/telemetry/series-table.ts';
import type { Workload } from '../../common/workload/model.ts';
import type { RelayCounters } from '../../engine/reactor/duplex.ts';
import { baseFields, isOurFailure, traceFields } from './access-line.ts';
import type { ConnectionAddresses } from './access-line.ts';
import { REASON_FLAGS } from './reasons.ts';
import type { FailureReason } from './reasons.ts';
import { SeriesGroups } from './series-groups.ts';
import type { SeriesGroup } from './series-groups.ts';
import { sourceLabels } from './traffic-labels.ts';
import type { ConnectionParties } from './traffic-labels.ts';

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

/** Makes and finishes the records of a data thread. */
export class ConnectionRecorder {
  readonly groups: SeriesGroups;
  readonly #table: SeriesTable;
  readonly #logger: Logger;
  readonly #now: () => number;
  readonly #opened: number;
  readonly #socketsOpen: { readonly inbound: number; readonly outbound: number };

  /** `thread` is the number of the data thread. */
  constructor(table: SeriesTable, logger: Logger, now: () => number = Date.now, thread = 0) {
    this.#table = table;
    this.#logger = logger;
    this.#now = now;
    this.groups = new SeriesGroups(table);
    this.#opened = table.cell('ambient_data_thread_connections', `thread="${thread}"`);
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
    const group = this.groups.of(parties);
    group.isStale = false;
    this.#table.add(group.opened, 1);
    this.#table.add(this.#opened, 1);
    this.#table.add(this.#socketsOpen[parties.direction], 1);
    group.openCount++;
    if (this.#logger.isLevelEnabled('debug')) {
      const fields = { ...baseFields(parties, addresses), ...traceFields(addresses) };
      this.#logger.debug(fields, 'connection opened');
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

  /** Records a connection that was refused before it was opened. */
  refuse(
    parties: ConnectionParties,
    addresses: ConnectionAddresses,
    reason: FailureReason,
    detail: string,
  ): void {
    this.#countReason(parties.direction, reason);
    if (!this.#logger.isLevelEnabled('warn')) return;
    const base = baseFields(parties, addresses);
    const fields = { ...base, error: detail, reason, ...traceFields(addresses) };
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
      duration: `${Math.max(0, Math.round(this.#now() - startedMs))}ms`,
      ...(reason === undefined
        ? {}
        : { error: outcome.detail, reason, response_flags: REASON_FLAGS[reason] }),
      ...(outcome.policy === undefined ? {} : { policy: outcome.policy, rule: outcome.rule }),
      ...traceFields(addresses),
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
