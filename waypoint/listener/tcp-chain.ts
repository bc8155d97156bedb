// A connection whose protocol is not HTTP: authorized once on what a connection has, sent to one endpoint, relayed.
import type { Duplex, Relay } from '../../engine/reactor/duplex.ts';
import { copyBytes } from '../../engine/reactor/bytes.ts';
import { startRelay } from '../../engine/reactor/relay.ts';
import { authorize } from '../../common/l7/authorization.ts';
import { pickWeightedCluster } from '../../common/l7/route-table.ts';
import { errorMessage } from '../../common/errors.ts';
import { joinHostPort } from '../../common/workload/ip.ts';
import type { ClusterRegistry, ClusterRuntime } from '../cluster/cluster-runtime.ts';
import type { Endpoint } from '../cluster/endpoint.ts';
import type { L7Config, ServiceConfig } from '../state/l7-config.ts';
import type { WaypointMetrics } from '../telemetry/metrics.ts';
import { DialError } from '../upstream/dial.ts';
import type { Dial } from '../upstream/dial.ts';
import type { ConnectionContext } from './connection-context.ts';

/** What TCP connections need. */
export interface TcpChainEnvironment {
  readonly l7: L7Config;
  readonly clusters: ClusterRegistry;
  readonly metrics: WaypointMetrics;
  readonly dial: Dial;
  readonly random: () => number;
  readonly now: () => number;
  /** One line for each connection. */
  log(fields: Readonly<Record<string, unknown>>): void;
}

/** A connection that can be ended at the drain deadline. */
export interface TcpConnection {
  abort(detail: string): void;
}

const MAX_TRIES = 3;

/** Serves one connection. `replay` delivers what was read of it already; `onEnd` comes once. */
export function serveTcp(
  downstream: Duplex,
  context: ConnectionContext,
  env: TcpChainEnvironment,
  replay: (() => void) | undefined,
  onEnd: () => void,
): TcpConnection {
  const chain = new TcpChain(downstream, context, env, onEnd);
  chain.start(replay);
  return chain;
}

class TcpChain implements TcpConnection {
  readonly #downstream: Duplex;
  readonly #context: ConnectionContext;
  readonly #env: TcpChainEnvironment;
  readonly #onEnd: () => void;
  readonly #startMs: number;
  /** Read before the upstream was there. */
  readonly #early: Buffer[] = [];
  #hasEnded = false;
  #relay: Relay | undefined;
  #isFinished = false;

  constructor(
    downstream: Duplex,
    context: ConnectionContext,
    env: TcpChainEnvironment,
    onEnd: () => void,
  ) {
    this.#downstream = downstream;
    this.#context = context;
    this.#env = env;
    this.#onEnd = onEnd;
    this.#startMs = env.now();
  }

