// The headers of a CONNECT: baggage (who calls), forwarded (on whose behalf), traceparent (ztunnel-spec 3.3).
import { randomBytes } from 'node:crypto';
import { encodeBaggage, encodeForwarded } from '../../common/hbone/baggage.ts';
import type { Workload } from '../../common/workload/model.ts';
import type { HeaderList } from '../../engine/http2/types.ts';

/** The baggage value of a workload. */
export function buildBaggage(workload: Workload): string {
  return encodeBaggage({
    clusterId: workload.clusterId,
    namespace: workload.namespace,
    workloadType: workload.workloadType,
    workloadName: workload.workloadName,
    canonicalName: workload.canonicalName,
    canonicalRevision: workload.canonicalRevision,
    region: workload.locality.region,
    zone: workload.locality.zone,
  });
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

function newTraceparent(): string {
  const hex = randomBytes(24).toString('hex');
  return `00-${hex.slice(0, 32)}-${hex.slice(32)}-00`;
}
