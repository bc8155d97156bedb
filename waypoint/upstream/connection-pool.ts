// Connections to one endpoint for one cluster: HTTP/1.1 connections used one request at a time, newest first, or
// HTTP/2 sessions shared by many. A request that finds none waits for a dial; waiting is bounded by the cluster.
import { Http1ClientConnection } from '../../engine/http1/client.ts';
import type { HttpStream, HttpStreamEvents } from '../../engine/http1/types.ts';
import type { HeaderList, Http2Session } from '../../engine/http2/types.ts';
import type { Duplex } from '../../engine/reactor/duplex.ts';
import { errorMessage } from '../../common/errors.ts';
import type { Endpoint } from '../cluster/endpoint.ts';
import { DialError } from './dial.ts';
import type { Dial } from './dial.ts';

/** A connection that can take one request now. */
export interface Lease {
  /** It has carried requests before: the peer may have closed it meanwhile. */
  readonly isReused: boolean;
  request(headers: HeaderList, endStream: boolean, events: HttpStreamEvents): HttpStream;
}

/** The answer to {@link ConnectionPool.acquire}: exactly one is called, unless the request was cancelled. */
export interface AcquireEvents {
  onReady(lease: Lease): void;
  onFailure(error: DialError): void;
}

/** Starts an HTTP/2 client session on a stream. */
export type OpenHttp2Client = (
  duplex: Duplex,
  events: { onGoaway(): void; onClose(): void },
) => Http2Session;

/** Limits of a pool, read for each use since configuration changes. */
export interface PoolLimits {
  readonly connectTimeoutMs: number;
  /** 0 is no limit. */
  readonly maxConnections: number;
  readonly maxRequestsPerConnection: number;
}

/** Options of {@link ConnectionPool}. */
export interface PoolOptions {
  readonly endpoint: Endpoint;
  readonly isHttp2: boolean;
  readonly dial: Dial;
  readonly openHttp2: OpenHttp2Client;
  readonly limits: () => PoolLimits;
  /** Connections of the cluster, counted over its endpoints. */
  readonly counters: { connections: number };
  readonly now: () => number;
}

const HEAD_LIMITS = { maxHeadBytes: 60 * 1024, maxHeaders: 100 };

interface Waiter {
  readonly events: AcquireEvents;
  isCancelled: boolean;
}

interface Http1Entry {
  readonly connection: Http1ClientConnection;
  idleSinceMs: number;
}

interface Http2Entry {
  readonly session: Http2Session;
  requests: number;
  idleSinceMs: number;
}

/** The connections to one endpoint. */
export class ConnectionPool {
  readonly #options: PoolOptions;
  readonly #idle: Http1Entry[] = [];
  readonly #sessions: Http2Entry[] = [];
  readonly #waiting: Waiter[] = [];
  #dialing = 0;
  #open = 0;
  #isClosed = false;

  constructor(options: PoolOptions) {
    this.#options = options;
  }

  get waiting(): number {
    return this.#waiting.length;
  }

  /** No connection is open and nobody waits. */
  get isUnused(): boolean {
    return this.#open === 0 && this.#dialing === 0 && this.#waiting.length === 0;
  }

  /** Whether a request could start at once. */
  get hasReady(): boolean {
    return this.#options.isHttp2
      ? this.#sessions.some(({ session }) => session.canOpenStream)
      : this.#idle.length > 0;
  }

  /** Asks for a connection; the answer may come at once. Returns a function that cancels the wait. */
  acquire(events: AcquireEvents): () => void {
    const lease = this.#ready();
    if (lease !== undefined) {
      events.onReady(lease);
      return () => undefined;
    }
    const waiter: Waiter = { events, isCancelled: false };
    this.#waiting.push(waiter);
    this.#dialIfNeeded();
    return () => {
      waiter.isCancelled = true;
      const at = this.#waiting.indexOf(waiter);
      if (at >= 0) this.#waiting.splice(at, 1);
    };
  }

  /** Closes what has been idle since before `beforeMs`; all idle connections with Infinity. */
  closeIdle(beforeMs: number): void {
    for (const entry of [...this.#idle]) {
      if (entry.idleSinceMs < beforeMs) {
        this.#idle.splice(this.#idle.indexOf(entry), 1);
        entry.connection.close();
      }
    }
    for (const entry of [...this.#sessions]) {
      if (entry.session.activeStreams > 0) entry.idleSinceMs = this.#options.now();
      else if (entry.idleSinceMs < beforeMs) entry.session.drain();
    }
  }

  /** Takes no more requests; connections close as they become idle. */
  close(): void {
    this.#isClosed = true;
    for (const waiter of this.#waiting.splice(0)) {
      waiter.events.onFailure(new DialError('connect', 'endpoint was removed'));
    }
    this.closeIdle(Infinity);
  }

  #ready(): Lease | undefined {
    return this.#options.isHttp2 ? this.#readySession() : this.#readyConnection();
  }

  #readyConnection(): Lease | undefined {
    for (let entry = this.#idle.pop(); entry !== undefined; entry = this.#idle.pop()) {
      if (entry.connection.isAvailable) return leaseOf(entry.connection);
    }
    return undefined;
  }

