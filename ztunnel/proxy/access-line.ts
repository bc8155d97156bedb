// The fields of the access line, with Istio's names and in its order, then ours.
import { REASON_FLAGS } from './reasons.ts';
import type { FailureReason } from './reasons.ts';
import { traceIdOf } from './traceparent.ts';
import type { ConnectionParties } from './traffic-labels.ts';

/** Addresses of a connection, for the access line. */
export interface ConnectionAddresses {
  readonly src: string;
  readonly dst: string;
  /** Authority of the tunnel. */
  readonly hboneAddr?: string | undefined;
  /** Of the request for the tunnel. */
  readonly traceparent?: string | undefined;
}

/** An application's reset is none; a connection that we cut is, though its flag says nothing. */
export function isOurFailure(reason: FailureReason): boolean {
  return REASON_FLAGS[reason] !== '-' || reason === 'drained' || reason === 'pod_removed';
}

/** What all lines about a connection begin with. */
export function baseFields(parties: ConnectionParties, addresses: ConnectionAddresses): object {
  const { source, sourceBaggage: baggage, destination, service } = parties;
  return {
    'src.addr': addresses.src,
    'src.workload': source?.name ?? baggage?.canonicalName,
    'src.namespace': source?.namespace ?? baggage?.namespace,
    'src.identity': parties.sourceIdentity,
    'src.cluster': source?.clusterId ?? baggage?.clusterId,
    'dst.addr': addresses.dst,
    'dst.hbone_addr': addresses.hboneAddr,
    'dst.service': service?.hostname,
    'dst.workload': destination?.name,
    'dst.namespace': destination?.namespace,
    'dst.identity': parties.destinationIdentity,
    'dst.cluster': destination?.clusterId,
    direction: parties.direction,
    ...(parties.isNodeLocal === true ? { path: 'node_local' } : {}),
  };
}

/** The last field, ours: the same at both ends of a tunnel. Istio's ztunnel has it as the id of its spans, which access lines lack. */
export function traceFields({ traceparent }: ConnectionAddresses): object {
  return traceparent === undefined ? {} : { trace_id: traceIdOf(traceparent) };
}
