// The opening side of HBONE: tunnels share HTTP/2 connections. One pool belongs to one source (a pod); its key is
// source identity, expected identities, address and port. One dial at a time for each key; others wait for it.
import { connectHttp2 } from '../../engine/http2/http2-session.ts';
import type { HeaderList, Http2Session, Http2SessionOptions } from '../../engine/http2/types.ts';
import { closeWatcher, type CloseReason, type Duplex } from '../../engine/reactor/duplex.ts';
import type { Reactor } from '../../engine/reactor/reactor.ts';
import { StreamError } from '../../engine/reactor/stream-error.ts';
import type { TcpStream } from '../../engine/reactor/tcp-stream.ts';
import type { ReactorTimer } from '../../engine/reactor/timer-heap.ts';
import { startTls } from '../../engine/tls/tls-connection.ts';
import type { TlsConnection } from '../../engine/tls/types.ts';
import type { TlsContext } from '../../engine/tls/tls-context.ts';
import { errorMessage } from '../errors.ts';
import { firstIdentity, verifyExpected } from './peer-identity.ts';
import { REVOKED_DETAIL } from './rejection.ts';
import { CLIENT_SESSION } from './settings.ts';
import type { Tunnel, TunnelFailure, TunnelTarget } from './types.ts';

const DEFAULT_MAX_STREAMS = 100;
const DEFAULT_IDLE_MS = 5 * 60_000;
const DEFAULT_MAX_CONNECTIONS = 5_000;
// A stream the peer did not process (GOAWAY, REFUSED_STREAM) is safe to send again.
const MAX_ATTEMPTS = 4;
/** Connections for one destination before those that are held up are used again: each may hold its whole window. */
const MAX_BESIDE_HELD_UP = 3;

/** How a pool makes connections. */
export interface HbonePoolOptions {
  /** Makes the TCP connection: in the pod's network namespace, marked. Rejects with StreamError. */
  readonly dial: (target: TunnelTarget, signal?: AbortSignal) => Promise<TcpStream>;
  /** Client context of an identity; rejects or throws when there is no certificate. */
  readonly context: (sourceIdentity: string) => TlsContext | Promise<TlsContext>;
  /** Default 100; the peer's own limit counts too. */
  readonly maxStreamsPerConnection?: number;
  /** Connections without tunnels are closed after this. Default 5 min. */
  readonly idleTimeoutMs?: number;
  readonly handshakeTimeoutMs?: number;
  /** Longest wait for the answer to CONNECT; default: as long as the caller's signal allows. */
  readonly responseTimeoutMs?: number;
  readonly maxConnections?: number;
  readonly session?: Http2SessionOptions;
}

interface PooledConnection {
  readonly session: Http2Session;
  readonly tls: TlsConnection;
  readonly sourceIdentity: string;
  readonly serverIdentity: string | undefined;
  lastUsedMs: number;
}

interface PoolEntry {
  readonly address: string;
  readonly connections: PooledConnection[];
  dialing: Promise<PooledConnection> | undefined;
}

/** True if `result` says why there is no tunnel. */
export function isTunnelFailure(result: Tunnel | TunnelFailure): result is TunnelFailure {
  return 'code' in result;
}

class TunnelError extends Error {
  readonly failure: TunnelFailure;

  constructor(failure: TunnelFailure) {
    super(failure.detail);
    this.failure = failure;
  }
}

/** Pooled tunnels of one source. */
export class HbonePool {
  readonly #reactor: Reactor;
  readonly #options: HbonePoolOptions;
  readonly #entries = new Map<string, PoolEntry>();
  /** All that are open, also those that take no new tunnels. */
  readonly #established = new Set<PooledConnection>();
  #connectionCount = 0;
  #sweepTimer: ReactorTimer | undefined;
  #closed = false;

  constructor(reactor: Reactor, options: HbonePoolOptions) {
    this.#reactor = reactor;
    this.#options = options;
  }

  /** Open connections; for metrics and tests. */
  get connections(): number {
    return this.#connectionCount;
  }

  /** Destinations that are remembered; none for longer than it has connections. For tests. */
  get destinations(): number {
    return this.#entries.size;
  }

