// The routes of one VirtualService for one port of a service.
import { create } from '@bufbuild/protobuf';
import {
  MirrorSchema,
  RouteActionSchema,
  RouteSchema,
  WeightedClusterSchema,
  type Mirror,
  type Route,
  type RouteAction,
  type RouteMatch,
  type WeightedCluster,
} from '../../l7/gen/l7_pb.ts';
import type {
  HTTPRoute,
  HTTPRouteDestination,
  RouteDestination,
  TCPRoute,
  VirtualService,
} from '../../resources/gen/virtual_service_pb.ts';
import { durationMs } from '../../resources/go-duration.ts';
import type { Resource, ResourceMeta } from '../../resources/resource.ts';
import { NO_CLUSTER, destinationCluster } from './destination.ts';
import { sourceName, type PortContext, type RouteContext } from './route-context.ts';
import {
  buildDirectResponse,
  buildFault,
  buildHeaderOps,
  buildRedirect,
  buildRetry,
  buildRewrite,
  percent,
} from './virtual-service-action.ts';
import { buildMatch, isCatchAll, isReachable } from './virtual-service-match.ts';

/** One route and where in its object it stands. */
export interface PlacedRoute {
  readonly source: ResourceMeta;
  readonly route: Route;
  readonly path: string;
  readonly isCatchAll: boolean;
}

/** All HTTP routes of a VirtualService that can be reached at this port, in order. */
export function httpRoutes(port: PortContext, source: Resource<VirtualService>): PlacedRoute[] {
  const context: RouteContext = { ...port, source };
  return source.spec.http.flatMap((http, index) => {
    const path = `spec.http[${index}]`;
    const reachable = http.match.filter((match) => isReachable(context, match));
    if (http.match.length > 0 && reachable.length === 0) return [];
    if (http.delegate !== undefined) {
      const message = `${path}.delegate: delegation is not served; the route is left out`;
      context.model.log.nowhere(source, `${path}.delegate`, 'UnsupportedField', message);
      return [];
    }
    const matches = reachable.map(buildMatch);
    const route = buildRoute(context, http, { matches, path });
    return [{ source, route, path, isCatchAll: matches.length === 0 || matches.some(isCatchAll) }];
  });
}

/** Where TCP connections to this port go; undefined when the VirtualService does not say. */
export function tcpClusters(
  port: PortContext,
  source: Resource<VirtualService>,
): WeightedCluster[] | undefined {
  const context: RouteContext = { ...port, source };
  const index = source.spec.tcp.findIndex((route) => isTcpReachable(context, route));
  const route = source.spec.tcp[index];
  if (route === undefined) return undefined;
  return weigh(route.route).map(({ entry, at, weight }) => {
    const path = `spec.tcp[${index}].route[${at}].destination`;
    const cluster = destinationCluster(context, entry.destination, path);
    return create(WeightedClusterSchema, { cluster, weight });
  });
}

function isTcpReachable(context: RouteContext, route: TCPRoute): boolean {
  return route.match.length === 0 || route.match.some((match) => isReachable(context, match));
}

function buildRoute(
  context: RouteContext,
  http: HTTPRoute,
  { matches, path }: { readonly matches: RouteMatch[]; readonly path: string },
): Route {
  const route = create(RouteSchema, {
    name: http.name,
    matches,
    source: sourceName(context.source),
    action: buildAction(context, http, path),
  });
  const request = buildHeaderOps(http.headers?.request);
  if (request !== undefined) route.requestHeaders = request;
  const response = buildHeaderOps(http.headers?.response);
  if (response !== undefined) route.responseHeaders = response;
  const fault = buildFault(http.fault);
  if (fault !== undefined) route.fault = fault;
  return route;
}

function buildAction(context: RouteContext, http: HTTPRoute, path: string): Route['action'] {
  if (http.redirect !== undefined) {
    return { case: 'redirect', value: buildRedirect(http.redirect, context.port.port) };
  }
  if (http.directResponse !== undefined) {
    return { case: 'directResponse', value: buildDirectResponse(http.directResponse) };
  }
  return { case: 'forward', value: buildForward(context, http, path) };
}

function buildForward(context: RouteContext, http: HTTPRoute, path: string): RouteAction {
  const action = create(RouteActionSchema, {
    clusters: weigh(http.route).map(({ entry, at, weight }) =>
      weightedCluster(context, entry, { path: `${path}.route[${at}].destination`, weight }),
    ),
    timeoutMs: durationMs(http.timeout),
    retry: buildRetry(http.retries),
    mirrors: buildMirrors(context, http, path),
  });
  const rewrite = buildRewrite(http);
  if (rewrite !== undefined) action.rewrite = rewrite;
  return action;
}

function weightedCluster(
  context: RouteContext,
  entry: HTTPRouteDestination,
  { path, weight }: { readonly path: string; readonly weight: number },
): WeightedCluster {
  const cluster = destinationCluster(context, entry.destination, path);
  const result = create(WeightedClusterSchema, { cluster, weight });
  const request = buildHeaderOps(entry.headers?.request);
  if (request !== undefined) result.requestHeaders = request;
  const response = buildHeaderOps(entry.headers?.response);
  if (response !== undefined) result.responseHeaders = response;
  return result;
}

interface Weighed<T> {
  readonly entry: T;
  readonly at: number;
  readonly weight: number;
}

// A single destination takes everything whatever its weight; among several, weight 0 is out.
function weigh<T extends HTTPRouteDestination | RouteDestination>(
  entries: readonly T[],
): Weighed<T>[] {
  const all = entries.map((entry, at) => ({ entry, at, weight: entry.weight }));
  if (all.length === 1) return all.map((one) => ({ ...one, weight: 1 }));
  return all.filter(({ weight }) => weight > 0);
}

function buildMirrors(context: RouteContext, http: HTTPRoute, path: string): Mirror[] {
  const mirrors: Mirror[] = [];
  const add = (
    destination: Parameters<typeof destinationCluster>[1],
    at: string,
    share: number,
  ): void => {
    const cluster = destinationCluster(context, destination, at);
    if (cluster === NO_CLUSTER || share <= 0) return;
    mirrors.push(create(MirrorSchema, { cluster, percent: share }));
  };
  if (http.mirror !== undefined) {
    add(http.mirror, `${path}.mirror`, percent(http.mirrorPercentage, http.mirrorPercent ?? 100));
  }
  http.mirrors.forEach((mirror, index) => {
    const at = `${path}.mirrors[${index}].destination`;
    add(mirror.destination, at, percent(mirror.percentage, 100));
  });
  return mirrors;
}
