// Who is at both ends of an inbound tunnel, for labels and logs: the source by its address where the
// record has the proven identity, else by what its baggage says. Pure; policy does not look at it.
import { decodeBaggage, decodeForwardedHost } from '../../common/hbone/baggage.ts';
import { workloadIdentity } from '../../common/workload/model.ts';
import type { Service, Workload } from '../../common/workload/model.ts';
import type { WorkloadStore } from '../../common/workload/store.ts';
import { isJoining } from './inbound-types.ts';
import type { InboundRequest } from './inbound-types.ts';
import type { ConnectionParties } from './traffic-labels.ts';
import { FORWARDED_NETWORK } from './tunnel-headers.ts';

/** What it depends on besides the request. */
interface PartiesContext {
  readonly store: WorkloadStore;
  readonly config: {
    readonly network: string;
    /** `ENABLE_RESPONSE_BAGGAGE`: off, that of requests is not read either. */
    readonly sendsResponseBaggage: boolean;
  };
}

/** What labels and access lines say; `workload` is undefined while the control plane does not describe the pod. */
export function inboundParties(
  context: PartiesContext,
  request: InboundRequest,
  workload: Workload | undefined,
  service: Service | undefined,
): ConnectionParties {
  const source = sourceOf(context, request, workload);
  const isBaggageRead = source === undefined && context.config.sendsResponseBaggage;
  return {
    direction: 'inbound',
    source,
    sourceBaggage: isBaggageRead ? decodeBaggage(request.headers) : undefined,
    sourceIdentity: request.peerIdentity,
    destination: workload,
    destinationIdentity: workload && workloadIdentity(workload),
    service,
    isNodeLocal: isJoining(request),
  };
}

/** The workload's service that the client says it addressed; only for labels. */
export function forwardedService(
  store: WorkloadStore,
  request: InboundRequest,
  workload: Workload,
): Service | undefined {
  const host = decodeForwardedHost(request.headers);
  if (host === undefined) return undefined;
  for (const key of Object.keys(workload.services)) {
    if (!key.endsWith(`/${host}`)) continue;
    const service = store.service(key);
    if (service !== undefined) return service;
  }
  return undefined;
}

/** Best effort by address; a record whose identity is not the proven one is somebody else's. */
function sourceOf(
  context: PartiesContext,
  request: InboundRequest,
  workload: Workload | undefined,
): Workload | undefined {
  if (workload === undefined || isFromGateway(context, request)) return undefined;
  const found = context.store.findWorkload(workload.network, request.peerAddress);
  if (found === undefined || workloadIdentity(found) !== request.peerIdentity) return undefined;
  return found;
}

/** Whether the connection came through a network gateway: its address then says nothing about the source. */
function isFromGateway({ config }: PartiesContext, { headers }: InboundRequest): boolean {
  const network = headers.find(([name]) => name === FORWARDED_NETWORK)?.[1];
  if (network === undefined) return false;
  return network.toLowerCase() !== config.network.toLowerCase();
}
