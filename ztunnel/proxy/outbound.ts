// Outbound connections of a pod, taken by the redirect to 15001: original destination, source workload, decision,
// connect, relay, one result. See docs/design/life-of-a-connection.md.
import { joinHostPort } from '../../common/workload/ip.ts';
import type { Workload } from '../../common/workload/model.ts';
import { showBytes } from '../../engine/reactor/bytes.ts';
import { IGNORE_STREAM } from '../../engine/reactor/duplex.ts';
import type { RelayCounters, RelayObserver, RelayResult } from '../../engine/reactor/duplex.ts';
import type { Netns } from '../../engine/reactor/netns.ts';
import { startRelay } from '../../engine/reactor/relay.ts';
import type { TcpStream } from '../../engine/reactor/tcp-stream.ts';
import type { ConnectionDump } from '../messages.ts';
import type { ConnectionManager } from './connection-manager.ts';
import type { ConnectionAddresses } from './access-line.ts';
import { DialError, dialUpstream } from './dial.ts';
import type { DialRequest, DialedUpstream, TunnelOpener } from './dial.ts';
import { describeTunnelFailure, relayOutcome } from './failures.ts';
import { ApplicationBytes } from './early-bytes.ts';
import type { LocalWorkload } from './local-workload.ts';
import type { ProxyContext } from './proxy-context.ts';
import type { FailureReason } from './reasons.ts';
import type { WorkloadPort } from './l7-sight.ts';
import type { ConnectDecision, OriginalDst, RequestDecision } from './request.ts';
import { workloadIdentity } from '../../common/workload/model.ts';
import type { ConnectionParties } from './traffic-labels.ts';
import { newTraceparent } from './traceparent.ts';
import { buildBaggage } from './tunnel-headers.ts';

/** The pod's parts that outbound needs. */
export interface OutboundPod {
  readonly local: LocalWorkload;
  readonly netns: Netns | undefined;
  readonly connections: ConnectionManager;
  readonly tunnels: TunnelOpener;
}

