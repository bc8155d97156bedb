// Connects for an outbound connection: decide, dial, and when a connect fails before any byte was delivered, decide
// again, as retry-plan.ts says.
import type { EarlyBytes, Tunnel, TunnelTarget } from '../../common/hbone/types.ts';
import { workloadIdentity } from '../../common/workload/model.ts';
import type { Workload } from '../../common/workload/model.ts';
import type { Duplex } from '../../engine/reactor/duplex.ts';
import type { Netns } from '../../engine/reactor/netns.ts';
import { connectTcp } from '../../engine/reactor/tcp-connect.ts';
import { describeTunnelFailure } from './failures.ts';
import type { DialFailure } from './failures.ts';
import type { JoinedInbound } from './inbound-types.ts';
import { keepaliveOf } from './keepalive.ts';
import { dialNodeLocal, findNodeLocal } from './node-local.ts';
import type { ProxyContext } from './proxy-context.ts';
import { describeRemote } from './remote-workload.ts';
import { buildRequest } from './request.ts';
import type { ConnectDecision, OriginalDst, RequestDecision } from './request.ts';
import { RetryPlan } from './retry-plan.ts';
import { FORWARDED_NETWORK, buildTunnelHeaders } from './tunnel-headers.ts';

/** Opens tunnels for a pod; implemented by the pod's pool. */
export interface TunnelOpener {
  open(target: TunnelTarget): Promise<Tunnel>;
}

/** A connected upstream. */
export interface DialedUpstream {
  readonly stream: Duplex;
  readonly decision: ConnectDecision;
  /** Proven by the tunnel's server. */
  readonly serverIdentity: string | undefined;
  /** Bytes of the application that are on their way already. */
  readonly earlyBytes?: number;
  /** The destination's half when it is on this node. */
  readonly inbound?: JoinedInbound;
  /** To be called when the stream has ended. */
  readonly release?: () => void;
}

/** What to connect for. */
export interface DialRequest {
  readonly source: Workload;
  /** Baggage of the source, made once. */
  readonly baggage: string;
  readonly client: { readonly ip: string; readonly port: number };
  /** The same at each attempt; made when it is asked for. */
  readonly traceparent: string;
  readonly destination: OriginalDst;
  readonly netns: Netns | undefined;
  readonly tunnels: TunnelOpener;
  /** What may travel with the request for a tunnel. */
  readonly early: EarlyBytes;
  /** Whether the application has gone away: stop trying. */
  isAbandoned(): boolean;
}

/** The end of all attempts; `decision` is the last one made. */
export class DialError extends Error {
  readonly failure: DialFailure;
  readonly decision: RequestDecision;

  constructor(failure: DialFailure, decision: RequestDecision) {
    super(failure.detail);
    this.failure = failure;
    this.decision = decision;
  }
}

/** Decides and connects. Rejects with {@link DialError}. */
export async function dialUpstream(
  context: ProxyContext,
  request: DialRequest,
): Promise<DialedUpstream> {
  const plan = new RetryPlan(context.reactor.now());
  let last: DialError | undefined;
  // Thousands may wait here at once: what lives across the await is kept small.
  for (;;) {
    const decision = await nextDecision(context, request, plan, last);
    try {
      return await dialOnce(context, request, decision);
    } catch (err) {
      last = new DialError(describeTunnelFailure(err), decision);
      const isAgain = plan.failed(decision, last.failure, context.reactor.now());
      if (!isAgain || request.isAbandoned()) throw last;
    }
  }
}

/** Where to connect next, after the pauses of the plan. Rejects with {@link DialError} when there is nowhere left. */
async function nextDecision(
  context: ProxyContext,
  request: DialRequest,
  plan: RetryPlan,
  last: DialError | undefined,
): Promise<ConnectDecision> {
  for (;;) {
    const decision = await decide(context, request, plan.exclude);
    const step = plan.next(decision);
    if (step.kind === 'connect') {
      if (last !== undefined) context.recorder.countRetry(last.failure.reason);
      return step.decision;
    }
    if (step.kind === 'stop' || request.isAbandoned()) {
      throw last ?? new DialError(refusalOf(decision), decision);
    }
    await pause(context, step.pauseMs);
  }
}

