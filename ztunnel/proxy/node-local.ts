// The same-node path: source and destination pods are both served by this thread, so the connection is joined here in
// one hop instead of being encrypted into the kernel and back. The destination's side is the tunnel's own
// (inbound.ts): identity, policy, live re-evaluation, record. Only the last step differs: the application's socket is
// handed to the source's side, which relays. Off where something between the pods' interfaces would be skipped.
import type { TunnelFailure } from '../../common/hbone/types.ts';
import { workloadIdentity } from '../../common/workload/model.ts';
import type { Workload } from '../../common/workload/model.ts';
import type { TcpStream } from '../../engine/reactor/tcp-stream.ts';
import { serveInbound } from './inbound.ts';
import type { InboundPod, JoinedInbound, JoiningRequest } from './inbound-types.ts';
import { TunnelError } from './failures.ts';
import { nodeLocalObstacle } from './node-local-rule.ts';
import type { ProxyContext } from './proxy-context.ts';
import type { RequestDecision } from './request.ts';
import { buildTunnelHeaders } from './tunnel-headers.ts';

type HboneDecision = Extract<RequestDecision, { kind: 'hbone' }>;

/** On whose behalf. */
export interface NodeLocalRequest {
  readonly source: Workload;
  readonly baggage: string;
  readonly client: { readonly ip: string; readonly port: number };
  readonly traceparent: string;
}

/** The connected application and the destination's record, which the source's relay feeds. */
export interface NodeLocalUpstream {
  readonly stream: TcpStream;
  readonly inbound: JoinedInbound;
  /** The destination's, as a certificate would prove it. */
  readonly identity: string | undefined;
}

/** The destination's pod, if it is served here and the path may be taken. */
export function findNodeLocal(
  context: ProxyContext,
  source: Workload,
  decision: HboneDecision,
): InboundPod | undefined {
  const { workload } = decision;
  const obstacle = nodeLocalObstacle(context.config.isNodeLocal, source, decision);
  return obstacle === undefined && workload !== undefined ? context.findPod(workload) : undefined;
}

/** Connects to a pod of this node. Rejects with {@link TunnelError}, as its tunnel would. */
export function dialNodeLocal(
  context: ProxyContext,
  pod: InboundPod,
  request: NodeLocalRequest,
  decision: HboneDecision,
): Promise<NodeLocalUpstream> {
  const identity = decision.workload && workloadIdentity(decision.workload);
  return new Promise((resolve, reject) => {
    const joining: JoiningRequest = {
      authority: decision.authority,
      headers: buildTunnelHeaders(
        request.baggage,
        request.client,
        decision.service?.hostname,
        request.traceparent,
      ),
      peerIdentity: workloadIdentity(request.source),
      peerAddress: request.client.ip,
      peerPort: request.client.port,
      localAddress: decision.address,
      localPort: decision.port,
      onAbort: undefined,
      join: (stream, inbound) => resolve({ stream, inbound, identity }),
      refuse: (status) => reject(new TunnelError(refusal(status))),
    };
    serveInbound(context, pod, joining).catch(reject);
  });
}

function refusal(status: number): TunnelFailure {
  return { code: 'status', status, detail: `refused with ${status} on this node` };
}
