// The connections of one pod that are being relayed or set up: for the admin dump, for re-evaluation when policies
// change, and for closing. A connection registers before its policy check, so that no change can slip between.
import type { ConnectionFacts } from '../../common/policy/evaluate.ts';
import type { ConnectionDump } from '../messages.ts';
import type { FailureReason } from './reasons.ts';

/** Ends a connection for a reason of ours; its owner records it. */
export type AbortConnection = (reason: FailureReason, detail: string, policy?: string) => void;

/** A registered connection. */
export interface TrackedConnection {
  readonly direction: 'inbound' | 'outbound';
  readonly dump: () => ConnectionDump;
  /** Inbound: what policies look at. */
  readonly facts: ConnectionFacts | undefined;
  readonly abort: AbortConnection;
}

/** Owns a pod's connections. */
export class ConnectionManager {
  readonly #connections = new Set<TrackedConnection>();
  #onEmpty: (() => void) | undefined;

  /** Registers; call the returned function when the connection has ended. */
  register(connection: TrackedConnection): () => void {
    this.#connections.add(connection);
    return () => {
      this.#connections.delete(connection);
      if (this.#connections.size === 0) this.#onEmpty?.();
    };
  }

  get size(): number {
    return this.#connections.size;
  }

  dumps(direction: 'inbound' | 'outbound'): ConnectionDump[] {
    return this.inbound(direction).map(({ dump }) => dump());
  }

  /** The inbound connections (or the outbound ones), as a copy. */
  inbound(direction: 'inbound' | 'outbound' = 'inbound'): TrackedConnection[] {
    return [...this.#connections].filter((connection) => connection.direction === direction);
  }

  /** Ends everything. */
  abortAll(reason: FailureReason, detail: string): void {
    for (const connection of [...this.#connections]) connection.abort(reason, detail);
  }

  /** Resolves when no connection is left. */
  whenEmpty(): Promise<void> {
    if (this.#connections.size === 0) return Promise.resolve();
    return new Promise((resolve) => {
      this.#onEmpty = resolve;
    });
  }
}
