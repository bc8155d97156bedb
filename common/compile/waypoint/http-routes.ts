// HTTPRoutes whose parent is a Service: every match becomes a route, and those of all
// HTTPRoutes of a service port are put in the Gateway API's order.
import { create } from '@bufbuild/protobuf';
import {
  DirectResponseSchema,
  RetryPolicySchema,
  RouteActionSchema,
  RouteSchema,
  WeightedClusterSchema,
  type RetryPolicy,
  type Route,
  type RouteAction,
  type RouteMatch,
  type WeightedCluster,
} from '../../l7/gen/l7_pb.ts';
import type {
  HTTPBackendRef,
  HTTPRoute,
  HTTPRouteRule,
  ParentReference,
} from '../../resources/gen/gateway_api_pb.ts';
import { durationMs } from '../../resources/go-duration.ts';
import { serviceHost } from '../../resources/host-name.ts';
import type { Resource } from '../../resources/resource.ts';
import type { ServiceEntity } from '../entities.ts';
import { backendCluster } from './backend.ts';
import { readFilters, type FilterParts } from './http-route-filters.ts';
import {
  buildHttpRouteMatch,
  byPrecedence,
  precedenceOf,
  type Precedence,
} from './http-route-match.ts';
import { sourceName, type PortContext, type RouteContext } from './route-context.ts';
import { DEFAULT_RETRY_ON, defaultRetry } from './virtual-service-action.ts';
import { isCatchAll } from './virtual-service-match.ts';
import type { PlacedRoute } from './virtual-service-routes.ts';

export type HttpRouteResource = Resource<HTTPRoute>;

/** True for a parent that is a Service. */
export function isServiceParent(parent: ParentReference): boolean {
  return parent.kind === 'Service' && (parent.group ?? '') === '';
}

/** The key of the service a parent names. */
export function parentServiceKey(
  route: Pick<HttpRouteResource, 'namespace'>,
  parent: ParentReference,
  domain: string,
): string {
  const namespace = parent.namespace === '' ? route.namespace : parent.namespace;
  return `${namespace}/${serviceHost(parent.name, namespace, domain)}`;
}

/** HTTPRoutes that apply to a port of a service at a waypoint. */
export function routesForPort(
  context: PortContext,
  routes: readonly HttpRouteResource[],
): HttpRouteResource[] {
  const { service, waypoint, port, model } = context;
  const namespaces = [waypoint.namespace, service.namespace];
  return routes.filter(
    (route) =>
      namespaces.includes(route.namespace) &&
      route.spec.parentRefs.some(
        (parent) =>
          isServiceParent(parent) &&
          isParent(route, parent, { service, domain: model.mesh.domain }) &&
          (parent.port === 0 || parent.port === port.port),
      ),
  );
}

function isParent(
  route: HttpRouteResource,
  parent: ParentReference,
  { service, domain }: { readonly service: ServiceEntity; readonly domain: string },
): boolean {
  return parentServiceKey(route, parent, domain) === service.key;
}

/** The routes of all given HTTPRoutes (oldest first) for a port, most specific first. */
export function gatewayApiRoutes(
  port: PortContext,
  routes: readonly HttpRouteResource[],
): PlacedRoute[] {
  const placed: { readonly precedence: Precedence; readonly entry: PlacedRoute }[] = [];
  for (const source of routes) {
    const context: RouteContext = { ...port, source };
    source.spec.rules.forEach((rule, index) => {
      const path = `spec.rules[${index}]`;
      const name = rule.name || `${source.namespace}.${source.name}.${index}`;
      const build = (matches: RouteMatch[]): Route =>
        buildRule(context, rule, { path, name, matches });
      if (rule.matches.length === 0) {
        const entry = { source, route: build([]), path, isCatchAll: true };
        placed.push({ precedence: precedenceOf(undefined), entry });
      }
      for (const match of rule.matches) {
        const built = buildHttpRouteMatch(match);
        const entry = { source, route: build([built]), path, isCatchAll: isCatchAll(built) };
        placed.push({ precedence: precedenceOf(match), entry });
      }
    });
  }
  // Array.prototype.sort is stable: equals stay oldest first, in rule order.
  placed.sort((a, b) => byPrecedence(a.precedence, b.precedence));
  return placed.map(({ entry }) => entry);
}

function buildRule(
  context: RouteContext,
  rule: HTTPRouteRule,
  at: { readonly path: string; readonly name: string; readonly matches: RouteMatch[] },
): Route {
  const filters = readFilters(context, rule.filters, `${at.path}.filters`);
  const route = create(RouteSchema, {
    name: at.name,
    matches: at.matches,
    source: sourceName(context.source),
    action: buildAction(context, rule, { filters, path: at.path }),
  });
  if (filters.requestHeaders !== undefined) route.requestHeaders = filters.requestHeaders;
  if (filters.responseHeaders !== undefined) route.responseHeaders = filters.responseHeaders;
  return route;
}

function buildAction(
  context: RouteContext,
  rule: HTTPRouteRule,
  { filters, path }: { readonly filters: FilterParts; readonly path: string },
): Route['action'] {
  const fail: Route['action'] = {
    case: 'directResponse',
    value: create(DirectResponseSchema, { status: 500 }),
  };
  if (filters.invalid !== undefined) return fail;
  if (filters.redirect !== undefined) return { case: 'redirect', value: filters.redirect };
  const clusters = rule.backendRefs.flatMap((backend, index) =>
    weightedBackend(context, backend, `${path}.backendRefs[${index}]`),
  );
  if (clusters.length === 0) return fail;
  const action: RouteAction = create(RouteActionSchema, { clusters, mirrors: filters.mirrors });
  if (filters.rewrite !== undefined) action.rewrite = filters.rewrite;
  applyTimeouts(action, rule);
  return { case: 'forward', value: action };
}

function weightedBackend(
  context: RouteContext,
  backend: HTTPBackendRef,
  path: string,
): WeightedCluster[] {
  const weight = backend.weight ?? 1;
  if (weight === 0) return [];
  const filters = readFilters(context, backend.filters, `${path}.filters`);
  const cluster = filters.invalid === undefined ? backendCluster(context, backend, path) : '';
  const result = create(WeightedClusterSchema, { cluster, weight });
  if (filters.requestHeaders !== undefined) result.requestHeaders = filters.requestHeaders;
  if (filters.responseHeaders !== undefined) result.responseHeaders = filters.responseHeaders;
  return [result];
}

// A backend timeout limits each try when there are several, and the request when there is one.
function applyTimeouts(action: RouteAction, rule: HTTPRouteRule): void {
  const request = durationMs(rule.timeouts?.request);
  const backend = durationMs(rule.timeouts?.backendRequest);
  action.retry = buildRetry(rule);
  action.timeoutMs = request;
  if (backend === 0) return;
  if (action.retry.attempts > 0) action.retry.perTryTimeoutMs = backend;
  else action.timeoutMs = request === 0 ? backend : Math.min(request, backend);
}

function buildRetry(rule: HTTPRouteRule): RetryPolicy {
  const { retry } = rule;
  if (retry === undefined) return defaultRetry();
  const attempts = retry.attempts ?? 2;
  if (attempts === 0) return create(RetryPolicySchema, {});
  const byCode = retry.codes.length > 0 ? ['retriable-status-codes'] : [];
  return create(RetryPolicySchema, {
    attempts,
    retryOn: [...DEFAULT_RETRY_ON, ...byCode],
    statusCodes: retry.codes,
    backoffBaseMs: durationMs(retry.backoff),
  });
}
