// A pod's outgoing tunnels: HTTP/2 sessions over mutual TLS, shared by streams with the same source identity, peer and
// expected identities (ztunnel-spec 3.8). One dial a key at a time; a failed dial fails only those who waited for it.
import { MeshError, errorMessage } from '../../common/errors.ts';
import type { Tunnel, TunnelFailure, TunnelTarget } from '../../common/hbone/types.ts';
import { joinHostPort } from '../../common/workload/ip.ts';
import { connectHttp2 } from '../../engine/http2/http2-session.ts';
import type { HeaderList, Http2Session, Http2Stream } from '../../engine/http2/types.ts';
import type { CloseReason } from '../../engine/reactor/duplex.ts';
import type { Netns } from '../../engine/reactor/netns.ts';
import { StreamError } from '../../engine/reactor/stream-error.ts';
import { connectTcp } from '../../engine/reactor/tcp-connect.ts';
import { startTls } from '../../engine/tls/tls-connection.ts';
import { keepaliveOf } from './dial.ts';
import type { TunnelOpener } from './dial.ts';
import { sessionOptions } from './http2-options.ts';
import type { ProxyContext } from './proxy-context.ts';

/** Why a tunnel was not opened, as an exception. */
export class TunnelError extends Error {
  readonly failure: TunnelFailure;

  constructor(failure: TunnelFailure) {
    super(failure.detail);
    this.failure = failure;
  }
}

interface PooledSession {
  readonly key: string;
  readonly address: string;
  readonly session: Http2Session;
  readonly serverIdentity: string | undefined;
  lastUsedMs: number;
  /** Why it closed, for streams that end with it. */
  closeReason: CloseReason | undefined;
}

/** The other side dials the application for up to 10 s before it answers. */
const RESPONSE_TIMEOUT_MS = 15_000;
const IDLE_CHECK_MS = 30_000;

/** One pod's pool. */
export class PodTunnels implements TunnelOpener {
  readonly #context: ProxyContext;
  readonly #netns: Netns | undefined;
  readonly #sessions = new Map<string, PooledSession[]>();
  readonly #dials = new Map<string, Promise<PooledSession>>();
  #isClosed = false;

  constructor(context: ProxyContext, netns: Netns | undefined) {
    this.#context = context;
    this.#netns = netns;
  }

  /** Opens a stream to the target's authority. Rejects with {@link TunnelError}. */
  async open(target: TunnelTarget): Promise<Tunnel> {
    const key = poolKey(target);
    // A session that is draining refuses the stream unprocessed; the next attempt dials a new one.
    for (let attempt = 0; ; attempt++) {
      const pooled = this.#find(key) ?? (await this.#dial(key, target));
      if (!pooled.session.canOpenStream) {
        if (attempt < 3) continue;
        throw new TunnelError({ code: 'h2', detail: 'the peer takes no more streams' });
      }
      pooled.lastUsedMs = this.#context.reactor.now();
      const result = await this.#openStream(pooled, target);
      if (result !== 'goaway') return result;
      if (attempt >= 3) throw new TunnelError({ code: 'h2', detail: 'the peer is draining' });
    }
  }

  /** Lets sessions to workloads that left the mesh run out, so that their pods can go. */
  retireStale(): void {
    const { store, config } = this.#context;
    for (const pooled of this.#all()) {
      if (store.findWorkload(config.network, pooled.address)?.protocol !== 'HBONE') {
        this.#retire(pooled);
      }
    }
  }

  /** Ends all sessions and their streams. */
  close(detail: string): void {
    this.#isClosed = true;
    for (const { session } of this.#all()) session.close(detail);
    this.#sessions.clear();
  }

  #all(): PooledSession[] {
    return [...this.#sessions.values()].flat();
  }

  #find(key: string): PooledSession | undefined {
    const max = this.#context.config.poolMaxStreams;
    return this.#sessions
      .get(key)
      ?.find(({ session }) => session.canOpenStream && session.activeStreams < max);
  }

