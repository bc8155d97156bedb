// Outbound connections of a pod, taken by the redirect to 15001: original destination, source workload, decision,
// connect, relay, one result. See docs/design/life-of-a-connection.md.
import { joinHostPort } from '../../common/workload/ip.ts';
import type { Workload } from '../../common/workload/model.ts';
import { closeWatcher } from '../../engine/reactor/duplex.ts';
import type { RelayCounters, RelayObserver, RelayResult } from '../../engine/reactor/duplex.ts';
import type { Netns } from '../../engine/reactor/netns.ts';
import { startRelay } from '../../engine/reactor/relay.ts';
import type { TcpStream } from '../../engine/reactor/tcp-stream.ts';
import type { ConnectionDump } from '../messages.ts';
import type { ConnectionManager } from './connection-manager.ts';
import type { ConnectionAddresses } from './access-line.ts';
import { DialError, dialUpstream } from './dial.ts';
import type { DialedUpstream, TunnelOpener } from './dial.ts';
import { describeTunnelFailure, relayOutcome } from './failures.ts';
import type { LocalWorkload } from './local-workload.ts';
import type { ProxyContext } from './proxy-context.ts';
import type { FailureReason } from './reasons.ts';
import type { OriginalDst, RequestDecision } from './request.ts';
import { workloadIdentity } from '../../common/workload/model.ts';
import type { ConnectionParties } from './traffic-labels.ts';
import { buildBaggage } from './tunnel-headers.ts';

/** The pod's parts that outbound needs. */
export interface OutboundPod {
  readonly local: LocalWorkload;
  readonly netns: Netns | undefined;
  readonly connections: ConnectionManager;
  readonly tunnels: TunnelOpener;
}

/** Serves one accepted connection to its end. Never throws. */
export async function serveOutbound(
  context: ProxyContext,
  pod: OutboundPod,
  stream: TcpStream,
): Promise<void> {
  const startedMs = Date.now();
  const { address: ip, port } = stream.originalDst();
  const client = { ip: stream.peer.address, port: stream.peer.port };
  await serveDestination(context, pod, { stream, client, destination: { ip, port }, startedMs });
}

/** A connection of the pod's whose destination is known. */
export interface OutboundConnection {
  readonly stream: TcpStream;
  readonly client: OriginalDst;
  readonly destination: OriginalDst;
  readonly startedMs: number;
  /** Read already. */
  readonly early?: Uint8Array;
}

/** Decides, connects and relays. Never throws. */
export async function serveDestination(
  context: ProxyContext,
  pod: OutboundPod,
  accepted: OutboundConnection,
): Promise<void> {
  const { stream, client, destination, startedMs } = accepted;
  const { ip, port } = destination;
  const addresses = { src: joinHostPort(client.ip, client.port), dst: joinHostPort(ip, port) };
  const state = { isGone: false };
  const isGone = (): boolean => state.isGone;
  stream.handler = closeWatcher(() => {
    state.isGone = true;
  });
  const source = pod.local.current ?? (await pod.local.wait());
  if (source === undefined) {
    const parties = partiesOf(undefined, undefined, undefined);
    context.recorder.refuse(
      parties,
      addresses,
      'unknown_source',
      `no workload for ${podName(pod)}`,
    );
    stream.reset();
    return;
  }
  const pending = context.resolve(source.network, ip);
  if (pending !== undefined && !(await pending)) {
    const parties = partiesOf(source, undefined, undefined);
    const detail = `the control plane has not said in time what ${ip} is`;
    context.recorder.refuse(parties, addresses, 'xds_timeout', detail);
    stream.reset();
    return;
  }
  let upstream: DialedUpstream;
  try {
    upstream = await dialUpstream(context, {
      source,
      baggage: buildBaggage(source),
      client,
      destination,
      netns: pod.netns,
      tunnels: pod.tunnels,
      isAbandoned: isGone,
    });
  } catch (err) {
    recordFailedDial(context, source, addresses, startedMs, err);
    stream.reset();
    return;
  }
  const { early } = accepted;
  const parts = { stream, upstream, source, addresses, startedMs, early };
  if (isGone()) abandon(context, parts);
  else relayOutbound(context, pod, parts);
}

/** The application left while we connected for it. */
function abandon(context: ProxyContext, parts: OutboundRelay): void {
  const { upstream, source, startedMs } = parts;
  upstream.stream.reset();
  const parties = partiesOf(source, upstream.decision, upstream);
  const addresses = connectedAddresses(parts.addresses, upstream.decision);
  const connection = context.recorder.open(parties, addresses, startedMs);
  const outcome = { reason: 'downstream_reset', detail: 'closed while connecting' } as const;
  connection.finish(outcome);
  upstream.inbound?.finish(outcome);
  upstream.release?.();
}

