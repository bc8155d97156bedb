// The connections of one pod that are being relayed or set up: for the admin dump, for re-evaluation when policies
// change, and for closing. A connection registers before its policy check, so that no change can slip between.
import type { ConnectionFacts } from '../../common/policy/evaluate.ts';
import type { ConnectionDetails, ConnectionDump } from '../messages.ts';
import type { OpenConnection } from './connection-result.ts';
import type { FailureReason } from './reasons.ts';

/** Ends a connection for a reason of ours; its owner records it. */
export type AbortConnection = (reason: FailureReason, detail: string, by?: DecidingRule) => void;

/** The policy and the index of its rule that ended a connection. */
export interface DecidingRule {
  readonly policy: string | undefined;
  readonly rule: number | undefined;
}

/** A registered connection. */
export interface TrackedConnection {
  readonly direction: 'inbound' | 'outbound';
  readonly dump: () => ConnectionDump;
  /** Parties, addresses, bytes. */
  readonly record: OpenConnection;
  /** Inbound: what policies look at. */
  readonly facts: ConnectionFacts | undefined;
  readonly abort: AbortConnection;
}

/** Owns a pod's connections. */
export class ConnectionManager {
  readonly #connections = new Set<TrackedConnection>();
  readonly #onChange: (() => void) | undefined;
  /** Why the pod has ended: who comes after that ends at once. */
  #ended: { readonly reason: FailureReason; readonly detail: string } | undefined;
  /** Since the pod joined. */
  openedTotal = 0;
  /** Bytes of connections that have ended. */
  #endedReceived = 0;
  #endedSent = 0;

  /** `onChange` is told whenever {@link size} has changed. */
  constructor(onChange?: () => void) {
    this.#onChange = onChange;
  }

  /**
   * Registers; call the returned function when the connection has ended. When the pod has ended, the connection is told so
   * before this returns.
   */
  register(connection: TrackedConnection): () => void {
    this.#connections.add(connection);
    this.openedTotal++;
    this.#onChange?.();
    if (this.#ended !== undefined) connection.abort(this.#ended.reason, this.#ended.detail);
    return () => {
      this.#connections.delete(connection);
      this.#onChange?.();
      this.#endedReceived += connection.record.received;
      this.#endedSent += connection.record.sent;
    };
  }

  get size(): number {
    return this.#connections.size;
  }

  count(direction: 'inbound' | 'outbound'): number {
    let count = 0;
    for (const connection of this.#connections) if (connection.direction === direction) count++;
    return count;
  }

  /** Bytes since the pod joined: client to server, server to client. */
  bytes(): { received: number; sent: number } {
    const total = { received: this.#endedReceived, sent: this.#endedSent };
    for (const { record } of this.#connections) {
      total.received += record.received;
      total.sent += record.sent;
    }
    return total;
  }

  /** The connections as the admin port shows them; made on request only. */
  *details(nowMs: number): Generator<ConnectionDetails> {
    for (const connection of this.#connections) yield detailsOf(connection, nowMs);
  }

  dumps(direction: 'inbound' | 'outbound'): ConnectionDump[] {
    return this.inbound(direction).map(({ dump }) => dump());
  }

  /** The inbound connections (or the outbound ones), as a copy. */
  inbound(direction: 'inbound' | 'outbound' = 'inbound'): TrackedConnection[] {
    return [...this.#connections].filter((connection) => connection.direction === direction);
  }

  /** Ends everything, also what is registered later. */
  abortAll(reason: FailureReason, detail: string): void {
    this.#ended ??= { reason, detail };
    for (const connection of [...this.#connections]) connection.abort(reason, detail);
  }
}

function detailsOf(
  { direction, dump, record }: TrackedConnection,
  nowMs: number,
): ConnectionDetails {
  const { parties, startedMs } = record.fields;
  const { source, sourceBaggage: baggage, destination, service } = parties;
  return {
    ...dump(),
    direction,
    source:
      source === undefined
        ? nameOf(baggage && { namespace: baggage.namespace, name: baggage.workloadName })
        : nameOf(source),
    destination: nameOf(destination),
    service: service?.hostname ?? null,
    sourceIdentity: parties.sourceIdentity ?? null,
    destinationIdentity: parties.destinationIdentity ?? null,
    bytesReceived: record.received,
    bytesSent: record.sent,
    ageMs: Math.max(0, nowMs - startedMs),
  };
}

/** `namespace/name`; null is unknown. */
function nameOf(
  who: { readonly namespace?: string | undefined; readonly name?: string | undefined } | undefined,
): string | null {
  return who === undefined ? null : `${who.namespace ?? ''}/${who.name ?? ''}`;
}
