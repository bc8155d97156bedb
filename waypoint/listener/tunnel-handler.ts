// What happens to a tunnel: its destination is resolved, its protocol found (declared or detected), and its
// requests become exchanges. Also keeps what is open, for the graceful drain.
import { detectProtocol } from '../../engine/http1/detect.ts';
import { Http1ServerConnection } from '../../engine/http1/server.ts';
import type { HttpStream, HttpStreamEvents } from '../../engine/http1/types.ts';
import { serveHttp2 } from '../../engine/http2/http2-session.ts';
import type { HeaderList, Http2SessionOptions } from '../../engine/http2/types.ts';
import type { Duplex } from '../../engine/reactor/duplex.ts';
import type { Reactor } from '../../engine/reactor/reactor.ts';
import type { TunnelRequest } from '../../common/hbone/types.ts';
import { parsePeer } from '../../common/l7/authorization.ts';
import { joinHostPort, parseIp } from '../../common/workload/ip.ts';
import type { Config } from '../config.ts';
import { Exchange } from '../http/exchange.ts';
import { runPhases } from '../http/phases.ts';
import type { PhaseEnvironment } from '../http/phases.ts';
import type { ChainProtocol } from '../state/l7-config.ts';
import type { AccessLog } from '../telemetry/access-log.ts';
import type { ConnectionContext } from './connection-context.ts';
import { resolveDestination } from './destination.ts';
import type { DestinationSources } from './destination.ts';
import { serveTcp } from './tcp-chain.ts';
import type { TcpChainEnvironment } from './tcp-chain.ts';

/** What tunnels need. */
export interface TunnelEnvironment {
  readonly reactor: Reactor;
  readonly config: Config;
  readonly phases: PhaseEnvironment;
  readonly tcp: TcpChainEnvironment;
  readonly destinations: DestinationSources;
  readonly accessLog: AccessLog;
  /** Counts and logs a finished exchange. */
  readonly onExchangeEnd: (exchange: Exchange) => void;
}

/** An open HTTP or TCP connection inside a tunnel. */
interface Open {
  /** Ends after what is running. */
  drain(): void;
  /** Ends now. */
  abort(detail: string): void;
}

/** Why a tunnel is refused, and the status of its answer. */
export const REFUSALS = {
  bad_authority: 400,
  unknown_destination: 404,
  not_bound: 404,
  unknown_port: 404,
} as const;

/** HTTP/2 inside tunnels: windows as for HBONE, since the tunnel's own flow control bounds it again. */
const APP_SESSION: Http2SessionOptions = {
  settings: {
    initialWindowSize: 1024 * 1024,
    connectionWindowSize: 16 * 1024 * 1024,
    maxHeaderListSize: 60 * 1024,
    maxConcurrentStreams: 1000,
  },
  pingIntervalMs: 0,
  pingTimeoutMs: 0,
};

const UNREAD_GRACE_MS = 1000;

/** Serves the tunnels of one thread. */
export class TunnelHandler {
  readonly #env: TunnelEnvironment;
  readonly #open = new Set<Open>();
  #exchanges = 0;
  #isDraining = false;
  #onIdle: (() => void) | undefined;

  constructor(env: TunnelEnvironment) {
    this.#env = env;
  }

  /** Requests and TCP connections in flight. */
  get active(): number {
    return this.#exchanges + this.#open.size;
  }

  readonly onTunnel = (request: TunnelRequest): void => {
    const answer = resolveDestination(request.authority, this.#env.destinations);
    if ('problem' in answer) {
      this.#refuse(request, answer.problem);
      return;
    }
    const { store, network } = this.#env.destinations;
    const context: ConnectionContext = {
      peerIdentity: request.peerIdentity,
      peer: parsePeer(request.peerIdentity),
      sourceAddress: request.peerAddress,
      sourcePort: request.peerPort,
      sourceIp: parseIp(request.peerAddress),
      sourceWorkload: store.findWorkload(network, request.peerAddress),
      authority: request.authority,
      destinationIp: answer.ip === undefined ? undefined : parseIp(answer.ip),
      destination: answer.destination,
    };
    const duplex = request.accept([]);
    // A stream that is closed already has nobody to tell.
    if (!duplex.isClosed) this.#serve(duplex, context, this.#protocolOf(context));
  };

  /** Connections end after what is running; tunnels of clients that have not heard yet are served, for one request. */
  drain(): void {
    this.#isDraining = true;
    for (const open of [...this.#open]) open.drain();
  }

  /** Resolves when nothing is in flight. */
  whenIdle(): Promise<void> {
    return new Promise((resolve) => {
      this.#onIdle = resolve;
      this.#noteChange();
    });
  }

  /** Ends what is left. */
  close(detail: string): void {
    for (const open of [...this.#open]) open.abort(detail);
  }

  #protocolOf({ destination }: ConnectionContext): ChainProtocol {
    if (destination.kind === 'workload') return 'auto';
    const { l7 } = this.#env.destinations;
    return l7.service(destination.key)?.ports.get(destination.port)?.protocol ?? 'auto';
  }

  #refuse(request: TunnelRequest, reason: keyof typeof REFUSALS): void {
    const status = REFUSALS[reason];
    request.refuse(status);
    this.#env.tcp.metrics.addRefused(reason);
    this.#env.tcp.log({
      start_time: new Date().toISOString(),
      method: 'CONNECT',
      authority: request.authority,
      response_code: status,
      response_flags: 'NR',
      downstream_remote_address: joinHostPort(request.peerAddress, request.peerPort),
      source_identity: request.peerIdentity ?? null,
      verdict: 'failed',
      reason,
    });
  }

  #serve(duplex: Duplex, context: ConnectionContext, protocol: ChainProtocol): void {
    if (protocol === 'tcp') {
      this.#serveTcp(duplex, context, undefined);
      return;
    }
    const { reactor, config } = this.#env;
    const isAuto = protocol === 'auto';
    const timeoutMs = isAuto ? config.detectTimeoutMs : config.idleTimeoutMs;
    // One that drains while nothing is known of it is drained as what it turns out to be.
    const pending: Open = { drain: () => undefined, abort: () => duplex.reset() };
    this.#open.add(pending);
    detectProtocol(duplex, reactor, timeoutMs, {
      onDetected: (found, replay) => {
        this.#close(pending);
        if (found === 'http2') this.#serveHttp2(duplex, context, replay);
        else if (found === 'http1' || !isAuto) this.#serveHttp1(duplex, context, replay);
        else this.#serveTcp(duplex, context, replay);
      },
      onClose: () => this.#close(pending),
    });
  }