  #dial(key: string, target: TunnelTarget): Promise<PooledSession> {
    const running = this.#dials.get(key);
    if (running !== undefined) return running;
    const dial = this.#connect(key, target).finally(() => this.#dials.delete(key));
    this.#dials.set(key, dial);
    return dial;
  }

  async #connect(key: string, target: TunnelTarget): Promise<PooledSession> {
    const { reactor, config, certificates } = this.#context;
    let identityProblem: string | undefined;
    let contexts;
    try {
      contexts = await certificates.get(target.sourceIdentity);
    } catch (err) {
      throw new TunnelError({ code: 'certificate', detail: errorMessage(err) });
    }
    try {
      const stream = await connectTcp(reactor, {
        address: target.address,
        port: target.port,
        mark: config.packetMark,
        ...(this.#netns === undefined ? {} : { netns: this.#netns }),
        ...keepaliveOf(this.#context),
      });
      const tls = await startTls(stream, contexts.client, {
        verifyPeer: (uriSans) => {
          if (uriSans.some((san) => target.expectedIdentities.includes(san))) return undefined;
          const expected = target.expectedIdentities.join(', ');
          identityProblem = `identity of ${target.address} is ${uriSans.join(', ') || 'unknown'}, expected ${expected}`;
          return identityProblem;
        },
      });
      const { uriSans } = tls.peer;
      return this.#add(
        key,
        target,
        (events) => connectHttp2(reactor, tls, sessionOptions(config, false), events),
        uriSans,
      );
    } catch (err) {
      throw new TunnelError(dialFailure(err, identityProblem));
    }
  }

  #add(
    key: string,
    target: TunnelTarget,
    start: (events: Parameters<typeof connectHttp2>[3]) => Http2Session,
    uriSans: readonly string[],
  ): PooledSession {
    const session = start({
      onGoaway: () => this.#forget(pooled),
      onClose: (reason) => {
        pooled.closeReason = reason;
        this.#forget(pooled);
      },
    });
    const pooled: PooledSession = {
      key,
      address: target.address,
      session,
      serverIdentity: uriSans.find((san) => target.expectedIdentities.includes(san)),
      lastUsedMs: this.#context.reactor.now(),
      closeReason: undefined,
    };
    if (this.#isClosed) {
      session.close('the pod has left the mesh');
      throw new MeshError('closed', 'the pod has left the mesh');
    }
    const known = this.#sessions.get(key);
    if (known === undefined) this.#sessions.set(key, [pooled]);
    else known.push(pooled);
    this.#watchIdle(pooled);
    return pooled;
  }

  #watchIdle(pooled: PooledSession): void {
    const { reactor, config } = this.#context;
    reactor.after(Math.min(IDLE_CHECK_MS, config.poolIdleMs), () => {
      if (pooled.session.isClosed || this.#isClosed) return;
      const isIdle = pooled.session.activeStreams === 0;
      if (isIdle && reactor.now() - pooled.lastUsedMs >= config.poolIdleMs) this.#retire(pooled);
      else this.#watchIdle(pooled);
    });
  }

  #retire(pooled: PooledSession): void {
    this.#forget(pooled);
    pooled.session.drain();
  }

  #forget(pooled: PooledSession): void {
    const left = (this.#sessions.get(pooled.key) ?? []).filter((one) => one !== pooled);
    if (left.length === 0) this.#sessions.delete(pooled.key);
    else this.#sessions.set(pooled.key, left);
  }

  #openStream(pooled: PooledSession, target: TunnelTarget): Promise<Tunnel | 'goaway'> {
    return new Promise((resolve, reject) => {
      let isDone = false;
      const timer = this.#context.reactor.after(RESPONSE_TIMEOUT_MS, () => {
        fail({ code: 'timeout', detail: `no answer to CONNECT ${target.authority}` });
        stream.reset();
      });
      const settle = (): boolean => {
        if (isDone) return false;
        isDone = true;
        timer.cancel();
        return true;
      };
      const fail = (failure: TunnelFailure): void => {
        if (settle()) reject(new TunnelError(failure));
      };
      const request: HeaderList = [
        [':method', 'CONNECT'],
        [':authority', target.authority],
        ...target.headers,
      ];
      const stream: Http2Stream = pooled.session.request(request, false, {
        onTrailers: () => undefined,
        onHeaders: (headers) => {
          const status = Number(headers.find(([name]) => name === ':status')?.[1]);
          if (status >= 100 && status < 200) return;
          if (status !== 200) {
            fail({ code: 'status', detail: `http status: ${status}`, status });
            stream.reset();
          } else if (settle()) {
            resolve({ stream, responseHeaders: headers, serverIdentity: pooled.serverIdentity });
          }
        },
      });
      stream.handler = {
        onData: () => undefined,
        onEnd: () => undefined,
        onDrain: () => undefined,
        onClose: (reason) => {
          if (reason.code === 'goaway') {
            if (settle()) resolve('goaway');
          } else {
            fail(streamFailure(pooled.closeReason ?? reason));
          }
        },
      };
    });
  }
}

function poolKey(target: TunnelTarget): string {
  const expected = [...target.expectedIdentities].sort().join(',');
  return `${target.sourceIdentity}|${joinHostPort(target.address, target.port)}|${expected}`;
}

function dialFailure(err: unknown, identityProblem: string | undefined): TunnelFailure {
  if (identityProblem !== undefined) return { code: 'identity', detail: identityProblem };
  if (!(err instanceof StreamError)) return { code: 'h2', detail: errorMessage(err) };
  return streamFailure(err.reason);
}

function streamFailure(reason: CloseReason): TunnelFailure {
  const { code, detail } = reason;
  switch (code) {
    case 'tls':
      return { code: 'tls', detail };
    case 'timeout':
      return { code: 'timeout', detail };
    case 'limit':
      return { code: 'limit', detail };
    case 'protocol':
      return { code: 'h2', detail };
    // Cut before an answer: a proxy that is going away. Nothing of the application was delivered.
    default:
      return { code: 'connect', detail: detail === '' ? code : detail };
  }
}
