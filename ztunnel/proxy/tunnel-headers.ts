// The headers of a CONNECT: baggage (who calls), forwarded (on whose behalf), traceparent (ztunnel-spec 3.3).
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
): HeaderList {
  const forwarded = encodeForwarded({
    address: client.ip,
    port: client.port,
    ...(serviceHost === undefined ? {} : { host: serviceHost }),
  });
  return [
    ['baggage', baggage],
    ['forwarded', forwarded],
    ['traceparent', newTraceparent()],
  ];
}

/** Tells the receiver that the connection came through a network gateway, and from which network. */
export const FORWARDED_NETWORK = 'x-forwarded-network';

/** An id for correlation, not a secret: the cheap source of randomness is enough. */
function newTraceparent(): string {
  return `00-${hex8()}${hex8()}${hex8()}${hex8()}-${hex8()}${hex8()}-00`;
}

// Formatting a number above 2^31 in base 16 goes through floating point: 3 % of a connection's CPU, measured.
const HEX = Array.from({ length: 256 }, (_, byte) => byte.toString(16).padStart(2, '0'));

function hex8(): string {
  const word = (Math.random() * 0x1_0000_0000) | 0;
  const high = (HEX[word >>> 24] ?? '') + (HEX[(word >> 16) & 0xff] ?? '');
  return high + (HEX[(word >> 8) & 0xff] ?? '') + (HEX[word & 0xff] ?? '');
}
