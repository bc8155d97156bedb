// What a VirtualService route does with a request: redirect, direct response, faults, retries, header operations.
import { create } from '@bufbuild/protobuf';
import {
  DirectResponseSchema,
  FaultSchema,
  HeaderOpsSchema,
  RedirectSchema,
  RetryPolicySchema,
  RewriteSchema,
  type DirectResponse,
  type Fault,
  type HeaderOps,
  type Redirect,
  type RetryPolicy,
  type Rewrite,
} from '../../l7/gen/l7_pb.ts';
import {
  HTTPRedirect_RedirectPortSelection,
  type HTTPDirectResponse,
  type HTTPFaultInjection,
  type HTTPRedirect,
  type HTTPRetry,
  type HTTPRoute,
  type Headers_HeaderOperations,
  type Percent,
} from '../../resources/gen/virtual_service_pb.ts';
import { durationMs } from '../../resources/go-duration.ts';
import { grpcStatusCode } from '../../resources/grpc-status.ts';

/** Retried when nothing says otherwise: the request cannot have reached the application, or it said so. */
export const DEFAULT_RETRY_ON = [
  'connect-failure',
  'refused-stream',
  'unavailable',
  'cancelled',
] as const;
const DEFAULT_ATTEMPTS = 2;
const AUTHORITY_NAMES = [':authority', 'host'];

/** Two more attempts on connection failures. */
export function defaultRetry(): RetryPolicy {
  return create(RetryPolicySchema, { attempts: DEFAULT_ATTEMPTS, retryOn: [...DEFAULT_RETRY_ON] });
}

/** A route's retries; zero attempts turn them off. */
export function buildRetry(spec: HTTPRetry | undefined): RetryPolicy {
  if (spec === undefined) return defaultRetry();
  if (spec.attempts === 0) return create(RetryPolicySchema, {});
  const words = spec.retryOn.split(',').map((word) => word.trim());
  const statusCodes = words.filter((word) => /^\d{3}$/.test(word)).map(Number);
  const named = words.filter((word) => word !== '' && !/^\d{3}$/.test(word));
  const retryOn = named.length === 0 && statusCodes.length === 0 ? [...DEFAULT_RETRY_ON] : named;
  if (statusCodes.length > 0 && !retryOn.includes('retriable-status-codes')) {
    retryOn.push('retriable-status-codes');
  }
  return create(RetryPolicySchema, {
    attempts: spec.attempts,
    perTryTimeoutMs: durationMs(spec.perTryTimeout),
    retryOn,
    statusCodes,
    backoffBaseMs: durationMs(spec.backoff),
  });
}

/** Header operations; setting Host is a rewrite of the authority, see {@link buildRewrite}. */
export function buildHeaderOps(spec: Headers_HeaderOperations | undefined): HeaderOps | undefined {
  if (spec === undefined) return undefined;
  const pairs = (map: Readonly<Record<string, string>>): { name: string; value: string }[] =>
    Object.entries(map)
      .filter(([name]) => !name.startsWith(':') && name.toLowerCase() !== 'host')
      .map(([name, value]) => ({ name: name.toLowerCase(), value }));
  const remove = spec.remove.map((name) => name.toLowerCase());
  const ops = create(HeaderOpsSchema, { set: pairs(spec.set), add: pairs(spec.add), remove });
  const isEmpty = ops.set.length + ops.add.length + ops.remove.length === 0;
  return isEmpty ? undefined : ops;
}

/** Path and authority rewrites of a route. */
export function buildRewrite(route: HTTPRoute): Rewrite | undefined {
  const { rewrite } = route;
  const set = Object.entries(route.headers?.request?.set ?? {});
  const header = set.find(([name]) => AUTHORITY_NAMES.includes(name.toLowerCase()))?.[1];
  const authority = rewrite?.authority === '' ? header : (rewrite?.authority ?? header);
  if (rewrite === undefined && authority === undefined) return undefined;
  const result = create(RewriteSchema, {
    regex: rewrite?.uriRegexRewrite?.match ?? '',
    substitution: rewrite?.uriRegexRewrite?.rewrite ?? '',
  });
  if (rewrite !== undefined && rewrite.uri !== '') result.pathPrefix = rewrite.uri;
  if (authority !== undefined) result.authority = authority;
  return result;
}

/** A redirect; `requestPort` is the port the request came for. */
export function buildRedirect(spec: HTTPRedirect, requestPort: number): Redirect {
  const redirect = create(RedirectSchema, { code: spec.redirectCode || 301 });
  if (spec.uri !== '') redirect.pathFull = spec.uri;
  if (spec.authority !== '') redirect.authority = spec.authority;
  if (spec.scheme !== '') redirect.scheme = spec.scheme;
  const { case: kind, value } = spec.redirectPort;
  if (kind === 'port') redirect.port = value;
  if (kind === 'derivePort' && value === HTTPRedirect_RedirectPortSelection.FROM_REQUEST_PORT) {
    redirect.port = requestPort;
  }
  return redirect;
}

/** A response made at the waypoint. */
export function buildDirectResponse(spec: HTTPDirectResponse): DirectResponse {
  const kind = spec.body?.specifier;
  const body =
    kind?.case === 'string'
      ? new TextEncoder().encode(kind.value)
      : (kind?.value ?? new Uint8Array());
  return create(DirectResponseSchema, { status: spec.status, body });
}

/** Injected delays and aborts. */
export function buildFault(spec: HTTPFaultInjection | undefined): Fault | undefined {
  if (spec?.delay === undefined && spec?.abort === undefined) return undefined;
  const { delay, abort } = spec;
  const fault = create(FaultSchema, {});
  if (delay !== undefined) {
    fault.delayMs = durationMs(delay.fixedDelay);
    fault.delayPercent = percent(delay.percentage, delay.percent || 100);
  }
  if (abort !== undefined) {
    fault.abortPercent = percent(abort.percentage, 100);
    const error = abort.errorType;
    if (error.case === 'httpStatus') fault.abortHttpStatus = error.value;
    if (error.case === 'grpcStatus') fault.abortGrpcStatus = grpcStatusCode(error.value) ?? 2;
  }
  return fault;
}

/** A percentage, or the value that stands for none given. */
export function percent(spec: Percent | undefined, otherwise: number): number {
  return spec === undefined ? otherwise : spec.value;
}
