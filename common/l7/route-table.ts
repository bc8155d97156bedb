// Routes of a service port, compiled: first match wins, as VirtualService and the compiler's order of HTTPRoutes
// want it. The result names the match too: rewrites replace what it matched.
import { MeshError, errorMessage } from '../errors.ts';
import type { PortRoutes, Route, RouteMatch, WeightedCluster } from './gen/l7_pb.ts';
import { joinedHeader, pathOf, queryParameter } from './request.ts';
import type { RequestView } from './request.ts';
import { compileNamedMatch, compileRegex, compileStringMatch } from './string-match.ts';
import type { NamedPredicate, StringPredicate } from './string-match.ts';

interface CompiledMatch {
  readonly source: RouteMatch;
  readonly path: StringPredicate | undefined;
  readonly method: StringPredicate | undefined;
  readonly authority: StringPredicate | undefined;
  readonly scheme: StringPredicate | undefined;
  readonly headers: readonly NamedPredicate[];
  readonly query: readonly NamedPredicate[];
}

interface CompiledRoute {
  readonly route: Route;
  readonly matches: readonly CompiledMatch[];
}

/** The routes of one service port, ready to be matched. */
export interface RouteTable {
  readonly routes: readonly CompiledRoute[];
}

/** A route and the match that chose it; undefined for a route without matches. */
export interface RouteChoice {
  readonly route: Route;
  readonly match: RouteMatch | undefined;
}

/** Compiles and checks. Throws `bad_resource`; the message begins with the field. */
export function compileRouteTable(port: PortRoutes): RouteTable {
  return {
    routes: port.routes.map((route, at) => {
      const field = `routes[${at}]`;
      checkRoute(route, field);
      return {
        route,
        matches: route.matches.map((match, index) =>
          inField(`${field}.matches[${index}]`, () => compileMatch(match)),
        ),
      };
    }),
  };
}

/** The first route that matches. */
export function matchRoute(table: RouteTable, request: RequestView): RouteChoice | undefined {
  const path = pathOf(request.path);
  for (const { route, matches } of table.routes) {
    if (matches.length === 0) return { route, match: undefined };
    for (const match of matches) {
      if (matchesRequest(match, request, path)) return { route, match: match.source };
    }
  }
  return undefined;
}

/** Picks by weight; clusters of weight 0 are skipped unless there is only one. Undefined when nothing is left. */
export function pickWeightedCluster(
  clusters: readonly WeightedCluster[],
  random: () => number,
): WeightedCluster | undefined {
  if (clusters.length <= 1) return clusters[0];
  let total = 0;
  for (const { weight } of clusters) total += weight;
  let at = random() * total;
  for (const cluster of clusters) {
    at -= cluster.weight;
    if (at < 0 && cluster.weight > 0) return cluster;
  }
  return clusters.findLast(({ weight }) => weight > 0);
}

function matchesRequest(match: CompiledMatch, request: RequestView, path: string): boolean {
  if (match.path !== undefined && !match.path(path)) return false;
  if (match.method !== undefined && !match.method(request.method)) return false;
  if (match.authority !== undefined && !match.authority(request.authority)) return false;
  if (match.scheme !== undefined && !match.scheme(request.scheme)) return false;
  for (const header of match.headers) {
    if (!header.matches(joinedHeader(request.headers, header.name))) return false;
  }
  for (const parameter of match.query) {
    if (!parameter.matches(queryParameter(request.path, parameter.name))) return false;
  }
  return true;
}

function compileMatch(match: RouteMatch): CompiledMatch {
  const text = (value: typeof match.path, field: string): StringPredicate | undefined =>
    value && inField(field, () => compileStringMatch(value));
  return {
    source: match,
    path: text(match.path, 'path'),
    method: text(match.method, 'method'),
    authority: text(match.authority, 'authority'),
    scheme: text(match.scheme, 'scheme'),
    headers: match.headers.map((entry, at) =>
      inField(`headers[${at}]`, () => compileNamedMatch(entry)),
    ),
    query: match.query.map((entry, at) => inField(`query[${at}]`, () => compileNamedMatch(entry))),
  };
}

function checkRoute(route: Route, field: string): void {
  const { action } = route;
  switch (action.case) {
    case undefined:
      throw new MeshError('bad_resource', `${field}: has no action`);
    case 'redirect':
      if (![301, 302, 303, 307, 308].includes(action.value.code)) {
        throw new MeshError('bad_resource', `${field}.redirect.code: ${action.value.code}`);
      }
      break;
    case 'directResponse':
      if (action.value.status < 200 || action.value.status > 599) {
        throw new MeshError('bad_resource', `${field}.directResponse.status: must be 200 to 599`);
      }
      break;
    case 'forward': {
      const regex = action.value.rewrite?.regex ?? '';
      if (regex !== '') inField(`${field}.forward.rewrite.regex`, () => compileRegex(regex));
      break;
    }
  }
  for (const ops of [route.requestHeaders, route.responseHeaders]) {
    for (const { name, value } of [...(ops?.set ?? []), ...(ops?.add ?? [])]) {
      if (!/^:?[\w!#$%&'*+.^`|~-]+$/.test(name) || /[\r\n\0]/.test(value)) {
        throw new MeshError('bad_resource', `${field}: "${name}" is not a valid header`);
      }
    }
  }
}

/** Puts the field before an error's message, so that a NACK says where. */
export function inField<T>(field: string, work: () => T): T {
  try {
    return work();
  } catch (err) {
    throw new MeshError('bad_resource', `${field}: ${errorMessage(err)}`, { cause: err });
  }
}
