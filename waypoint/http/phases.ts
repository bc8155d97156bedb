// The life of a request, as one array. Each phase may pass it on, answer it, fail it, or keep it for later (then it
// goes on by itself). Istio's order: authorization comes before a missing route is told.
import { authorize } from '../../common/l7/authorization.ts';
import {
  applyHeaderOps,
  authorityFromOps,
  redirectLocation,
  rewritePath,
} from '../../common/l7/header-ops.ts';
import { joinedHeader, normalizePath, pathOf } from '../../common/l7/request.ts';
import { compileRetry } from '../../common/l7/retry.ts';
import type { CompiledRetry } from '../../common/l7/retry.ts';
import { matchRoute, pickWeightedCluster } from '../../common/l7/route-table.ts';
import type { RetryPolicy } from '../../common/l7/gen/l7_pb.ts';
import { parseIp } from '../../common/workload/ip.ts';
import type { ClusterRegistry, ClusterRuntime } from '../cluster/cluster-runtime.ts';
import type { L7Config } from '../state/l7-config.ts';
import type { Exchange } from './exchange.ts';
import { replyFor } from './respond.ts';
import type { FailureCode, LocalReply } from './respond.ts';
import { sendMirrors } from './mirror.ts';
import { UpstreamCall } from './upstream-call.ts';

/** What phases work with. */
export interface PhaseEnvironment {
  readonly l7: L7Config;
  readonly clusters: ClusterRegistry;
  readonly after: (delayMs: number, fn: () => void) => { cancel(): void };
  readonly random: () => number;
}

/** A phase's decision. `later` means that the phase calls {@link runPhases} again, or ends the exchange, itself. */
export type PhaseResult =
  | 'next'
  | 'later'
  | { readonly respond: LocalReply; readonly details: string }
  | { readonly fail: FailureCode; readonly reply?: LocalReply };

type Phase = (exchange: Exchange, env: PhaseEnvironment) => PhaseResult;

/** All phases. Logging is not here: `Exchange.finish` does it whatever happened. */
export const PHASES: readonly Phase[] = [
  normalize,
  authorizeRequest,
  matchRequest,
  delayFault,
  abortFault,
  respondDirectly,
  chooseCluster,
  filterRequest,
  forward,
];

/** Runs the phases from an index on. */
export function runPhases(exchange: Exchange, env: PhaseEnvironment, from = 0): void {
  for (let at = from; at < PHASES.length; at++) {
    const result = PHASES[at]?.(exchange, env) ?? 'next';
    if (result === 'next') continue;
    if (result === 'later') return;
    if ('fail' in result) exchange.fail(result.fail, result.reply ?? replyFor(result.fail));
    else {
      exchange.details = result.details;
      exchange.reply(result.respond);
    }
    return;
  }
}

/** Policy, routes and upstream must see the same path. */
function normalize(exchange: Exchange): PhaseResult {
  const path = normalizePath(exchange.path);
  if (path === undefined) return { fail: 'bad_path' };
  exchange.path = path;
  return 'next';
}

function authorizeRequest(exchange: Exchange, { l7 }: PhaseEnvironment): PhaseResult {
  const { context } = exchange;
  const { destination } = context;
  const policies = l7.policiesFor(destination.kind === 'service' ? destination.key : '');
  if (policies.length === 0) return 'next';
  const forwarded = joinedHeader(exchange.headers, 'x-forwarded-for');
  const remote = forwarded?.split(',').at(-1)?.trim();
  exchange.verdict = authorize(policies, {
    peer: context.peer,
    sourceIp: context.sourceIp,
    remoteIp: remote === undefined ? context.sourceIp : parseIp(remote),
    destinationIp: context.destinationIp,
    destinationPort: destination.port,
    http: {
      method: exchange.method,
      authority: exchange.authority,
      path: pathOf(exchange.path),
      headers: exchange.headers,
    },
  });
  return exchange.verdict.isAllowed ? 'next' : { fail: 'rbac_denied' };
}

function matchRequest(exchange: Exchange, { l7 }: PhaseEnvironment): PhaseResult {
  const { destination } = exchange.context;
  // A workload that was addressed directly has no routes: it is forwarded as it is.
  if (destination.kind === 'workload') return 'next';
  exchange.port = l7.service(destination.key)?.ports.get(destination.port);
  if (exchange.port === undefined) return { fail: 'route_not_found' };
  exchange.choice = matchRoute(exchange.port.routes, exchange);
  return exchange.choice === undefined ? { fail: 'route_not_found' } : 'next';
}

