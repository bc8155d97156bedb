// The headers of a CONNECT: baggage (who calls), forwarded (on whose behalf), traceparent.
import { encodeBaggage, encodeForwarded } from '../../common/hbone/baggage.ts';
import type { Workload } from '../../common/workload/model.ts';
import type { HeaderList } from '../../engine/http2/types.ts';

// Made once for each record: it is sent with every connection.
const baggageOf = new WeakMap<Workload, string>();

/** The baggage value of a workload. */
export function buildBaggage(workload: Workload): string {
  const known = baggageOf.get(workload);
  if (known !== undefined) return known;
  const baggage = encodeBaggage({
    clusterId: workload.clusterId,
    namespace: workload.namespace,
    workloadType: workload.workloadType,
    workloadName: workload.workloadName,
    canonicalName: workload.canonicalName,
    canonicalRevision: workload.canonicalRevision,
    region: workload.locality.region,
    zone: workload.locality.zone,
  });
  baggageOf.set(workload, baggage);
  return baggage;
}

/** The request headers of a tunnel besides `:method` and `:authority`. */
export function buildTunnelHeaders(
  baggage: string,
  client: { readonly ip: string; readonly port: number },
  serviceHost: string | undefined,
  traceparent: string,
): HeaderList {
  const forwarded = encodeForwarded({
    address: client.ip,
    port: client.port,
    ...(serviceHost === undefined ? {} : { host: serviceHost }),
  });
  return [
    ['baggage', baggage],
    ['forwarded', forwarded],
    ['traceparent', traceparent],
  ];
}

/** Tells the receiver that the connection came through a network gateway, and from which network. */
export const FORWARDED_NETWORK = 'x-forwarded-network';
