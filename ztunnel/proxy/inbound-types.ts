// What inbound connections need of their pod, and the two ways they come: by a tunnel, or from a pod of this node.
import type { TunnelRequest } from '../../common/hbone/types.ts';
import type { RelayCounters } from '../../engine/reactor/duplex.ts';
import type { Netns } from '../../engine/reactor/netns.ts';
import type { TcpStream } from '../../engine/reactor/tcp-stream.ts';
import type { ConnectionManager } from './connection-manager.ts';
import type { ConnectionOutcome } from './connection-result.ts';
import type { LocalWorkload } from './local-workload.ts';
import type { ConnectionParties } from './traffic-labels.ts';

/** The pod's parts that inbound needs. */
export interface InboundPod {
  readonly local: LocalWorkload;
  readonly netns: Netns | undefined;
  readonly connections: ConnectionManager;
}

/** The destination's half of a connection that is joined on this node: told by the source's relay. */
export interface JoinedInbound extends RelayCounters {
  /** As the destination sees them. */
  readonly parties: ConnectionParties;
  finish(outcome: ConnectionOutcome): void;
  /** Sets what ends the relay when policies change or the pod goes. */
  onRelay(abort: (detail: string) => void): void;
}

/** A request of a pod on this node: the application's socket is handed over instead of relayed here. */
export interface JoiningRequest extends Omit<TunnelRequest, 'accept'> {
  join(app: TcpStream, inbound: JoinedInbound): void;
}

/** A CONNECT, or its like from this node. */
export type InboundRequest = TunnelRequest | JoiningRequest;

/** Whether it joins two pods of this node, without a tunnel. */
export function isJoining(request: InboundRequest): request is JoiningRequest {
  return 'join' in request;
}
