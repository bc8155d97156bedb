// HTTPRoute matches, and the Gateway API's order of precedence among them.
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
  HTTPPathMatch,
  HTTPRouteMatch,
  HTTPValueMatch,
} from '../../resources/gen/gateway_api_pb.ts';

/** How specific a match is; compared field by field, larger first. */
export type Precedence = readonly [
  pathKind: number,
  pathLength: number,
  hasMethod: number,
  headers: number,
  query: number,
];

/** The conditions of one match; undefined for no match at all, which takes everything. */
export function buildHttpRouteMatch(match: HTTPRouteMatch): RouteMatch {
  const result = create(RouteMatchSchema, {
    headers: match.headers.map((entry) => namedMatch(entry, entry.name.toLowerCase())),
    query: match.queryParams.map((entry) => namedMatch(entry, entry.name)),
  });
  const path = pathMatch(match.path);
  if (path !== undefined) result.path = path;
  if (match.method !== '') {
    result.method = create(StringMatchSchema, { kind: { case: 'exact', value: match.method } });
  }
  return result;
}

/** The precedence of a match; none at all comes last. */
export function precedenceOf(match: HTTPRouteMatch | undefined): Precedence {
  if (match === undefined) return [-1, 0, 0, 0, 0];
  const { path } = match;
  const kind = path?.type === 'Exact' ? 3 : path?.type === 'RegularExpression' ? 1 : 2;
  const hasMethod = match.method === '' ? 0 : 1;
  const length = (path?.value ?? '/').length;
  return [kind, length, hasMethod, match.headers.length, match.queryParams.length];
}

/** Sorts the more specific first. */
export function byPrecedence(a: Precedence, b: Precedence): number {
  for (const [index, value] of a.entries()) {
    const difference = (b[index] ?? 0) - value;
    if (difference !== 0) return difference;
  }
  return 0;
}

function pathMatch(path: HTTPPathMatch | undefined): StringMatch | undefined {
  const value = path?.value ?? '/';
  switch (path?.type) {
    case 'Exact':
      return create(StringMatchSchema, { kind: { case: 'exact', value } });
    case 'RegularExpression':
      return create(StringMatchSchema, { kind: { case: 'regex', value } });
    default:
      if (value === '/') return undefined;
      return create(StringMatchSchema, { kind: { case: 'prefix', value }, pathSegments: true });
  }
}

function namedMatch(entry: HTTPValueMatch, name: string): NamedMatch {
  const kind = entry.type === 'RegularExpression' ? 'regex' : 'exact';
  const value = create(StringMatchSchema, { kind: { case: kind, value: entry.value } });
  return create(NamedMatchSchema, { name, value });
}
