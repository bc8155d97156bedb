// Inbound HBONE of a pod (15008): each CONNECT is checked against the pod, its policies decide with the peer's proven
// identity, the application is dialled from the client's address, 200, relay, one result.
import type { ConnectionFacts } from '../../common/policy/evaluate.ts';
import { decodeForwardedHost } from '../../common/hbone/baggage.ts';
import { encodeProxyHeader } from '../../common/hbone/proxy-protocol.ts';
import { joinHostPort, normalizeIp, parseIp, splitHostPort } from '../../common/workload/ip.ts';
import type { Workload } from '../../common/workload/model.ts';
import type { RelayResult } from '../../engine/reactor/duplex.ts';
import { startRelay } from '../../engine/reactor/relay.ts';
import { connectTcp } from '../../engine/reactor/tcp-connect.ts';
import type { TcpStream } from '../../engine/reactor/tcp-stream.ts';
import type { OpenConnection } from './connection-result.ts';
import { describeTunnelFailure, relayOutcome } from './failures.ts';
import { forwardedService, inboundParties } from './inbound-parties.ts';
import { isJoining } from './inbound-types.ts';
import type { InboundPod, InboundRequest, JoiningRequest } from './inbound-types.ts';
import { buildInboundRequest } from './inbound-request.ts';
import type { InboundDecision } from './inbound-request.ts';
import type { ProxyContext } from './proxy-context.ts';
import { readTraceparent } from './traceparent.ts';
import { buildBaggage } from './tunnel-headers.ts';

const NO_IP = new Uint8Array(0);

/**
 * Serves one CONNECT, or a connection of this node, to its end. Never throws. `onRegistered`: it is among the pod's
 * connections now.
 */
export async function serveInbound(
  context: ProxyContext,
  pod: InboundPod,
  request: InboundRequest,
  onRegistered: () => void = () => undefined,
): Promise<void> {
  const startedMs = Date.now();
  const state = { isGone: false };
  const isGone = (): boolean => state.isGone;
  request.onAbort = () => {
    state.isGone = true;
  };
  const workload = pod.local.current ?? (await pod.local.wait());
  const addresses = {
    src: joinHostPort(request.peerAddress, request.peerPort),
    dst: joinHostPort(request.localAddress, request.localPort),
    hboneAddr: request.authority,
    traceparent: readTraceparent(request.headers),
  };
  if (workload === undefined) {
    const detail = `no workload for ${pod.local.pod.namespace}/${pod.local.pod.name}`;
    const parties = inboundParties(context, request, undefined, undefined);
    context.recorder.refuse(parties, addresses, 'unknown_destination', detail);
    if (!isGone()) request.refuse(503);
    return;
  }
  const pending = context.resolve(workload.network, request.peerAddress);
  if (pending !== undefined) await pending;
  const decision = await decide(context, request, workload);
  if (decision.kind === 'refuse') {
    const parties = inboundParties(context, request, workload, undefined);
    context.recorder.refuse(parties, addresses, decision.reason, decision.detail);
    if (!isGone()) request.refuse(decision.status);
    return;
  }
  const service = forwardedService(context.store, request, workload) ?? decision.service;
  const parties = inboundParties(context, request, workload, service);
  if (!context.gate.isComplete(workload)) {
    const missing = await context.gate.missing(() => pod.local.current);
    if (missing.length > 0) {
      context.recorder.refuse(parties, addresses, 'policy_missing', missingText(missing));
      if (!isGone()) request.refuse(401);
      return;
    }
  }
  const connection = context.recorder.open(parties, addresses, startedMs);
  const run = new InboundConnection(context, pod, request, connection);
  await run.serve(pod.local.current ?? workload, decision, { isGone, onRegistered });
}

/** The detail of `policy_missing`. */
export function missingText(missing: readonly string[]): string {
  return `policies named by the workload have not arrived: ${missing.slice(0, 5).join(', ')}`;
}

type Acceptance = Extract<InboundDecision, { kind: 'accept' }>;

/** Decides; an address that is not ours may belong to what this pod is the waypoint of, once that is known. */
async function decide(
  context: ProxyContext,
  { authority, localAddress }: InboundRequest,
  workload: Workload,
): Promise<InboundDecision> {
  const { isSocks5, isTunnelOnLoopback } = context.config;
  const asked = { store: context.store, workload, authority, localIp: localAddress };
  const decision = buildInboundRequest({ ...asked, isSocks5, isTunnelOnLoopback });
  const target = splitHostPort(authority);
  if (decision.kind === 'accept' || decision.reason !== 'ip_mismatch' || target === undefined) {
    return decision;
  }
  const pending = context.resolve(workload.network, normalizeIp(target.host) ?? target.host);
  if (pending === undefined) return decision;
  await pending;
  return buildInboundRequest({ ...asked, isSocks5, isTunnelOnLoopback });
}

/** One accepted CONNECT. Registered before its policy check, so that a change in between is not missed. */
class InboundConnection {
  readonly #context: ProxyContext;
  readonly #pod: InboundPod;
  readonly #request: InboundRequest;
  readonly #connection: OpenConnection;
  #aborted: Parameters<OpenConnection['finish']>[0] | undefined;
  #abortRelay: ((detail: string) => void) | undefined;

