// What a route is compiled in: the waypoint, the service and port it is for, and the object it comes from.
import type { ServiceEntity, ServicePortEntity } from '../entities.ts';
import type { GatewayEntity } from '../gateways.ts';
import type { MeshModel } from '../mesh-model.ts';
import type { ResourceMeta } from '../../resources/resource.ts';
import type { ClusterTable } from './cluster-table.ts';

/** A port of a service bound to a waypoint. */
export interface PortContext {
  readonly model: MeshModel;
  readonly waypoint: GatewayEntity;
  readonly clusters: ClusterTable;
  readonly service: ServiceEntity;
  readonly port: ServicePortEntity;
}

/** The same for one object's routes. */
export interface RouteContext extends PortContext {
  readonly source: ResourceMeta;
}

/** `VirtualService/bookinfo/reviews` */
export function sourceName(source: ResourceMeta): string {
  return `${source.kind}/${source.namespace}/${source.name}`;
}
