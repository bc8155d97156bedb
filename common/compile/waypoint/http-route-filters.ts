// HTTPRoute filters as parts of a route. A rule with a filter that is not served answers
// 500, as the Gateway API asks: doing without it could do harm.
import { create } from '@bufbuild/protobuf';
import {
  HeaderOpsSchema,
  MirrorSchema,
  RedirectSchema,
  RewriteSchema,
  type HeaderOps,
  type Mirror,
  type Redirect,
  type Rewrite,
} from '../../l7/gen/l7_pb.ts';
import type {
  HTTPHeaderFilter,
  HTTPRequestMirrorFilter,
  HTTPRequestRedirectFilter,
  HTTPRouteFilter,
  HTTPURLRewriteFilter,
} from '../../resources/gen/gateway_api_pb.ts';
import { backendCluster } from './backend.ts';
import { NO_CLUSTER } from './destination.ts';
import type { RouteContext } from './route-context.ts';

/** What a rule's filters come to. */
export interface FilterParts {
  requestHeaders: HeaderOps | undefined;
  responseHeaders: HeaderOps | undefined;
  redirect: Redirect | undefined;
  rewrite: Rewrite | undefined;
  readonly mirrors: Mirror[];
  /** The path of a filter that is not served. */
  invalid: string | undefined;
}

/** Reads the filters of a rule or of a backend. */
export function readFilters(
  context: RouteContext,
  filters: readonly HTTPRouteFilter[],
  path: string,
): FilterParts {
  const parts: FilterParts = {
    requestHeaders: undefined,
    responseHeaders: undefined,
    redirect: undefined,
    rewrite: undefined,
    mirrors: [],
    invalid: undefined,
  };
  filters.forEach((filter, index) => {
    const at = `${path}[${index}]`;
    if (readFilter(context, filter, { parts, path: at })) return;
    parts.invalid ??= at;
    const type = filter.type === '' ? 'of no type' : filter.type;
    const message = `${at}: filter ${type} is not served; the rule answers 500`;
    context.model.log.nowhere(context.source, at, 'UnsupportedValue', message);
  });
  return parts;
}

function readFilter(
  context: RouteContext,
  filter: HTTPRouteFilter,
  { parts, path }: { readonly parts: FilterParts; readonly path: string },
): boolean {
  switch (filter.type) {
    case 'RequestHeaderModifier':
      parts.requestHeaders = headerOps(filter.requestHeaderModifier);
      return true;
    case 'ResponseHeaderModifier':
      parts.responseHeaders = headerOps(filter.responseHeaderModifier);
      return true;
    case 'RequestRedirect':
      parts.redirect = filter.requestRedirect && redirect(context, filter.requestRedirect);
      return parts.redirect !== undefined;
    case 'URLRewrite':
      parts.rewrite = filter.urlRewrite && rewrite(filter.urlRewrite);
      return parts.rewrite !== undefined;
    case 'RequestMirror':
      if (filter.requestMirror === undefined) return false;
      addMirror(context, filter.requestMirror, { parts, path });
      return true;
    default:
      return false;
  }
}

function headerOps(filter: HTTPHeaderFilter | undefined): HeaderOps | undefined {
  if (filter === undefined) return undefined;
  const pairs = (list: HTTPHeaderFilter['set']): { name: string; value: string }[] =>
    list.map(({ name, value }) => ({ name: name.toLowerCase(), value }));
  return create(HeaderOpsSchema, {
    set: pairs(filter.set),
    add: pairs(filter.add),
    remove: filter.remove.map((name) => name.toLowerCase()),
  });
}

function redirect(context: RouteContext, filter: HTTPRequestRedirectFilter): Redirect {
  const result = create(RedirectSchema, { code: filter.statusCode || 302 });
  if (filter.hostname !== '') result.authority = filter.hostname;
  if (filter.scheme !== '') result.scheme = filter.scheme;
  if (filter.path?.type === 'ReplaceFullPath') result.pathFull = filter.path.replaceFullPath;
  if (filter.path?.type === 'ReplacePrefixMatch') {
    result.pathPrefix = filter.path.replacePrefixMatch;
  }
  // Without a port: the scheme's own when a scheme is given, else that of the listener.
  if (filter.port !== 0) result.port = filter.port;
  else if (filter.scheme === '') result.port = context.port.port;
  return result;
}

function rewrite(filter: HTTPURLRewriteFilter): Rewrite {
  const result = create(RewriteSchema, {});
  if (filter.hostname !== '') result.authority = filter.hostname;
  if (filter.path?.type === 'ReplaceFullPath') result.pathFull = filter.path.replaceFullPath;
  if (filter.path?.type === 'ReplacePrefixMatch') {
    result.pathPrefix = filter.path.replacePrefixMatch;
  }
  return result;
}

function addMirror(
  context: RouteContext,
  filter: HTTPRequestMirrorFilter,
  { parts, path }: { readonly parts: FilterParts; readonly path: string },
): void {
  const at = `${path}.requestMirror.backendRef`;
  const cluster = backendCluster(context, filter.backendRef, at);
  const { fraction } = filter;
  const share =
    fraction === undefined
      ? (filter.percent ?? 100)
      : (fraction.numerator / (fraction.denominator ?? 100)) * 100;
  if (cluster === NO_CLUSTER || !(share > 0)) return;
  parts.mirrors.push(create(MirrorSchema, { cluster, percent: Math.min(share, 100) }));
}