  #readySession(): Lease | undefined {
    const limit = this.#options.limits().maxRequestsPerConnection;
    for (const entry of this.#sessions) {
      if (!entry.session.canOpenStream) continue;
      if (limit > 0 && entry.requests >= limit) {
        entry.session.drain();
        continue;
      }
      return {
        isReused: entry.requests > 0,
        request: (headers, endStream, events) => {
          entry.requests++;
          entry.idleSinceMs = this.#options.now();
          return entry.session.request(headers, endStream, events);
        },
      };
    }
    return undefined;
  }

  #dialIfNeeded(): void {
    const { isHttp2, limits, counters, endpoint, dial } = this.#options;
    const { maxConnections, connectTimeoutMs } = limits();
    // One dial serves all who wait for an HTTP/2 session; each HTTP/1.1 request needs its own connection.
    const wanted = isHttp2 ? Math.min(1, this.#waiting.length) : this.#waiting.length;
    while (this.#dialing < wanted) {
      if (maxConnections > 0 && counters.connections >= maxConnections) return;
      this.#dialing++;
      counters.connections++;
      dial(endpoint, connectTimeoutMs).then(
        (duplex) => this.#onDialed(duplex),
        (err: unknown) => this.#onDialFailed(err),
      );
    }
  }

  #onDialed(duplex: Duplex): void {
    if (duplex.isClosed) {
      // It closed before it had a handler to tell.
      this.#onDialFailed(new DialError('connect', 'closed as soon as it was open'));
      return;
    }
    this.#dialing--;
    this.#open++;
    if (this.#options.isHttp2) this.#addSession(duplex);
    else this.#addConnection(duplex);
    this.#serveWaiting();
  }

  #onDialFailed(err: unknown): void {
    this.#dialing--;
    this.#options.counters.connections--;
    const error = err instanceof DialError ? err : new DialError('connect', errorMessage(err));
    // With HTTP/2 everybody waited for this dial; with HTTP/1.1 it was one request's.
    const failed = this.#options.isHttp2 ? this.#waiting.splice(0) : this.#waiting.splice(0, 1);
    for (const waiter of failed) if (!waiter.isCancelled) waiter.events.onFailure(error);
    this.#dialIfNeeded();
  }

  #addConnection(duplex: Duplex): void {
    const connection: Http1ClientConnection = new Http1ClientConnection(duplex, HEAD_LIMITS, {
      onIdle: () => {
        const limit = this.#options.limits().maxRequestsPerConnection;
        if (this.#isClosed || (limit > 0 && connection.requests >= limit)) {
          connection.close();
          return;
        }
        this.#idle.push({ connection, idleSinceMs: this.#options.now() });
        this.#serveWaiting();
      },
      onClose: () => {
        const at = this.#idle.findIndex((entry) => entry.connection === connection);
        if (at >= 0) this.#idle.splice(at, 1);
        this.#onConnectionClosed();
      },
    });
    this.#idle.push({ connection, idleSinceMs: this.#options.now() });
  }

  #addSession(duplex: Duplex): void {
    const session = this.#options.openHttp2(duplex, {
      onGoaway: () => this.#dropSession(session),
      onClose: () => {
        this.#dropSession(session);
        this.#onConnectionClosed();
      },
    });
    this.#sessions.push({ session, requests: 0, idleSinceMs: this.#options.now() });
  }

  #dropSession(session: Http2Session): void {
    const at = this.#sessions.findIndex((entry) => entry.session === session);
    if (at >= 0) this.#sessions.splice(at, 1);
  }

  #onConnectionClosed(): void {
    this.#open--;
    this.#options.counters.connections--;
    this.#dialIfNeeded();
  }

  #serveWaiting(): void {
    while (this.#waiting.length > 0) {
      const lease = this.#ready();
      if (lease === undefined) break;
      this.#waiting.shift()?.events.onReady(lease);
    }
    this.#dialIfNeeded();
  }
}

function leaseOf(connection: Http1ClientConnection): Lease {
  return {
    isReused: connection.requests > 0,
    request: (headers, endStream, events) => connection.request(headers, endStream, events),
  };
}
