// VirtualService match conditions as the waypoint's RouteMatch.
import { create } from '@bufbuild/protobuf';
import {
  NamedMatchSchema,
  RouteMatchSchema,
  StringMatchSchema,
  type NamedMatch,
  type RouteMatch,
  type StringMatch,
} from '../../l7/gen/l7_pb.ts';
import type {
  HTTPMatchRequest,
  StringMatch as StringSpec,
} from '../../resources/gen/virtual_service_pb.ts';
import type { PortContext } from './route-context.ts';

/** Whether a match can ever hold at this port of this waypoint: gateways, port, source namespace and labels. */
export function isReachable(
  context: PortContext,
  match: Pick<HTTPMatchRequest, 'gateways' | 'port' | 'sourceNamespace' | 'sourceLabels'>,
): boolean {
  if (match.gateways.length > 0 && !match.gateways.includes('mesh')) return false;
  if (match.port !== 0 && match.port !== context.port.port) return false;
  // Istio compares with the waypoint's namespace, and source labels never match at a waypoint.
  if (match.sourceNamespace !== '' && match.sourceNamespace !== context.waypoint.namespace) {
    return false;
  }
  return Object.keys(match.sourceLabels).length === 0;
}

/** The request conditions. */
export function buildMatch(match: HTTPMatchRequest): RouteMatch {
  const result = create(RouteMatchSchema, {
    name: match.name,
    headers: [
      ...namedMatches(match.headers, { isHeader: true }),
      ...namedMatches(match.withoutHeaders, { isHeader: true, invert: true }),
    ],
    query: namedMatches(match.queryParams, { isHeader: false }),
  });
  const path = stringMatch(match.uri);
  if (path !== undefined) {
    path.ignoreCase = match.ignoreUriCase && path.kind.case !== 'regex';
    result.path = path;
  }
  const method = stringMatch(match.method);
  if (method !== undefined) result.method = method;
  const authority = stringMatch(match.authority);
  if (authority !== undefined) result.authority = authority;
  const scheme = stringMatch(match.scheme);
  if (scheme !== undefined) result.scheme = scheme;
  return result;
}

/** True when every request matches. */
export function isCatchAll(match: RouteMatch): boolean {
  const { path, method, authority, scheme, headers, query } = match;
  const anyPath = path === undefined || (path.kind.case === 'prefix' && path.kind.value === '/');
  const rest = method ?? authority ?? scheme;
  return anyPath && rest === undefined && headers.length === 0 && query.length === 0;
}

function stringMatch(spec: StringSpec | undefined): StringMatch | undefined {
  const kind = spec?.matchType;
  if (kind?.case === undefined) return undefined;
  return create(StringMatchSchema, { kind: { case: kind.case, value: kind.value } });
}

// Without a condition, or with regex `*`, the name only has to be there.
function namedMatches(
  specs: Readonly<Record<string, StringSpec>>,
  options: { readonly isHeader: boolean; readonly invert?: boolean },
): NamedMatch[] {
  return Object.entries(specs).map(([name, spec]) => {
    const isPresence = spec.matchType.case === 'regex' && spec.matchType.value === '*';
    const value = isPresence ? undefined : stringMatch(spec);
    return create(NamedMatchSchema, {
      name: options.isHeader ? name.toLowerCase() : name,
      value: value ?? create(StringMatchSchema, { kind: { case: 'present', value: true } }),
      invert: options.invert === true,
    });
  });
}
