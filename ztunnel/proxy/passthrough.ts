// Inbound plaintext of a pod, taken by the redirect to 15006: policies decide without an identity (so STRICT mutual
// TLS refuses here), then the original destination is dialled from the client's address.
import { IGNORE_STREAM, type RelayResult } from '../../engine/reactor/duplex.ts';
import type { ConnectionFacts } from '../../common/policy/evaluate.ts';
import { joinHostPort, parseIp } from '../../common/workload/ip.ts';
import type { Workload } from '../../common/workload/model.ts';
import { startRelay } from '../../engine/reactor/relay.ts';
import { connectTcp } from '../../engine/reactor/tcp-connect.ts';
import type { TcpStream } from '../../engine/reactor/tcp-stream.ts';
import type { ConnectionDump } from '../messages.ts';
import { describeTunnelFailure, relayOutcome } from './failures.ts';
import { missingText } from './inbound.ts';
import type { InboundPod } from './inbound-types.ts';
import type { DecidingRule } from './connection-manager.ts';
import type { ConnectionOutcome, OpenConnection } from './connection-result.ts';
import type { ProxyContext } from './proxy-context.ts';
import type { FailureReason } from './reasons.ts';
import { isOwnPort } from './request.ts';
import type { OriginalDst } from './request.ts';
import type { ConnectionParties } from './traffic-labels.ts';

const NO_IP = new Uint8Array(0);

/** Serves one accepted connection to its end. Never throws. */
export async function servePassthrough(
  context: ProxyContext,
  pod: InboundPod,
  stream: TcpStream,
): Promise<void> {
  const startedMs = Date.now();
  const { address: ip, port } = stream.originalDst();
  const { peer } = stream;
  const addresses = { src: joinHostPort(peer.address, peer.port), dst: joinHostPort(ip, port) };
  stream.handler = IGNORE_STREAM;
  const workload = pod.local.current ?? (await pod.local.wait());
  if (workload !== undefined) {
    const pending = context.resolve(workload.network, peer.address);
    if (pending !== undefined) await pending;
  }
  const parties = partiesOf(context, workload, peer.address);
  const refuse = (reason: FailureReason, detail: string): void => {
    context.recorder.refuse(parties, addresses, reason, detail);
    stream.reset();
  };
  if (isOwnPort(port, context.config.isSocks5)) {
    refuse('recursive_call', `recursive call to ${addresses.dst}`);
    return;
  }
  if (workload === undefined) {
    refuse(
      'unknown_destination',
      `no workload for ${pod.local.pod.namespace}/${pod.local.pod.name}`,
    );
    return;
  }
  if (!context.gate.isComplete(workload)) {
    const missing = await context.gate.missing(() => pod.local.current);
    if (missing.length > 0) {
      refuse('policy_missing', missingText(missing));
      return;
    }
  }
  const connection = context.recorder.open(parties, addresses, startedMs);
  await relayPlaintext(context, pod, { stream, workload, connection, destination: { ip, port } });
}

interface PlaintextParts {
  readonly stream: TcpStream;
  readonly workload: Workload;
  readonly connection: OpenConnection;
  readonly destination: OriginalDst;
}

/** What policy changes and shutdown do to a connection in any of its states. */
interface AbortState {
  outcome?: ConnectionOutcome;
  abortRelay?: (detail: string) => void;
}

function hasEnded(state: AbortState): boolean {
  return state.outcome !== undefined;
}

async function relayPlaintext(
  context: ProxyContext,
  pod: InboundPod,
  parts: PlaintextParts,
): Promise<void> {
  const { stream, workload, connection, destination } = parts;
  const state: AbortState = {};
  const facts = factsOf(stream, destination);
  const unregister = pod.connections.register({
    direction: 'inbound',
    dump: () => dumpOf(stream, destination),
    record: connection,
    facts,
    abort: (reason, detail, by) => {
      state.outcome = { reason, detail, ...by };
      state.abortRelay?.(detail);
    },
  });
  const fail = (reason: FailureReason, detail: string, by?: DecidingRule): void => {
    unregister();
    connection.finish(state.outcome ?? { reason, detail, ...by });
    stream.reset();
  };
  if (hasEnded(state)) {
    fail('pod_removed', 'the pod has ended');
    return;
  }
  const verdict = context.gate.check(pod.local.current ?? workload, facts);
  context.recorder.dryRun(connection.fields.parties, connection.fields.addresses, verdict);
  if (!verdict.isAllowed) {
    fail('policy_denied', verdict.reason, { policy: verdict.policy, rule: verdict.rule });
    return;
  }
  let app: TcpStream;
  try {
    app = await dialOriginal(context, pod, stream, destination);
  } catch (err) {
    const failure = describeTunnelFailure(err);
    fail(failure.reason, failure.detail);
    return;
  }
  if (state.outcome !== undefined || stream.isClosed) {
    app.reset();
    fail('downstream_reset', 'closed while connecting');
    return;
  }
  const done = (result: RelayResult): void => {
    unregister();
    connection.finish(state.outcome ?? relayOutcome(result));
  };
  const observer = context.sight.watch(connection.fields.parties, destination.port);
  const relay = startRelay(stream, app, connection, done, observer);
  state.abortRelay = (detail) => relay.abort(detail);
}

function dialOriginal(
  context: ProxyContext,
  pod: InboundPod,
  stream: TcpStream,
  { ip, port }: OriginalDst,
): Promise<TcpStream> {
  const source = stream.peer.address;
  const isSpoofed = context.config.isSourcePreserved && source !== ip;
  return connectTcp(context.reactor, {
    address: ip,
    port,
    mark: context.config.packetMark,
    ...(pod.netns === undefined ? {} : { netns: pod.netns }),
    // The client's own connection is tracked in this namespace under the same addresses and destination port.
    ...(isSpoofed ? { sourceAddress: source, isSourcePortLow: true } : {}),
  });
}

function factsOf(stream: TcpStream, { ip, port }: OriginalDst): ConnectionFacts {
  return {
    sourceIdentity: undefined,
    sourceIp: parseIp(stream.peer.address) ?? NO_IP,
    destinationIp: parseIp(ip) ?? NO_IP,
    destinationPort: port,
  };
}

function dumpOf(stream: TcpStream, { ip, port }: OriginalDst): ConnectionDump {
  const { address, port: peerPort } = stream.peer;
  return {
    src: joinHostPort(address, peerPort),
    originalDst: null,
    actualDst: joinHostPort(ip, port),
    protocol: 'TCP',
  };
}

function partiesOf(
  context: ProxyContext,
  workload: Workload | undefined,
  peerAddress: string,
): ConnectionParties {
  const found = workload && context.store.findWorkload(workload.network, peerAddress);
  return {
    direction: 'inbound',
    source: found,
    sourceBaggage: undefined,
    sourceIdentity: undefined,
    destination: workload,
    destinationIdentity: undefined,
    service: undefined,
  };
}
