// Connects for an outbound connection: decide, dial, and when a connect fails before any byte was delivered, decide
// again. Other endpoints are tried at once, at most two; a tunnel listener that refuses is given a little time,
// because its pod may be joining or leaving the mesh, or its node proxy restarting (see the leaving protocol).
import { MeshError } from '../../common/errors.ts';
import type { Tunnel, TunnelTarget } from '../../common/hbone/types.ts';
import { workloadIdentity } from '../../common/workload/model.ts';
import type { Workload } from '../../common/workload/model.ts';
import type { Duplex } from '../../engine/reactor/duplex.ts';
import type { Netns } from '../../engine/reactor/netns.ts';
import { StreamError } from '../../engine/reactor/stream-error.ts';
import { connectTcp } from '../../engine/reactor/tcp-connect.ts';
import { describeTunnelFailure } from './failures.ts';
import type { DialFailure } from './failures.ts';
import type { JoinedInbound } from './inbound-types.ts';
import { keepaliveOf } from './keepalive.ts';
import { dialNodeLocal, findNodeLocal } from './node-local.ts';
import type { ProxyContext } from './proxy-context.ts';
import type { RefusalReason } from './reasons.ts';
import { buildRequest } from './request.ts';
import type { OriginalDst, RequestDecision } from './request.ts';
import { buildTunnelHeaders } from './tunnel-headers.ts';

/** Opens tunnels for a pod; implemented by the pod's pool. */
export interface TunnelOpener {
  open(target: TunnelTarget): Promise<Tunnel>;
}

/** A connected upstream. */
export interface DialedUpstream {
  readonly stream: Duplex;
  readonly decision: Exclude<RequestDecision, { kind: 'refuse' }>;
  /** Proven by the tunnel's server. */
  readonly serverIdentity: string | undefined;
  /** The destination's half when it is on this node. */
  readonly inbound?: JoinedInbound;
}

/** What to connect for. */
export interface DialRequest {
  readonly source: Workload;
  /** Baggage of the source, made once. */
  readonly baggage: string;
  readonly client: { readonly ip: string; readonly port: number };
  readonly destination: OriginalDst;
  readonly netns: Netns | undefined;
  readonly tunnels: TunnelOpener;
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

const MAX_OTHER_ENDPOINTS = 2;
/** 3.1 s in all: a node proxy that was killed is back by then, or the connect was hopeless. */
const PAUSES_MS = [50, 100, 200, 400, 800, 1550];

/** A waypoint is never bypassed, so its restart is waited for: 7.7 s, a pod's usual time to be ready again. */
const WAYPOINT_PAUSES_MS = [...PAUSES_MS, 1550, 1550, 1500];
const WAYPOINT_REASONS: ReadonlySet<RefusalReason> = new Set([
  'no_healthy_waypoint',
  'unknown_waypoint',
]);

/** Decides and connects. Rejects with {@link DialError}. */
export async function dialUpstream(
  context: ProxyContext,
  request: DialRequest,
): Promise<DialedUpstream> {
  const exclude = new Set<string>();
  let others = 0;
  let pauses = 0;
  let last: DialError | undefined;
  for (;;) {
    const { source, destination } = request;
    const decision = buildRequest({
      store: context.store,
      source,
      destination,
      random: Math.random,
      exclude,
    });
    const isExhausted =
      exclude.size > 0 &&
      (decision.kind === 'refuse' ||
        (decision.workload !== undefined && exclude.has(decision.workload.uid)));
    if (isExhausted && last !== undefined) {
      const isWaypoint = last.decision.kind === 'hbone' && last.decision.hop === 'waypoint';
      const pauseMs = (isWaypoint ? WAYPOINT_PAUSES_MS : PAUSES_MS)[pauses++];
      if (!last.failure.canWait || pauseMs === undefined || request.isAbandoned()) throw last;
      exclude.clear();
      others = 0;
      await pause(context, pauseMs);
      continue;
    }
    if (decision.kind === 'refuse') {
      const canWait = WAYPOINT_REASONS.has(decision.reason);
      const pauseMs = canWait ? WAYPOINT_PAUSES_MS[pauses++] : undefined;
      if (pauseMs === undefined || request.isAbandoned()) {
        throw new DialError(refusalOf(decision.reason, decision.detail), decision);
      }
      await pause(context, pauseMs);
      continue;
    }
    try {
      return await dialOnce(context, request, decision);
    } catch (err) {
      last = new DialError(describeTunnelFailure(err), decision);
      if (!last.failure.canRetry || request.isAbandoned()) throw last;
      if (decision.workload === undefined) throw last;
      exclude.add(decision.workload.uid);
      if (others++ >= MAX_OTHER_ENDPOINTS && !last.failure.canWait) throw last;
    }
  }
}

function refusalOf(reason: DialFailure['reason'], detail: string): DialFailure {
  return { reason, detail, canRetry: false, canWait: false, isRefusal: true };
}

async function dialOnce(
  context: ProxyContext,
  request: DialRequest,
  decision: DialedUpstream['decision'],
): Promise<DialedUpstream> {
  if (decision.kind !== 'hbone') {
    const stream = await connectTcp(context.reactor, {
      address: decision.address,
      port: decision.port,
      mark: context.config.packetMark,
      ...(request.netns === undefined ? {} : { netns: request.netns }),
      ...keepaliveOf(context),
    });
    return { stream, decision, serverIdentity: undefined };
  }
  const { source, client, baggage } = request;
  const pod = findNodeLocal(context, source, decision);
  if (pod !== undefined) {
    const local = await dialNodeLocal(context, pod, request, decision);
    return { ...local, decision, serverIdentity: local.identity };
  }
  const tunnel = await request.tunnels.open({
    address: decision.address,
    port: decision.port,
    authority: decision.authority,
    headers: buildTunnelHeaders(baggage, client, decision.service?.hostname),
    sourceIdentity: workloadIdentity(source),
    expectedIdentities: decision.expectedIdentities,
  });
  return { stream: tunnel.stream, decision, serverIdentity: tunnel.serverIdentity };
}

function pause(context: ProxyContext, delayMs: number): Promise<void> {
  return new Promise((resolve) => {
    context.reactor.after(delayMs, resolve);
  });
}

/** True for errors that belong to a connection and not to a bug. */
export function isExpectedError(err: unknown): boolean {
  return err instanceof StreamError || err instanceof MeshError || err instanceof DialError;
}
