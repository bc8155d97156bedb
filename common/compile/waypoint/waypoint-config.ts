// Everything a waypoint is sent: routes of the services bound to it, the clusters those refer to, and policies.
import { create } from '@bufbuild/protobuf';
import {
  PortProtocol,
  PortRoutesSchema,
  RouteActionSchema,
  RouteSchema,
  ServiceRoutesSchema,
  WeightedClusterSchema,
  type PortRoutes,
  type Route,
  type ServiceRoutes,
  type WeightedCluster,
} from '../../l7/gen/l7_pb.ts';
import { byAge, compareText, type ResourceMeta } from '../../resources/resource.ts';
import type { ServiceEntity } from '../entities.ts';
import type { GatewayEntity } from '../gateways.ts';
import { waypointProtocol } from '../port-protocol.ts';
import type { WaypointConfig } from '../types.ts';
import type { Attachment } from '../waypoint-binding.ts';
import { ClusterTable, type ClusterSources } from './cluster-table.ts';
import { gatewayApiRoutes, routesForPort, type HttpRouteResource } from './http-routes.ts';
import type { PoliciesByWaypoint } from './l7-authorization.ts';
import type { PortContext } from './route-context.ts';
import { defaultRetry } from './virtual-service-action.ts';
import { httpRoutes, tcpClusters, type PlacedRoute } from './virtual-service-routes.ts';
import {
  PUBLIC_RANK,
  reachRank,
  type VirtualServiceResource,
  type VirtualServices,
} from './virtual-services.ts';

/** What the config of all waypoints is made from. */
export interface WaypointSources extends ClusterSources {
  readonly attachments: ReadonlyMap<string, Attachment>;
  readonly virtualServices: VirtualServices;
  readonly httpRoutes: readonly HttpRouteResource[];
  readonly policies: PoliciesByWaypoint;
}

/** Config for every waypoint that is served, by "namespace/name". */
export function buildWaypoints(sources: WaypointSources): Map<string, WaypointConfig> {
  const { model, attachments } = sources;
  const bound = new Map<string, ServiceEntity[]>();
  for (const service of model.services) {
    const key = attachments.get(service.key)?.attached?.key;
    if (key === undefined) continue;
    const services = bound.get(key);
    if (services === undefined) bound.set(key, [service]);
    else services.push(service);
  }
  const configs = new Map<string, WaypointConfig>();
  for (const gateway of model.gateways.values()) {
    if (!gateway.isServed) continue;
    configs.set(gateway.key, buildWaypoint(sources, gateway, bound.get(gateway.key) ?? []));
  }
  return configs;
}

function buildWaypoint(
  sources: WaypointSources,
  waypoint: GatewayEntity,
  services: readonly ServiceEntity[],
): WaypointConfig {
  const clusters = new ClusterTable(sources, waypoint);
  const serviceRoutes = new Map<string, ServiceRoutes>();
  for (const service of services) {
    sources.model.log.guard(service.kind, service.service, () => {
      const context = { model: sources.model, waypoint, clusters, service };
      serviceRoutes.set(service.key, buildService(sources, context));
    });
  }
  return {
    serviceRoutes,
    clusters: sorted(clusters.clusters),
    subsetMembers: sorted(clusters.members),
    authorizationPolicies: sorted(sources.policies.get(waypoint.key) ?? new Map<string, never>()),
  };
}

type ServiceContext = Pick<PortContext, 'model' | 'waypoint' | 'clusters' | 'service'>;

// Which routes some port of the service kept, and which were behind a catch-all.
interface RouteFates {
  readonly kept: Set<string>;
  readonly shadowed: Map<string, PlacedRoute>;
}

function buildService(sources: WaypointSources, context: ServiceContext): ServiceRoutes {
  const { service, waypoint } = context;
  const virtual = sources.virtualServices.forService(service, waypoint.namespace);
  const fates: RouteFates = { kept: new Set(), shadowed: new Map() };
  const ports = service.ports
    .filter((port) => port.protocol !== 'udp')
    .map((port) => {
      const at: PortContext = { ...context, port };
      // Always there, even if every route leads elsewhere: its DestinationRule is in force.
      context.clusters.refer(service, port);
      const http = allRoutes(at, { virtual, gatewayApi: routesForPort(at, sources.httpRoutes) });
      return buildPort(at, { http: untilCatchAll(http, fates), virtual });
    });
  reportTcpOnly(context, virtual);
  for (const [key, { source, path }] of fates.shadowed) {
    if (fates.kept.has(key)) continue;
    const message = `${path}: never reached for ${service.hostname}: an earlier route takes every request`;
    context.model.log.nowhere(source, path, 'Shadowed', message);
  }
  return create(ServiceRoutesSchema, {
    namespace: service.namespace,
    hostname: service.hostname,
    name: service.name,
    ports,
  });
}