  #serveTcp(duplex: Duplex, context: ConnectionContext, replay: (() => void) | undefined): void {
    const open: { current: Open | undefined; hasEnded: boolean } = {
      current: undefined,
      hasEnded: false,
    };
    const connection = serveTcp(duplex, context, this.#env.tcp, replay, () => {
      open.hasEnded = true;
      if (open.current !== undefined) this.#close(open.current);
    });
    if (open.hasEnded) return;
    // TCP has no way to say "after this one": it lives until it ends or the deadline comes.
    open.current = { drain: () => undefined, abort: (detail) => connection.abort(detail) };
    this.#open.add(open.current);
  }

  #serveHttp1(duplex: Duplex, context: ConnectionContext, replay: () => void): void {
    const { reactor, config } = this.#env;
    const connection = new Http1ServerConnection(duplex, reactor, config, {
      onRequest: (stream, headers, endStream, minorVersion) =>
        this.#exchange(context, stream, headers, endStream, `HTTP/1.${minorVersion}`),
      onBadRequest: (status, detail) => this.#onBadRequest(context, status, detail),
      onClose: () => this.#close(open),
    });
    const open: Open = { drain: () => connection.drain(), abort: () => duplex.reset() };
    this.#add(open);
    replay();
  }

  #serveHttp2(duplex: Duplex, context: ConnectionContext, replay: () => void): void {
    const session = serveHttp2(this.#env.reactor, duplex, APP_SESSION, {
      onStream: (stream, headers, endStream) => {
        const events = this.#exchange(context, stream, headers, endStream, 'HTTP/2');
        stream.resume();
        return events;
      },
      onGoaway: () => undefined,
      onClose: () => this.#close(open),
    });
    const open: Open = {
      drain: () => session.drain(),
      abort: (detail) => session.close(detail),
    };
    this.#add(open);
    replay();
  }

  #add(open: Open): void {
    this.#open.add(open);
    if (this.#isDraining) open.drain();
  }

  #exchange(
    context: ConnectionContext,
    stream: HttpStream,
    headers: HeaderList,
    endStream: boolean,
    protocol: string,
  ): HttpStreamEvents {
    this.#exchanges++;
    const exchange = new Exchange(context, stream, headers, protocol, this.#onExchangeEnd);
    if (endStream) exchange.body.onEnd();
    runPhases(exchange, this.#env.phases);
    return exchange;
  }

  readonly #onExchangeEnd = (exchange: Exchange): void => {
    this.#exchanges--;
    this.#env.onExchangeEnd(exchange);
    if (exchange.protocol === 'HTTP/2' && !exchange.body.hasEnded) this.#resetLater(exchange);
    this.#noteChange();
  };

  /** A caller that goes on sending after its answer is stopped. Not at once: the reset would overtake the answer. */
  #resetLater({ body, downstream }: Exchange): void {
    this.#env.reactor.after(UNREAD_GRACE_MS, () => {
      if (!body.hasEnded && !downstream.isClosed) downstream.reset();
    });
  }

  #onBadRequest(context: ConnectionContext, status: number, detail: string): void {
    this.#env.tcp.metrics.addRefused(status === 408 ? 'request_timeout' : 'bad_request');
    this.#env.tcp.log({
      start_time: new Date().toISOString(),
      protocol: 'HTTP/1.1',
      response_code: status,
      response_flags: 'DPE',
      response_code_details: detail,
      downstream_local_address: context.authority,
      downstream_remote_address: joinHostPort(context.sourceAddress, context.sourcePort),
      source_identity: context.peerIdentity ?? null,
      verdict: 'failed',
      reason: 'bad_request',
    });
  }

  #close(open: Open): void {
    this.#open.delete(open);
    this.#noteChange();
  }

  #noteChange(): void {
    if (this.#onIdle !== undefined && this.active === 0) this.#onIdle();
  }
}