type FinalDecision = Exclude<RequestDecision, { kind: 'resolve' }>;

/** Decides, asking for the addresses of a name once where that is needed. */
async function decide(
  context: ProxyContext,
  { source, destination }: DialRequest,
  exclude: ReadonlySet<string>,
): Promise<FinalDecision> {
  const { store, hosts, config, recorder } = context;
  let resolved: { readonly hostname: string; readonly addresses: readonly string[] } | undefined;
  for (;;) {
    const decision = buildRequest({
      store,
      source,
      destination,
      random: Math.random,
      exclude,
      isSocks5: config.isSocks5,
      addressesOf: (hostname) =>
        resolved?.hostname === hostname ? resolved.addresses : hosts.known(hostname),
    });
    if (decision.kind !== 'resolve') return decision;
    const { hostname } = decision;
    await hosts.resolve(hostname);
    resolved = { hostname, addresses: hosts.known(hostname) ?? [] };
    recorder.countOnDemandDns(source, hostname);
  }
}

function refusalOf(decision: FinalDecision): DialFailure {
  const isRefusal = decision.kind === 'refuse';
  return {
    reason: isRefusal ? decision.reason : 'connect_failed',
    detail: isRefusal ? decision.detail : 'not connected',
    canRetry: false,
    canWait: false,
    isRefusal,
  };
}

function dialOnce(
  context: ProxyContext,
  request: DialRequest,
  decision: ConnectDecision,
): Promise<DialedUpstream> {
  if (decision.kind === 'hbone' || decision.kind === 'double_hbone') {
    return dialMesh(context, request, decision);
  }
  const connecting = connectTcp(context.reactor, {
    address: decision.address,
    port: decision.port,
    mark: context.config.packetMark,
    ...(request.netns === undefined ? {} : { netns: request.netns }),
    ...keepaliveOf(context.config),
  });
  return connecting.then((stream) => ({ stream, decision, serverIdentity: undefined }));
}

async function dialMesh(
  context: ProxyContext,
  request: DialRequest,
  decision: Extract<ConnectDecision, { kind: 'hbone' | 'double_hbone' }>,
): Promise<DialedUpstream> {
  const pod =
    decision.kind === 'hbone' ? findNodeLocal(context, request.source, decision) : undefined;
  if (pod !== undefined && decision.kind === 'hbone') {
    const local = await dialNodeLocal(context, pod, request, decision);
    return { ...local, decision, serverIdentity: local.identity };
  }
  const tunnel = await request.tunnels.open(tunnelTarget(context, request, decision));
  const { stream, serverIdentity, earlyBytes = 0, release } = tunnel;
  const made = {
    stream,
    serverIdentity,
    earlyBytes,
    ...(release === undefined ? {} : { release }),
  };
  if (decision.kind === 'hbone') return { ...made, decision };
  const workload = decision.workload && describeRemote(decision.workload, tunnel);
  return { ...made, decision: { ...decision, workload } };
}

function tunnelTarget(
  context: ProxyContext,
  request: DialRequest,
  decision: Extract<ConnectDecision, { kind: 'hbone' | 'double_hbone' }>,
): TunnelTarget {
  const { source, client, baggage, early, traceparent } = request;
  const { address, port, authority, expectedIdentities } = decision;
  const headers = buildTunnelHeaders(baggage, client, decision.service?.hostname, traceparent);
  const target = { address, port, authority, headers, expectedIdentities };
  const sourceIdentity = workloadIdentity(source);
  if (decision.kind === 'hbone') {
    return { ...target, sourceIdentity, early };
  }
  const inner = {
    headers: [...headers, [FORWARDED_NETWORK, context.config.network] as const],
    expectedIdentities: decision.innerIdentities,
  };
  return { ...target, sourceIdentity, inner };
}

function pause(context: ProxyContext, delayMs: number): Promise<void> {
  return new Promise((resolve) => {
    context.reactor.after(delayMs, resolve);
  });
}
