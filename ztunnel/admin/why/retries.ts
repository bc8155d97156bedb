// What would be tried after a connect that fails: the data plane's plan is played through, each connect being refused.
import { StreamError } from '../../../engine/reactor/stream-error.ts';
import { TunnelError, describeTunnelFailure } from '../../proxy/failures.ts';
import type { DialFailure } from '../../proxy/failures.ts';
import type { ConnectDecision, RequestDecision } from '../../proxy/request.ts';
import { RetryPlan } from '../../proxy/retry-plan.ts';

/** The order of further attempts. */
export interface RetryOrder {
  /** Without the first. */
  readonly others: readonly ConnectDecision[];
  /** Then all are tried again, first after this; undefined: that is the end. */
  readonly pauseMs: number | undefined;
}

/** Plays the plan. `decide` is asked as for a connection, with the uids that have failed. */
export function explainRetries(
  decide: (exclude: ReadonlySet<string>) => RequestDecision,
  first: ConnectDecision,
  isNodeLocal: boolean,
): RetryOrder {
  const plan = new RetryPlan(0);
  const tried: ConnectDecision[] = [];
  let decision: RequestDecision = first;
  while (decision.kind !== 'resolve') {
    const step = plan.next(decision);
    if (step.kind === 'wait') return { others: tried.slice(1), pauseMs: step.pauseMs };
    if (step.kind === 'stop') break;
    tried.push(step.decision);
    if (!plan.failed(step.decision, refusedConnect(step.decision, isNodeLocal), 0)) break;
    decision = decide(plan.exclude);
  }
  return { others: tried.slice(1), pauseMs: undefined };
}

/** The failure when nobody listens where the decision points. */
function refusedConnect({ kind }: ConnectDecision, isNodeLocal: boolean): DialFailure {
  const detail = 'refused';
  if (isNodeLocal) {
    return describeTunnelFailure(new TunnelError({ code: 'status', status: 503, detail }));
  }
  const isTunnel = kind === 'hbone' || kind === 'double_hbone';
  const err = isTunnel
    ? new TunnelError({ code: 'connect', detail })
    : new StreamError('refused', detail);
  return describeTunnelFailure(err);
}
