// Sends an exchange upstream: picks an endpoint, gets a connection, streams both ways, and tries again as the
// route's policy says while nothing of a response has gone downstream and the request can be replayed.
import type { HttpStream, HttpStreamEvents } from '../../engine/http1/types.ts';
import type { HeaderList } from '../../engine/http2/types.ts';
import {
  IGNORE_STREAM,
  type CloseReason,
  type DuplexHandler,
} from '../../engine/reactor/duplex.ts';
import type { Header } from '../../common/l7/request.ts';
import { backoffMs, isRetriable } from '../../common/l7/retry.ts';
import type { CompiledRetry, TryOutcome } from '../../common/l7/retry.ts';
import type { HeaderOps } from '../../common/l7/gen/l7_pb.ts';
import type { ClusterRuntime } from '../cluster/cluster-runtime.ts';
import type { Endpoint } from '../cluster/endpoint.ts';
import type { Lease } from '../upstream/connection-pool.ts';
import type { DialError } from '../upstream/dial.ts';
import type { Exchange, UpstreamWork } from './exchange.ts';
import type { FailureCode } from './respond.ts';

/** What a call needs besides its exchange. */
export interface UpstreamCallOptions {
  readonly cluster: ClusterRuntime;
  readonly isHttp2: boolean;
  readonly timeoutMs: number;
  readonly retry: CompiledRetry | undefined;
  /** Applied to the response, in order. */
  readonly responseOps: readonly (HeaderOps | undefined)[];
  readonly after: (delayMs: number, fn: () => void) => { cancel(): void };
  readonly random: () => number;
}

/** Closed before a response on a connection that was used before: safe for these methods (RFC 9110 section 9.2.2). */
const IDEMPOTENT = new Set(['GET', 'HEAD', 'OPTIONS', 'TRACE', 'PUT', 'DELETE']);
const MAX_STALE_RETRIES = 3;

/** One call, possibly of several tries. */
export class UpstreamCall implements UpstreamWork, DuplexHandler, HttpStreamEvents {
  readonly #exchange: Exchange;
  readonly #options: UpstreamCallOptions;
  readonly #tried = new Set<string>();
  #endpoint: Endpoint | undefined;
  #stream: HttpStream | undefined;
  #cancelAcquire: (() => void) | undefined;
  #routeTimer: { cancel(): void } | undefined;
  #tryTimer: { cancel(): void } | undefined;
  #backoff: { cancel(): void } | undefined;
  #isPending = false;
  #isActive = false;
  #isReusedConnection = false;
  #retries = 0;
  #staleRetries = 0;
  #sentAtMs = 0;
  #hasResponse = false;
  #isTunnel = false;
  #hasUpstreamEnded = false;
  #trailers: HeaderList | undefined;
  #isDone = false;

  constructor(exchange: Exchange, options: UpstreamCallOptions) {
    this.#exchange = exchange;
    this.#options = options;
    if (options.retry !== undefined || IDEMPOTENT.has(exchange.method))
      exchange.body.keepForRetry();
  }

  start(): void {
    const { timeoutMs, after } = this.#options;
    if (timeoutMs > 0) {
      this.#routeTimer = after(timeoutMs, () => this.#fail('upstream_timeout'));
    }
    this.#try();
  }

  onDownstreamDrain(): void {
    this.#stream?.resume();
  }