interface OutboundRelay {
  readonly stream: TcpStream;
  readonly upstream: DialedUpstream;
  readonly source: Workload;
  readonly addresses: ConnectionAddresses;
  readonly startedMs: number;
  readonly early: Uint8Array | undefined;
}

function relayOutbound(context: ProxyContext, pod: OutboundPod, parts: OutboundRelay): void {
  const { stream, upstream, source, startedMs } = parts;
  const { decision } = upstream;
  const addresses = connectedAddresses(parts.addresses, decision);
  const parties = partiesOf(source, decision, upstream);
  const connection = context.recorder.open(parties, addresses, startedMs);
  let aborted: { reason: FailureReason; detail: string } | undefined;
  const { inbound } = upstream;
  const counters = inbound === undefined ? connection : countBoth(connection, inbound);
  if (parts.early !== undefined && parts.early.length > 0) {
    upstream.stream.writeBytes(parts.early);
    counters.addForward(parts.early.length);
  }
  const done = (result: RelayResult): void => {
    unregister();
    const outcome = relayOutcome(result);
    connection.finish(aborted ?? outcome);
    inbound?.finish(outcome);
    upstream.release?.();
  };
  const relay = startRelay(
    stream,
    upstream.stream,
    counters,
    done,
    observerOf(context, parts, parties),
  );
  inbound?.onRelay((detail) => relay.abort(detail));
  const unregister = pod.connections.register({
    direction: 'outbound',
    dump: () => ({
      src: parts.addresses.src,
      originalDst: parts.addresses.dst,
      actualDst: joinHostPort(decision.address, decision.port),
      protocol: protocolOf(upstream),
    }),
    record: connection,
    facts: undefined,
    abort: (reason, detail) => {
      aborted = { reason, detail };
      relay.abort(detail);
    },
  });
}

/** A connection is observed from its first byte; a waypoint counts the requests it serves itself. */
function observerOf(
  { sight }: ProxyContext,
  { upstream: { decision, inbound }, early }: OutboundRelay,
  parties: ConnectionParties,
): RelayObserver | undefined {
  const isServedByWaypoint = decision.kind === 'hbone' && decision.hop === 'waypoint';
  if (isServedByWaypoint || (early !== undefined && early.length > 0)) return undefined;
  return sight.watch(parties, inbound?.parties);
}

/** Both ends of a connection within this node are counted from one relay. */
function countBoth(one: RelayCounters, other: RelayCounters): RelayCounters {
  return {
    addForward: (bytes) => {
      one.addForward(bytes);
      other.addForward(bytes);
    },
    addBackward: (bytes) => {
      one.addBackward(bytes);
      other.addBackward(bytes);
    },
  };
}

function protocolOf({ decision, inbound }: DialedUpstream): ConnectionDump['protocol'] {
  if (inbound !== undefined) return 'NODE_LOCAL';
  if (decision.kind === 'double_hbone') return 'DOUBLEHBONE';
  return decision.kind === 'hbone' ? 'HBONE' : 'TCP';
}

function connectedAddresses(
  addresses: ConnectionAddresses,
  decision: RequestDecision,
): ConnectionAddresses {
  if (decision.kind === 'refuse' || decision.kind === 'resolve') return addresses;
  const dst = joinHostPort(decision.address, decision.port);
  return decision.kind === 'hbone' || decision.kind === 'double_hbone'
    ? { ...addresses, dst, hboneAddr: decision.authority }
    : { ...addresses, dst };
}

function recordFailedDial(
  context: ProxyContext,
  source: Workload,
  addresses: ConnectionAddresses,
  startedMs: number,
  err: unknown,
): void {
  const failure = err instanceof DialError ? err.failure : describeTunnelFailure(err);
  const decision = err instanceof DialError ? err.decision : undefined;
  const parties = partiesOf(source, decision, undefined);
  if (failure.isRefusal) {
    context.recorder.refuse(parties, addresses, failure.reason, failure.detail);
    return;
  }
  const connected = decision === undefined ? addresses : connectedAddresses(addresses, decision);
  const connection = context.recorder.open(parties, connected, startedMs);
  connection.finish({ reason: failure.reason, detail: failure.detail });
}

function partiesOf(
  source: Workload | undefined,
  decision: RequestDecision | undefined,
  upstream: DialedUpstream | undefined,
): ConnectionParties {
  return {
    direction: 'outbound',
    source,
    sourceBaggage: undefined,
    sourceIdentity:
      source !== undefined && isTunnelled(decision) ? workloadIdentity(source) : undefined,
    destination: decision?.workload,
    destinationIdentity: upstream?.serverIdentity,
    service: decision?.service,
    isNodeLocal: upstream?.inbound !== undefined,
  };
}

function isTunnelled(decision: RequestDecision | undefined): boolean {
  return decision?.kind === 'hbone' || decision?.kind === 'double_hbone';
}

function podName(pod: OutboundPod): string {
  return `${pod.local.pod.namespace}/${pod.local.pod.name}`;
}