function delayFault(exchange: Exchange, env: PhaseEnvironment): PhaseResult {
  const fault = exchange.choice?.route.fault;
  if (fault === undefined || fault.delayMs === 0) return 'next';
  if (env.random() * 100 >= fault.delayPercent) return 'next';
  exchange.flags.push('DI');
  env.after(fault.delayMs, () => {
    if (!exchange.isFinished) runPhases(exchange, env, PHASES.indexOf(delayFault) + 1);
  });
  return 'later';
}

function abortFault(exchange: Exchange, env: PhaseEnvironment): PhaseResult {
  const fault = exchange.choice?.route.fault;
  if (fault === undefined || env.random() * 100 >= fault.abortPercent) return 'next';
  const { abortHttpStatus, abortGrpcStatus } = fault;
  if (abortHttpStatus === 0 && abortGrpcStatus === undefined) return 'next';
  const reply = replyFor('fault_abort');
  return {
    fail: 'fault_abort',
    reply: {
      ...reply,
      status: abortHttpStatus === 0 ? 200 : abortHttpStatus,
      ...(abortGrpcStatus === undefined ? {} : { grpcStatus: abortGrpcStatus }),
    },
  };
}

function respondDirectly(exchange: Exchange): PhaseResult {
  const { choice } = exchange;
  if (choice === undefined) return 'next';
  const { action, responseHeaders } = choice.route;
  const headers = applyHeaderOps([], responseHeaders);
  if (action.case === 'redirect') {
    const location = redirectLocation(action.value, exchange, choice.match);
    return {
      respond: { status: action.value.code, headers: [...headers, ['location', location]] },
      details: 'direct_response',
    };
  }
  if (action.case === 'directResponse') {
    const { status, body } = action.value;
    return { respond: { status, headers, body }, details: 'direct_response' };
  }
  return 'next';
}

function chooseCluster(exchange: Exchange, { random }: PhaseEnvironment): PhaseResult {
  const action = exchange.choice?.route.action;
  if (action?.case !== 'forward') return 'next';
  exchange.target = pickWeightedCluster(action.value.clusters, random);
  if (exchange.target === undefined || exchange.target.cluster === '') {
    return { fail: 'invalid_backend' };
  }
  return 'next';
}

function filterRequest(exchange: Exchange): PhaseResult {
  const { choice, target } = exchange;
  if (choice?.route.action.case !== 'forward') return 'next';
  const { rewrite } = choice.route.action.value;
  exchange.path = rewritePath(exchange.path, rewrite, choice.match);
  for (const ops of [choice.route.requestHeaders, target?.requestHeaders]) {
    if (ops === undefined) continue;
    exchange.headers = applyHeaderOps(exchange.headers, ops);
    exchange.authority = authorityFromOps(ops) ?? exchange.authority;
  }
  exchange.authority = rewrite?.authority ?? exchange.authority;
  return 'next';
}

const retries = new WeakMap<RetryPolicy, CompiledRetry | undefined>();

function compiledRetry(policy: RetryPolicy | undefined): CompiledRetry | undefined {
  if (policy === undefined) return undefined;
  if (!retries.has(policy)) retries.set(policy, compileRetry(policy));
  return retries.get(policy);
}

function forward(exchange: Exchange, env: PhaseEnvironment): PhaseResult {
  const { destination } = exchange.context;
  const cluster =
    destination.kind === 'workload'
      ? env.clusters.direct(destination.workload, destination.port)
      : env.clusters.get(exchange.target?.cluster ?? '');
  if (cluster === undefined) return { fail: 'cluster_not_found' };
  const { choice, target } = exchange;
  const action = choice?.route.action.case === 'forward' ? choice.route.action.value : undefined;
  if (exchange.expectsContinue && exchange.protocol === 'HTTP/1.1') {
    exchange.sendInterim([[':status', '100']]);
  }
  const call = new UpstreamCall(exchange, {
    cluster,
    isHttp2: speaksHttp2(exchange, cluster),
    timeoutMs: action?.timeoutMs ?? 0,
    retry: compiledRetry(action?.retry),
    responseOps: [target?.responseHeaders, choice?.route.responseHeaders],
    after: env.after,
    random: env.random,
  });
  exchange.upstream = call;
  if (action !== undefined && action.mirrors.length > 0) {
    sendMirrors(exchange, action.mirrors, env);
  }
  call.start();
  return 'later';
}

/** By declaration; where the port's protocol is not declared, and for gRPC, as the caller speaks. */
function speaksHttp2(exchange: Exchange, cluster: ClusterRuntime): boolean {
  if (exchange.isUpgrade) return false;
  const protocol = exchange.port?.protocol;
  if (cluster.config?.http2 === true || protocol === 'grpc' || protocol === 'http2') return true;
  const isHttp2 = exchange.protocol === 'HTTP/2';
  return isHttp2 && (exchange.isGrpc || protocol === undefined || protocol === 'auto');
}