  /**
   * Opens a tunnel. Never rejects. The tunnel's stream is paused: set `handler`, then `resume()`, or relay it.
   * When `signal` aborts, the request is reset and the result is a `timeout` failure.
   */
  async connect(target: TunnelTarget, signal?: AbortSignal): Promise<Tunnel | TunnelFailure> {
    for (let attempt = 1; ;) {
      try {
        const connection = await this.#connection(target, signal);
        const result = await this.#request(connection, target, signal);
        if (result === 'full') continue;
        if (result !== 'retry') return result;
        if (++attempt > MAX_ATTEMPTS) return { code: 'h2', detail: 'peer refuses streams' };
      } catch (err) {
        return failureOf(err);
      }
    }
  }

  async #connection(target: TunnelTarget, signal?: AbortSignal): Promise<PooledConnection> {
    const key = poolKey(target);
    for (;;) {
      if (this.#closed) throw new TunnelError({ code: 'connect', detail: 'pool is closed' });
      if (signal?.aborted === true) throw new TunnelError({ code: 'timeout', detail: 'aborted' });
      const entry = this.#entry(key, target.address);
      const usable = this.#usable(entry);
      if (usable !== undefined) return usable;
      if (entry.dialing === undefined) return abortable(this.#dialFor(entry, target, key), signal);
      await abortable(entry.dialing, signal);
    }
  }

  /** A few readers that stand still hold up a whole connection: others go beside it, as far as memory should go. */
  #usable({ connections }: PoolEntry): PooledConnection | undefined {
    const usable = connections.find((one) => this.#hasRoom(one) && !one.session.isHeldUp);
    if (usable !== undefined || connections.length < MAX_BESIDE_HELD_UP) return usable;
    return connections.find((one) => this.#hasRoom(one));
  }

  #hasRoom({ session }: PooledConnection): boolean {
    const max = this.#options.maxStreamsPerConnection ?? DEFAULT_MAX_STREAMS;
    return session.canOpenStream && session.activeStreams < max;
  }

  #entry(key: string, address: string): PoolEntry {
    let entry = this.#entries.get(key);
    if (entry === undefined) {
      entry = { address, connections: [], dialing: undefined };
      this.#entries.set(key, entry);
    }
    return entry;
  }