/** Serves one accepted connection to its end. Never throws. */
export function serveOutbound(
  context: ProxyContext,
  pod: OutboundPod,
  stream: TcpStream,
): Promise<void> {
  const startedMs = Date.now();
  const { address: ip, port } = stream.originalDst();
  const client = { ip: stream.peer.address, port: stream.peer.port };
  return serveDestination(context, pod, { stream, client, destination: { ip, port }, startedMs });
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

/** Decides, connects and relays. Never rejects. */
export function serveDestination(
  context: ProxyContext,
  pod: OutboundPod,
  accepted: OutboundConnection,
): Promise<void> {
  accepted.stream.handler = IGNORE_STREAM;
  const source = pod.local.current;
  if (source === undefined) return serveWhenKnown(context, pod, accepted, undefined);
  const pending = context.resolve(source.network, accepted.destination.ip);
  return pending === undefined
    ? connectAndRelay(context, pod, new OutboundDial(pod, source, accepted))
    : serveWhenKnown(context, pod, accepted, pending);
}

async function serveWhenKnown(
  context: ProxyContext,
  pod: OutboundPod,
  accepted: OutboundConnection,
  asked: Promise<boolean> | undefined,
): Promise<void> {
  const dial = await learn(context, pod, accepted, asked);
  if (dial !== undefined) await connectAndRelay(context, pod, dial);
}

/** Waits for the pod's own record, and for what the control plane knows of the destination. Undefined is refused. */
async function learn(
  context: ProxyContext,
  pod: OutboundPod,
  accepted: OutboundConnection,
  asked: Promise<boolean> | undefined,
): Promise<OutboundDial | undefined> {
  const source = pod.local.current ?? (await pod.local.wait());
  const refuse = (reason: FailureReason, detail: string): void => {
    const parties = partiesOf(source, undefined, undefined);
    context.recorder.refuse(parties, addressesOf(accepted), reason, detail);
    accepted.stream.reset();
  };
  if (source === undefined) {
    refuse('unknown_source', `no workload for ${podName(pod)}`);
    return undefined;
  }
  const { ip } = accepted.destination;
  const pending = asked ?? context.resolve(source.network, ip);
  if (pending !== undefined && !(await pending)) {
    refuse('xds_timeout', `the control plane has not said in time what ${ip} is`);
    return undefined;
  }
  return new OutboundDial(pod, source, accepted);
}

/** What a connection is dialled for. A scan leaves thousands of these waiting: it holds little. */
class OutboundDial implements DialRequest {
  readonly #pod: OutboundPod;
  readonly source: Workload;
  readonly accepted: OutboundConnection;
  #early: ApplicationBytes | undefined;
  /** What it is known by at both ends, once a tunnel was asked for. */
  tracedAs: string | undefined;

  constructor(pod: OutboundPod, source: Workload, accepted: OutboundConnection) {
    this.#pod = pod;
    this.source = source;
    this.accepted = accepted;
  }

  get baggage(): string {
    return buildBaggage(this.source);
  }

  get traceparent(): string {
    this.tracedAs ??= newTraceparent();
    return this.tracedAs;
  }

  get client(): OriginalDst {
    return this.accepted.client;
  }

  get destination(): OriginalDst {
    return this.accepted.destination;
  }

  get netns(): Netns | undefined {
    return this.#pod.netns;
  }

  get tunnels(): TunnelOpener {
    return this.#pod.tunnels;
  }

  get early(): ApplicationBytes {
    this.#early ??= new ApplicationBytes(this.accepted.stream, this.accepted.early);
    return this.#early;
  }

  /** What has been read of the application. */
  get bytesRead(): Uint8Array | undefined {
    return this.#early?.bytes ?? this.accepted.early;
  }

  isAbandoned(): boolean {
    return this.accepted.stream.isClosed;
  }
}

/** Its frame lives as long as the connect, so it has few variables. */
async function connectAndRelay(
  context: ProxyContext,
  pod: OutboundPod,
  dial: OutboundDial,
): Promise<void> {
  let upstream: DialedUpstream;
  try {
    upstream = await dialUpstream(context, dial);
  } catch (err) {
    recordFailedDial(context, dial, err);
    dial.accepted.stream.reset();
    return;
  }
  joinUpstream(context, pod, dial, upstream);
}

function joinUpstream(
  context: ProxyContext,
  pod: OutboundPod,
  dial: OutboundDial,
  upstream: DialedUpstream,
): void {
  const { source, accepted } = dial;
  const { stream, startedMs } = accepted;
  const early = dial.bytesRead;
  const addresses = addressesOf(accepted, dial.tracedAs);
  const parts = { stream, upstream, source, addresses, startedMs, early };
  if (dial.isAbandoned()) abandon(context, parts);
  else relayOutbound(context, pod, parts);
}

/** As text, when it is needed: a dial lasts, and its record is written at its end. */
function addressesOf(
  { client, destination }: OutboundConnection,
  traceparent?: string,
): ConnectionAddresses {
  return {
    src: joinHostPort(client.ip, client.port),
    dst: joinHostPort(destination.ip, destination.port),
    traceparent,
  };
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
  // Alone, because what is kept below must not keep the early bytes.
  const { src, dst: originalDst } = parts.addresses;
  const addresses = connectedAddresses(parts.addresses, decision);
  const parties = partiesOf(source, decision, upstream);
  const connection = context.recorder.open(parties, addresses, startedMs);
  let aborted: { reason: FailureReason; detail: string } | undefined;
  const { inbound } = upstream;
  const counters = inbound === undefined ? connection : countBoth(connection, inbound);
  if (parts.early !== undefined && parts.early.length > 0) {
    if (upstream.earlyBytes !== parts.early.length) upstream.stream.writeBytes(parts.early);
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
      src,
      originalDst,
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
  if (isServedByWaypoint) return undefined;
  const observer = sight.watch(parties, workloadPort(decision), inbound?.parties);
  if (observer === undefined || early === undefined || early.length === 0) return observer;
  const seesMore = showBytes(early, (address, length) => observer.sawForward(address, length));
  return seesMore ? observer : undefined;
}

function workloadPort(decision: ConnectDecision): WorkloadPort {
  if (decision.kind === 'double_hbone') return undefined;
  return decision.kind === 'hbone' ? decision.authority : decision.port;
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
  { source, accepted, tracedAs }: OutboundDial,
  err: unknown,
): void {
  const addresses = addressesOf(accepted, tracedAs);
  const failure = err instanceof DialError ? err.failure : describeTunnelFailure(err);
  const decision = err instanceof DialError ? err.decision : undefined;
  const parties = partiesOf(source, decision, undefined);
  if (failure.isRefusal) {
    context.recorder.refuse(parties, addresses, failure.reason, failure.detail);
    return;
  }
  const connected = decision === undefined ? addresses : connectedAddresses(addresses, decision);
  const connection = context.recorder.open(parties, connected, accepted.startedMs);
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