  constructor(
    context: ProxyContext,
    pod: InboundPod,
    request: InboundRequest,
    connection: OpenConnection,
  ) {
    this.#context = context;
    this.#pod = pod;
    this.#request = request;
    this.#connection = connection;
  }

  async serve(
    workload: Workload,
    accepted: Acceptance,
    { isGone, onRegistered }: { isGone: () => boolean; onRegistered: () => void },
  ): Promise<void> {
    const request = this.#request;
    const { port } = accepted;
    const facts: ConnectionFacts = {
      sourceIdentity: request.peerIdentity,
      sourceIp: parseIp(request.peerAddress) ?? NO_IP,
      destinationIp: parseIp(request.localAddress) ?? NO_IP,
      destinationPort: port,
    };
    const unregister = this.#register(port, facts);
    onRegistered();
    if (this.#hasEnded()) {
      unregister();
      this.#connection.finish(this.#aborted ?? { reason: 'pod_removed' });
      if (!isGone()) request.refuse(401);
      return;
    }
    const verdict = this.#context.gate.check(workload, facts);
    const { parties, addresses } = this.#connection.fields;
    this.#context.recorder.dryRun(parties, addresses, verdict);
    if (!verdict.isAllowed) {
      unregister();
      const { reason: detail, policy, rule } = verdict;
      this.#connection.finish({ reason: 'policy_denied', detail, policy, rule });
      // 401 is what Istio's ztunnel answers.
      if (!isGone()) request.refuse(401);
      return;
    }
    let app: TcpStream;
    try {
      app = await this.#dialApp(accepted);
    } catch (err) {
      unregister();
      const { reason, detail } = describeTunnelFailure(err);
      this.#connection.finish(this.#aborted ?? { reason, detail });
      if (!isGone()) request.refuse(503);
      return;
    }
    if (isGone() || this.#aborted !== undefined) {
      unregister();
      app.reset();
      const outcome = { reason: 'downstream_reset', detail: 'gone before the dial' } as const;
      this.#connection.finish(this.#aborted ?? outcome);
      if (!isGone()) request.refuse(401);
      return;
    }
    this.#relay(workload, { app, accepted }, unregister);
  }

  /** Its pod has ended, or it may not go on. */
  #hasEnded(): boolean {
    return this.#aborted !== undefined;
  }

  #relay(
    workload: Workload,
    { app, accepted }: { readonly app: TcpStream; readonly accepted: Acceptance },
    unregister: () => void,
  ): void {
    const request = this.#request;
    const { peerAddress: ip, peerPort: port, peerIdentity } = request;
    const { port: appPort, proxyTarget: target } = accepted;
    const header = target && encodeProxyHeader({ ip, port }, target, peerIdentity);
    if (isJoining(request)) {
      if (header !== undefined) app.writeBytes(header);
      this.#join(request, app, unregister);
      return;
    }
    const headers = this.#context.config.sendsResponseBaggage
      ? ([['baggage', buildBaggage(workload)]] as const)
      : [];
    const stream = request.accept(headers);
    if (header !== undefined) app.writeBytes(header);
    const done = (result: RelayResult): void => {
      unregister();
      this.#connection.finish(this.#aborted ?? relayOutcome(result));
    };
    const observer = this.#context.sight.watch(this.#connection.fields.parties, appPort);
    const relay = startRelay(stream, app, this.#connection, done, observer);
    this.#abortRelay = (detail) => relay.abort(detail);
  }

  #join(request: JoiningRequest, app: TcpStream, unregister: () => void): void {
    const connection = this.#connection;
    request.join(app, {
      parties: connection.fields.parties,
      addForward: (bytes) => connection.addForward(bytes),
      addBackward: (bytes) => connection.addBackward(bytes),
      finish: (outcome) => {
        unregister();
        connection.finish(this.#aborted ?? outcome);
      },
      onRelay: (abort) => {
        this.#abortRelay = abort;
        if (this.#aborted !== undefined) abort(this.#aborted.detail ?? '');
      },
    });
  }

  #register(port: number, facts: ConnectionFacts): () => void {
    const { peerAddress, peerPort, localAddress, headers } = this.#request;
    return this.#pod.connections.register({
      direction: 'inbound',
      dump: () => ({
        src: joinHostPort(peerAddress, peerPort),
        originalDst: decodeForwardedHost(headers) ?? null,
        actualDst: joinHostPort(localAddress, port),
        protocol: isJoining(this.#request) ? 'NODE_LOCAL' : 'HBONE',
      }),
      record: this.#connection,
      facts,
      abort: (reason, detail, by) => {
        this.#aborted = { reason, detail, ...by };
        this.#abortRelay?.(detail);
      },
    });
  }

  #dialApp({ address, port, proxyTarget }: Acceptance): Promise<TcpStream> {
    const { peerAddress, localAddress } = this.#request;
    const { config, reactor } = this.#context;
    const { netns } = this.#pod;
    // An application that calls itself is dialled plainly: its own address cannot be spoofed.
    // A tunnel is told by its header; loopback could not answer a spoofed address.
    const isSpoofable = proxyTarget === undefined || !config.isTunnelOnLoopback;
    const isSpoofed = config.isSourcePreserved && isSpoofable && peerAddress !== localAddress;
    return connectTcp(reactor, {
      address,
      port,
      mark: config.packetMark,
      ...(netns === undefined ? {} : { netns }),
      ...(isSpoofed ? { sourceAddress: peerAddress } : {}),
    });
  }
}