  async #dialFor(entry: PoolEntry, target: TunnelTarget, key: string): Promise<PooledConnection> {
    // Without the caller's signal: others wait for this dial too. It ends by its own time-outs.
    const dialing = this.#dial(entry, target, key);
    entry.dialing = dialing;
    try {
      return await dialing;
    } finally {
      entry.dialing = undefined;
      if (entry.connections.length === 0) this.#entries.delete(key);
    }
  }

  async #dial(entry: PoolEntry, target: TunnelTarget, key: string): Promise<PooledConnection> {
    if (!this.#hasPlace()) {
      throw new TunnelError({ code: 'limit', detail: 'too many pooled connections' });
    }
    this.#connectionCount++;
    try {
      const context = await this.#context(target.sourceIdentity);
      const tcp = await this.#options.dial(target);
      return await this.#establish(tcp, context, { entry, target, key });
    } catch (err) {
      this.#connectionCount--;
      throw err;
    }
  }

  /** At the limit the connection that has been idle longest goes. */
  #hasPlace(): boolean {
    const max = this.#options.maxConnections ?? DEFAULT_MAX_CONNECTIONS;
    if (this.#connectionCount < max) return true;
    let oldest: PooledConnection | undefined;
    for (const one of this.#established) {
      const isIdle = one.session.activeStreams === 0;
      if (isIdle && one.lastUsedMs < (oldest?.lastUsedMs ?? Infinity)) oldest = one;
    }
    if (oldest === undefined) return false;
    this.#established.delete(oldest);
    oldest.session.close('its place is needed');
    return true;
  }

  async #context(identity: string): Promise<TlsContext> {
    try {
      return await this.#options.context(identity);
    } catch (err) {
      throw new TunnelError({ code: 'certificate', detail: errorMessage(err) });
    }
  }

  async #establish(
    tcp: TcpStream,
    context: TlsContext,
    at: { entry: PoolEntry; target: TunnelTarget; key: string },
  ): Promise<PooledConnection> {
    const { entry, target, key } = at;
    const { handshakeTimeoutMs } = this.#options;
    let refusal: string | undefined;
    const tls = await startTls(tcp, context, {
      ...(handshakeTimeoutMs === undefined ? {} : { handshakeTimeoutMs }),
      verifyPeer: (uriSans) => (refusal = verifyExpected(target.expectedIdentities, uriSans)),
    }).catch((err: unknown) => {
      throw refusal === undefined ? err : new TunnelError({ code: 'identity', detail: refusal });
    });
    // Certificate and revocation lists may have changed while the handshake ran by the context it began with.
    const current = await this.#context(target.sourceIdentity).catch((err: unknown) => {
      tls.reset();
      throw err;
    });
    if (this.#closed) {
      tls.reset();
      throw new TunnelError({ code: 'connect', detail: 'pool is closed' });
    }
    if (current !== context && tls.isRevokedBy(current)) {
      tls.reset();
      throw new TunnelError({ code: 'tls', detail: REVOKED_DETAIL });
    }
    const remove = (): void => this.#remove(key, entry, connection);
    const session = connectHttp2(this.#reactor, tls, this.#options.session ?? CLIENT_SESSION, {
      onGoaway: remove,
      onClose: () => {
        this.#connectionCount--;
        this.#established.delete(connection);
        remove();
      },
    });
    const connection: PooledConnection = {
      session,
      tls,
      sourceIdentity: target.sourceIdentity,
      serverIdentity: firstIdentity(tls.peer.uriSans),
      lastUsedMs: this.#reactor.now(),
    };
    entry.connections.push(connection);
    this.#established.add(connection);
    this.#entries.set(key, entry);
    this.#scheduleSweep();
    // Who waits for it now may use it, nobody later: it was verified by what has been replaced.
    if (current !== context) this.#reactor.after(0, () => this.#retire(entry, connection));
    return connection;
  }

  #retire(entry: PoolEntry, connection: PooledConnection): void {
    const at = entry.connections.indexOf(connection);
    if (at < 0) return;
    entry.connections.splice(at, 1);
    connection.session.drain();
  }

  #remove(key: string, entry: PoolEntry, connection: PooledConnection): void {
    const at = entry.connections.indexOf(connection);
    if (at >= 0) entry.connections.splice(at, 1);
    const isUnused = entry.connections.length === 0 && entry.dialing === undefined;
    if (isUnused && this.#entries.get(key) === entry) this.#entries.delete(key);
  }

  #request(
    connection: PooledConnection,
    target: TunnelTarget,
    signal?: AbortSignal,
  ): Promise<Tunnel | TunnelFailure | 'retry' | 'full'> {
    // Another waiter may have taken the last stream.
    if (!this.#hasRoom(connection)) return Promise.resolve('full');
    connection.lastUsedMs = this.#reactor.now();
    const { promise, resolve } = Promise.withResolvers<Tunnel | TunnelFailure | 'retry'>();
    let mayBeDelivered = false;
    const onAbort = (): void => {
      resolve({ code: 'timeout', detail: 'no answer to CONNECT', mayBeDelivered });
      stream.reset();
    };
    let timer: ReactorTimer | undefined;
    const settle = (result: Tunnel | TunnelFailure | 'retry'): void => {
      timer?.cancel();
      signal?.removeEventListener('abort', onAbort);
      resolve(result);
    };
    const stream = connection.session.request(connectHeaders(target), false, {
      onHeaders: (headers) => {
        const status = Number(headers.find(([name]) => name === ':status')?.[1] ?? 0);
        if (status >= 100 && status < 200) return;
        settle(answer({ stream, connection, headers, earlyBytes }, status));
      },
      onTrailers: () => undefined,
    });
    // Not before there is a stream to reset. It costs a tenth of an AbortController for each tunnel.
    const { responseTimeoutMs } = this.#options;
    if (responseTimeoutMs !== undefined) timer = this.#reactor.after(responseTimeoutMs, onAbort);
    const early = target.early?.take();
    const earlyBytes = early?.length ?? 0;
    if (early !== undefined && earlyBytes > 0) stream.writeBytes(early);
    mayBeDelivered = earlyBytes > 0;
    stream.handler = closeWatcher((reason) => settle(retryOrFailure(reason, mayBeDelivered)));
    signal?.addEventListener('abort', onAbort, { once: true });
    return promise;
  }

  #scheduleSweep(): void {
    if (this.#sweepTimer !== undefined) return;
    const idleMs = this.#options.idleTimeoutMs ?? DEFAULT_IDLE_MS;
    this.#sweepTimer = this.#reactor.after(Math.max(10, idleMs / 4), () => {
      this.#sweepTimer = undefined;
      this.#sweep(idleMs);
      if (this.#entries.size > 0 && !this.#closed) this.#scheduleSweep();
    });
  }

  #sweep(idleMs: number): void {
    const now = this.#reactor.now();
    for (const entry of this.#entries.values()) {
      for (const connection of [...entry.connections]) {
        if (connection.session.activeStreams > 0) connection.lastUsedMs = now;
        else if (now - connection.lastUsedMs >= idleMs) connection.session.close('idle');
      }
    }
  }

  /** New tunnels use new connections (certificate or policy changed); existing tunnels go on. */
  drain(): void {
    for (const entry of this.#entries.values()) {
      for (const { session } of entry.connections.splice(0)) session.drain();
    }
  }

  /** As `drain`, for connections to the addresses that `isStale` names: their workloads leave the mesh. */
  drainAddresses(isStale: (address: string) => boolean): void {
    for (const entry of this.#entries.values()) {
      if (!isStale(entry.address)) continue;
      for (const { session } of entry.connections.splice(0)) session.drain();
    }
  }

  /** Ends connections of an identity whose server's certificate the lists of `context` revoke; tells how many. */
  closeRevoked(sourceIdentity: string, context: TlsContext): number {
    const revoked = [...this.#established].filter(
      (one) => one.sourceIdentity === sourceIdentity && one.tls.isRevokedBy(context),
    );
    for (const { session } of revoked) session.close(REVOKED_DETAIL, 'revoked');
    return revoked.length;
  }

  /** Ends all connections and tunnels. */
  close(detail: string): void {
    this.#closed = true;
    this.#sweepTimer?.cancel();
    // Also those that drain: their streams are the same source's.
    for (const { session } of [...this.#established]) session.close(detail);
    this.#entries.clear();
  }
}

function poolKey(target: TunnelTarget): string {
  const expected = [...target.expectedIdentities].sort().join(' ');
  return `${target.sourceIdentity}|${expected}|${target.address}|${target.port}`;
}

function connectHeaders(target: TunnelTarget): HeaderList {
  return [[':method', 'CONNECT'], [':authority', target.authority], ...target.headers];
}

interface Answered {
  readonly stream: Duplex;
  readonly connection: PooledConnection;
  readonly headers: HeaderList;
  readonly earlyBytes: number;
}

/** A server that refuses has not passed on what came early. */
function answer(
  { stream, connection, headers, earlyBytes }: Answered,
  status: number,
): Tunnel | TunnelFailure {
  if (status !== 200) {
    stream.reset();
    return { code: 'status', detail: `http status: ${status}`, status };
  }
  const { serverIdentity } = connection;
  return { stream, responseHeaders: headers, serverIdentity, earlyBytes };
}

function retryOrFailure(reason: CloseReason, mayBeDelivered: boolean): TunnelFailure | 'retry' {
  // Not processed at all, says the peer.
  if (reason.code === 'goaway' || reason.code === 'refused') return 'retry';
  const code = reason.code === 'tls' || reason.code === 'timeout' ? reason.code : 'h2';
  return { code, detail: reason.detail, mayBeDelivered };
}

function failureOf(err: unknown): TunnelFailure {
  if (err instanceof TunnelError) return err.failure;
  if (!(err instanceof StreamError)) return { code: 'connect', detail: errorMessage(err) };
  const { code, detail } = err.reason;
  if (code === 'tls' || code === 'timeout' || code === 'limit') return { code, detail };
  return { code: 'connect', detail };
}

/** What `wait` gives, unless the signal comes first: then a `timeout` failure is thrown, and `wait` goes on for others. */
async function abortable<T>(wait: Promise<T>, signal: AbortSignal | undefined): Promise<T> {
  if (signal === undefined) return wait;
  const { promise, reject } = Promise.withResolvers<never>();
  const onAbort = (): void => reject(new TunnelError({ code: 'timeout', detail: 'aborted' }));
  signal.addEventListener('abort', onAbort, { once: true });
  try {
    return await Promise.race([wait, promise]);
  } finally {
    signal.removeEventListener('abort', onAbort);
  }
}