function buildPort(
  context: PortContext,
  from: { readonly http: Route[]; readonly virtual: readonly VirtualServiceResource[] },
): PortRoutes {
  const protocol = waypointProtocol(context.port.protocol);
  const result = create(PortRoutesSchema, { servicePort: context.port.port, protocol });
  if (protocol !== PortProtocol.TCP) result.routes = from.http;
  if (protocol === PortProtocol.TCP || protocol === PortProtocol.AUTO) {
    const chosen = from.virtual
      .map((entry) => tcpClusters(context, entry))
      .find((clusters) => clusters !== undefined);
    result.tcpClusters = chosen ?? [ownCluster(context)];
  }
  return result;
}

interface RouteGroup {
  readonly rank: number;
  readonly meta: ResourceMeta;
  readonly routes: PlacedRoute[];
}

// VirtualServices and HTTPRoutes together, by reach and age; those of HTTPRoutes count as one as old as the oldest.
function allRoutes(
  context: PortContext,
  from: {
    readonly virtual: readonly VirtualServiceResource[];
    readonly gatewayApi: readonly HttpRouteResource[];
  },
): PlacedRoute[] {
  if (waypointProtocol(context.port.protocol) === PortProtocol.TCP) return [];
  const groups: RouteGroup[] = from.virtual
    .filter((entry) => entry.spec.http.length > 0)
    .map((meta) => ({ rank: reachRank(meta), meta, routes: httpRoutes(context, meta) }));
  const [oldest] = from.gatewayApi;
  if (oldest !== undefined) {
    const routes = gatewayApiRoutes(context, from.gatewayApi);
    groups.push({ rank: PUBLIC_RANK, meta: oldest, routes });
  }
  if (groups.length === 0) return [defaultRoute(context)];
  groups.sort((a, b) => a.rank - b.rank || byAge(a.meta, b.meta));
  return groups.flatMap(({ routes }) => routes);
}

// Nothing that follows a route for every request is ever reached, so it is not sent.
function untilCatchAll(routes: readonly PlacedRoute[], fates: RouteFates): Route[] {
  const end = routes.findIndex((placed) => placed.isCatchAll);
  const kept = end < 0 ? routes : routes.slice(0, end + 1);
  for (const placed of kept) fates.kept.add(fateKey(placed));
  for (const placed of routes.slice(kept.length)) fates.shadowed.set(fateKey(placed), placed);
  return kept.map(({ route }) => route);
}

function fateKey({ source, path }: PlacedRoute): string {
  return `${source.kind}/${source.namespace}/${source.name}|${path}`;
}

function ownCluster(context: PortContext): WeightedCluster {
  const cluster = context.clusters.refer(context.service, context.port) ?? '';
  return create(WeightedClusterSchema, { cluster, weight: 1 });
}

function defaultRoute(context: PortContext): PlacedRoute {
  const action = create(RouteActionSchema, {
    clusters: [ownCluster(context)],
    retry: defaultRetry(),
  });
  const route = create(RouteSchema, {
    name: 'default',
    action: { case: 'forward', value: action },
  });
  return { source: context.service, route, path: '', isCatchAll: true };
}

// HTTP routes for a service that speaks only TCP do nothing.
function reportTcpOnly(context: ServiceContext, virtual: readonly VirtualServiceResource[]): void {
  const { service, model } = context;
  const hasHttp = service.ports.some(
    (port) => waypointProtocol(port.protocol) !== PortProtocol.TCP,
  );
  if (hasHttp) return;
  for (const entry of virtual) {
    if (entry.spec.http.length === 0) continue;
    const message = `spec.http: no port of ${service.hostname} speaks HTTP; name its ports http-... or set appProtocol`;
    model.log.nowhere(entry, 'spec.http', 'UnsupportedValue', message);
  }
}

function sorted<T>(map: ReadonlyMap<string, T>): Map<string, T> {
  return new Map([...map].sort(([a], [b]) => compareText(a, b)));
}
