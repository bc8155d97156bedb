// Where a VirtualService sends traffic: host, port and subset to a cluster. A destination that does not exist gets
// no cluster, so its share of the traffic is answered with 500 rather than sent elsewhere.
import type { Destination } from '../../resources/gen/virtual_service_pb.ts';
import { resolveHost } from '../../resources/host-name.ts';
import type { ServiceEntity, ServicePortEntity } from '../entities.ts';
import { findService } from '../mesh-model.ts';
import type { RouteContext } from './route-context.ts';

/** The cluster's name for an invalid destination. */
export const NO_CLUSTER = '';

/** The cluster of a destination; reports one that does not exist. */
export function destinationCluster(
  context: RouteContext,
  destination: Destination | undefined,
  path: string,
): string {
  const { model, source } = context;
  if (destination === undefined) return NO_CLUSTER;
  const host = resolveHost(destination.host, source.namespace, model.mesh.domain);
  const service = findService(model, host, source.namespace);
  if (service === undefined) {
    const message = `${path}.host: there is no service ${host}; its share is answered with 500`;
    model.log.nowhere(source, `${path}.host`, 'HostNotFound', message);
    return NO_CLUSTER;
  }
  const port = choosePort(service, destination.port?.number, context.port.port);
  if (port === undefined) {
    const wanted = destination.port?.number ?? context.port.port;
    const message = `${path}.port: service ${host} has no port ${wanted}; its share is answered with 500`;
    model.log.nowhere(source, `${path}.port`, 'PortNotFound', message);
    return NO_CLUSTER;
  }
  const cluster = context.clusters.refer(service, port, destination.subset);
  if (cluster !== undefined) return cluster;
  const known = context.clusters.subsetNames(service).join(', ');
  const hint = known === '' ? 'no DestinationRule defines subsets for it' : `known are ${known}`;
  const message = `${path}.subset: ${host} has no subset ${destination.subset} (${hint}); its share is answered with 500`;
  model.log.nowhere(source, `${path}.subset`, 'SubsetNotFound', message);
  return NO_CLUSTER;
}

/** The named port; else the only one; else the one the request came for. */
export function choosePort(
  service: ServiceEntity,
  wanted: number | undefined,
  listener: number,
): ServicePortEntity | undefined {
  const tcp = service.ports.filter((port) => port.protocol !== 'udp');
  if (wanted !== undefined && wanted !== 0) return tcp.find((port) => port.port === wanted);
  return tcp.length === 1 ? tcp[0] : tcp.find((port) => port.port === listener);
}
