// When a connect failed before any byte was delivered: where and when to try again, and when to stop. Pure. Other
// endpoints are tried at once, at most two; where waiting may help (a tunnel listener that refuses: its pod may be
// joining or leaving the mesh, or its node proxy restarting; a waypoint, which is never bypassed) all may be tried again
// after a pause. Nothing new begins once the budget of time is used up.
import type { DialFailure } from './failures.ts';
import type { RefusalReason } from './reasons.ts';
import type { ConnectDecision, RequestDecision } from './request.ts';

const MAX_OTHER_ENDPOINTS = 2;
/** Two connects that run into their time-out. */
const BUDGET_MS = 20_000;
/** 3.1 s in all: a node proxy that was killed is back by then, or the connect was hopeless. */
const PAUSES_MS = [50, 100, 200, 400, 800, 1550];
/** A waypoint's restart is waited for: 7.7 s, a pod's usual time to be ready again. */
const WAYPOINT_PAUSES_MS = [...PAUSES_MS, 1550, 1550, 1500];
const WAYPOINT_REASONS: ReadonlySet<RefusalReason> = new Set([
  'no_healthy_waypoint',
  'unknown_waypoint',
]);

const NOBODY: ReadonlySet<string> = new Set();

/** What to do with a decision. */
export type RetryStep =
  | { readonly kind: 'connect'; readonly decision: ConnectDecision }
  | { readonly kind: 'wait'; readonly pauseMs: number }
  | { readonly kind: 'stop' };

interface Failed {
  readonly decision: ConnectDecision;
  readonly failure: DialFailure;
}

/** The attempts for one connection. */
export class RetryPlan {
  readonly #startedMs: number;
  #others = 0;
  #pauses = 0;
  #last: Failed | undefined;
  /** Made when the first has failed: most connects succeed, or have nowhere else to go. */
  #exclude: Set<string> | undefined;

  constructor(nowMs: number) {
    this.#startedMs = nowMs;
  }

  /** Workloads (uid) that failed since the last pause. */
  get exclude(): ReadonlySet<string> {
    return this.#exclude ?? NOBODY;
  }

  /** What to do with the decision that was made with {@link exclude} left out. */
  next(decision: Exclude<RequestDecision, { kind: 'resolve' }>): RetryStep {
    const last = this.#last;
    const isExhausted =
      decision.kind === 'refuse' ||
      (decision.workload !== undefined && this.exclude.has(decision.workload.uid));
    if (!isExhausted) return { kind: 'connect', decision };
    if (last !== undefined && this.exclude.size > 0) {
      const { decision: tried, failure } = last;
      const isWaypoint = tried.kind === 'hbone' && tried.hop === 'waypoint';
      return failure.canWait ? this.#wait(isWaypoint) : { kind: 'stop' };
    }
    const canWait = decision.kind === 'refuse' && WAYPOINT_REASONS.has(decision.reason);
    return canWait ? this.#wait(true) : { kind: 'stop' };
  }

  #wait(isWaypoint: boolean): RetryStep {
    const pauseMs = (isWaypoint ? WAYPOINT_PAUSES_MS : PAUSES_MS)[this.#pauses++];
    if (pauseMs === undefined) return { kind: 'stop' };
    this.#exclude?.clear();
    this.#others = 0;
    return { kind: 'wait', pauseMs };
  }

  /** Takes the failure of a connect; whether to decide again. */
  failed(decision: ConnectDecision, failure: DialFailure, nowMs: number): boolean {
    this.#last = { decision, failure };
    const { workload } = decision;
    if (!failure.canRetry || workload === undefined) return false;
    if (nowMs - this.#startedMs >= BUDGET_MS) return false;
    this.#exclude ??= new Set();
    this.#exclude.add(workload.uid);
    return this.#others++ < MAX_OTHER_ENDPOINTS || failure.canWait;
  }
}