  abort(): void {
    if (this.#isDone) return;
    this.#finish();
  }

  #try(): void {
    const { cluster, isHttp2 } = this.#options;
    const exchange = this.#exchange;
    if (!cluster.admitsRequest) {
      this.#fail('upstream_overflow');
      return;
    }
    const endpoint = cluster.pick(this.#tried.size === 0 ? undefined : this.#tried);
    if (endpoint === undefined) {
      this.#fail('no_healthy_upstream');
      return;
    }
    const pool = cluster.pool(endpoint, isHttp2);
    if (!pool.hasReady && !cluster.admitsPending) {
      this.#fail('upstream_overflow');
      return;
    }
    this.#endpoint = exchange.endpoint = endpoint;
    exchange.attempts++;
    this.#isActive = this.#isPending = true;
    cluster.activeRequests++;
    cluster.pendingRequests++;
    endpoint.activeRequests++;
    const perTryMs = this.#options.retry?.perTryTimeoutMs ?? 0;
    if (perTryMs > 0) {
      this.#tryTimer = this.#options.after(perTryMs, () => this.#onTryTimeout());
    }
    this.#cancelAcquire = pool.acquire({
      onReady: (lease) => this.#send(lease),
      onFailure: (error) => this.#onDialFailure(error),
    });
  }

  #send(lease: Lease): void {
    if (this.#isDone || !this.#isActive) return;
    this.#notPending();
    const exchange = this.#exchange;
    const { body } = exchange;
    this.#isReusedConnection = lease.isReused;
    this.#sentAtMs = performance.now();
    const endStream = body.isEmpty && !exchange.isUpgrade;
    const stream = lease.request(this.#requestHead(), endStream, this);
    stream.handler = this;
    this.#stream = stream;
    stream.resume();
    if (!endStream) body.attach(stream);
  }

  #requestHead(): HeaderList {
    const { method, scheme, authority, path, headers } = this.#exchange;
    return [
      [':method', method],
      [':scheme', scheme],
      [':authority', authority],
      [':path', path],
      ...headers,
    ];
  }

  onHeaders(list: HeaderList, endStream: boolean): void {
    if (this.#isDone) return;
    const status = Number(list[0]?.[1] ?? '0');
    if (status < 200 && status !== 101) {
      // 100 has been answered here already; other interim answers are the caller's to see.
      if (status !== 100) this.#exchange.sendInterim(list);
      return;
    }
    const headers: Header[] = [];
    let grpcStatus: number | undefined;
    for (const header of list) {
      if (header[0].startsWith(':')) continue;
      if (header[0] === 'grpc-status') grpcStatus = Number(header[1]);
      headers.push(header);
    }
    this.#noteResult(status);
    if (this.#retryAfter({ kind: 'response', status, grpcStatus })) return;
    this.#hasResponse = true;
    this.#tryTimer?.cancel();
    this.#isTunnel = status === 101;
    const exchange = this.#exchange;
    exchange.grpcStatus = grpcStatus;
    exchange.upstreamServiceMs = Math.round(performance.now() - this.#sentAtMs);
    if (!this.#isTunnel) {
      headers.push(['x-envoy-upstream-service-time', String(exchange.upstreamServiceMs)]);
    }
    // A tunnel lives as long as its ends; the route's timeout is for a response.
    if (this.#isTunnel) this.#routeTimer?.cancel();
    exchange.sendResponse(status, headers, this.#options.responseOps);
    if (endStream) this.onEnd();
  }

  onTrailers(trailers: HeaderList): void {
    this.#trailers = trailers;
    for (const [name, value] of trailers) {
      if (name === 'grpc-status') this.#exchange.grpcStatus = Number(value);
    }
  }

  onData(address: number, length: number): void {
    if (this.#isDone || !this.#hasResponse) return;
    const exchange = this.#exchange;
    exchange.bytesSent += length;
    if (!exchange.downstream.write(address, length)) this.#stream?.pause();
  }

  onEnd(): void {
    if (this.#isDone || this.#hasUpstreamEnded || !this.#hasResponse) return;
    this.#hasUpstreamEnded = true;
    const { downstream } = this.#exchange;
    if (this.#isTunnel) {
      downstream.end();
      if (this.#exchange.body.hasEnded) this.#complete();
      return;
    }
    // Counted and logged first: the last byte may make the caller ask for the metrics.
    this.#complete();
    if (this.#trailers === undefined) downstream.end();
    else downstream.endWithTrailers(this.#trailers);
  }

  onDrain(): void {
    this.#exchange.body.resume();
  }

  onClose(reason: CloseReason): void {
    if (this.#isDone) return;
    this.#stream = undefined;
    if (this.#hasResponse) {
      if (this.#isTunnel) {
        this.#exchange.downstream.end();
        this.#complete();
        return;
      }
      this.#exchange.transportFailure = reason.detail;
      this.#fail('upstream_reset');
      return;
    }
    this.#noteResult(0);
    const outcome: TryOutcome =
      reason.code === 'refused' || reason.code === 'goaway'
        ? { kind: 'refused' }
        : { kind: 'reset', wasReused: this.#isReusedConnection };
    if (this.#retryAfter(outcome)) return;
    this.#exchange.transportFailure = reason.detail;
    const isBroken = reason.code === 'protocol' || reason.code === 'limit';
    this.#fail(isBroken ? 'upstream_protocol_error' : 'upstream_reset');
  }

  #onDialFailure(error: DialError): void {
    if (this.#isDone) return;
    this.#notPending();
    this.#noteResult(0);
    this.#exchange.transportFailure = error.message;
    if (this.#retryAfter({ kind: 'connect-failure' })) return;
    this.#fail(
      error.code === 'identity' ? 'upstream_identity_mismatch' : 'upstream_connect_failure',
    );
  }

  #onTryTimeout(): void {
    if (this.#isDone || this.#hasResponse) return;
    this.#noteResult(504);
    if (this.#retryAfter({ kind: 'per-try-timeout' })) return;
    this.#fail('upstream_per_try_timeout');
  }

  #noteResult(status: number): void {
    if (this.#endpoint !== undefined) this.#options.cluster.record(this.#endpoint, status);
  }

  /** Starts another try when the policy allows it. */
  #retryAfter(outcome: TryOutcome): boolean {
    const exchange = this.#exchange;
    if (exchange.hasResponded || !exchange.body.isReplayable || exchange.isUpgrade) return false;
    if (this.#isStaleConnection(outcome)) {
      this.#staleRetries++;
      this.#endTry();
      this.#try();
      return true;
    }
    const { retry, after, random } = this.#options;
    if (retry === undefined || !isRetriable(retry, outcome)) return false;
    if (this.#retries >= retry.attempts) {
      if (outcome.kind !== 'response') exchange.flags.push('URX');
      return false;
    }
    this.#retries++;
    if (this.#endpoint !== undefined) this.#tried.add(this.#endpoint.key);
    this.#endTry();
    this.#backoff = after(backoffMs(retry, this.#retries, random), () => this.#try());
    return true;
  }

  /** A kept-alive connection that the peer closed as we used it: not a failure of the request. */
  #isStaleConnection(outcome: TryOutcome): boolean {
    return (
      outcome.kind === 'reset' &&
      outcome.wasReused &&
      this.#staleRetries < MAX_STALE_RETRIES &&
      IDEMPOTENT.has(this.#exchange.method)
    );
  }

  #endTry(): void {
    this.#tryTimer?.cancel();
    this.#cancelAcquire?.();
    this.#notPending();
    this.#exchange.body.detach();
    const stream = this.#stream;
    this.#stream = undefined;
    if (stream !== undefined && !stream.isClosed) {
      stream.handler = IGNORE_STREAM;
      const isOver = this.#hasUpstreamEnded && this.#exchange.body.hasEnded && !this.#isTunnel;
      if (!isOver) stream.reset();
    }
    if (this.#isActive) {
      this.#isActive = false;
      this.#options.cluster.activeRequests--;
      if (this.#endpoint !== undefined) this.#endpoint.activeRequests--;
    }
  }

  #notPending(): void {
    if (!this.#isPending) return;
    this.#isPending = false;
    this.#options.cluster.pendingRequests--;
  }

  #fail(code: FailureCode): void {
    if (this.#isDone) return;
    if (code === 'upstream_timeout') this.#noteResult(504);
    this.#finish();
    this.#exchange.fail(code);
  }

  #complete(): void {
    this.#finish();
    this.#exchange.finish();
  }

  #finish(): void {
    this.#isDone = true;
    this.#routeTimer?.cancel();
    this.#backoff?.cancel();
    this.#endTry();
  }
}