  start(replay: (() => void) | undefined): void {
    this.#downstream.pause();
    this.#downstream.handler = {
      onData: (address, length) => this.#early.push(copyBytes(address, length)),
      onEnd: () => {
        this.#hasEnded = true;
      },
      onDrain: () => undefined,
      onClose: () => this.#finish('DC', 'downstream_closed', undefined, 0, 0),
    };
    replay?.();
    const target = this.#admit();
    if (typeof target === 'string') {
      this.#downstream.reset();
      this.#finish(FLAGS[target], target, undefined, 0, 0);
      return;
    }
    dialEndpoint(target, this.#env).then(
      ({ upstream, endpoint }) => this.#join(target, upstream, endpoint),
      (err: unknown) => {
        this.#downstream.reset();
        this.#finish('UF', errorMessage(err), undefined, 0, 0);
      },
    );
  }

  abort(detail: string): void {
    if (this.#relay === undefined) this.#downstream.reset();
    else this.#relay.abort(detail);
  }

  /** Policy and route; a word when there is no way on. */
  #admit(): ClusterRuntime | keyof typeof FLAGS {
    const { l7, clusters, random } = this.#env;
    const { destination, peer, sourceIp, destinationIp } = this.#context;
    const key = destination.kind === 'service' ? destination.key : '';
    const verdict = authorize(l7.policiesFor(key), {
      peer,
      sourceIp,
      remoteIp: sourceIp,
      destinationIp,
      destinationPort: destination.port,
      http: undefined,
    });
    if (!verdict.isAllowed) return 'rbac_denied';
    if (destination.kind === 'workload') {
      return clusters.direct(destination.workload, destination.port);
    }
    const port = l7.service(key)?.ports.get(destination.port);
    const chosen = port === undefined ? undefined : pickWeightedCluster(port.tcpClusters, random);
    if (chosen === undefined) return 'route_not_found';
    const cluster = clusters.get(chosen.cluster);
    if (cluster === undefined) return 'cluster_not_found';
    return cluster.admitsRequest ? cluster : 'upstream_overflow';
  }

  #join(cluster: ClusterRuntime, upstream: Duplex, endpoint: Endpoint): void {
    if (this.#isFinished || this.#downstream.isClosed) {
      upstream.reset();
      return;
    }
    const { metrics } = this.#env;
    const cells = metrics.openTcp({
      context: this.#context,
      service: this.#service(),
      destination: endpoint.workload,
      protocol: 'tcp',
      flags: '-',
      code: 0,
      grpcStatus: undefined,
    });
    let early = 0;
    for (const part of this.#early.splice(0)) {
      early += part.length;
      upstream.writeBytes(part);
    }
    metrics.add(cells.received, early);
    cluster.activeRequests++;
    endpoint.activeRequests++;
    const counters = {
      addForward: (bytes: number) => metrics.add(cells.received, bytes),
      addBackward: (bytes: number) => metrics.add(cells.sent, bytes),
    };
    this.#relay = startRelay(this.#downstream, upstream, counters, (result) => {
      cluster.activeRequests--;
      endpoint.activeRequests--;
      metrics.add(cells.closed, 1);
      const { forwardBytes, backwardBytes, reason } = result;
      this.#finish('-', reason.code, endpoint, forwardBytes + early, backwardBytes);
    });
    // The end came before the relay was there to see it.
    if (this.#hasEnded) this.#downstream.handler.onEnd();
  }

  #service(): ServiceConfig | undefined {
    const { destination } = this.#context;
    return destination.kind === 'service' ? this.#env.l7.service(destination.key) : undefined;
  }

  #finish(
    flags: string,
    reason: string,
    endpoint: Endpoint | undefined,
    received: number,
    sent: number,
  ): void {
    if (this.#isFinished) return;
    this.#isFinished = true;
    const { authority, sourceAddress, sourcePort, peerIdentity } = this.#context;
    if (flags !== '-') this.#env.metrics.addRefused(flags === 'UF' ? 'connect_failure' : reason);
    this.#env.log({
      start_time: new Date(Date.now() - (this.#env.now() - this.#startMs)).toISOString(),
      protocol: 'TCP',
      response_flags: flags,
      bytes_received: received,
      bytes_sent: sent,
      duration: Math.round(this.#env.now() - this.#startMs),
      upstream_host:
        endpoint === undefined ? null : joinHostPort(endpoint.workload.ips[0] ?? '', endpoint.port),
      downstream_local_address: authority,
      downstream_remote_address: joinHostPort(sourceAddress, sourcePort),
      source_identity: peerIdentity ?? null,
      verdict: reason === 'rbac_denied' ? 'denied' : flags === '-' ? 'allowed' : 'failed',
      reason,
    });
    this.#onEnd();
  }
}

const FLAGS = {
  rbac_denied: '',
  route_not_found: 'NR',
  cluster_not_found: 'NC',
  upstream_overflow: 'UO',
} as const;

/** Tries up to three endpoints. */
async function dialEndpoint(
  cluster: ClusterRuntime,
  env: TcpChainEnvironment,
): Promise<{ upstream: Duplex; endpoint: Endpoint }> {
  const tried = new Set<string>();
  let last: unknown;
  for (let at = 0; at < MAX_TRIES; at++) {
    const endpoint = cluster.pick(tried);
    if (endpoint === undefined || tried.has(endpoint.key)) break;
    tried.add(endpoint.key);
    try {
      return { upstream: await env.dial(endpoint, cluster.connectTimeoutMs), endpoint };
    } catch (err) {
      last = err;
      cluster.record(endpoint, 0);
    }
  }
  throw last instanceof Error ? last : new DialError('connect', 'no healthy upstream');
}
