// Where and when a failed connect is tried again.
import assert from 'node:assert/strict';
import { describe, it } from 'node:test';
import type { DialFailure } from '../../../../ztunnel/proxy/failures.ts';
import type { ConnectDecision } from '../../../../ztunnel/proxy/request.ts';
import { RetryPlan } from '../../../../ztunnel/proxy/retry-plan.ts';
import { makeWorkload } from '../../../support/mesh-builders.ts';

const to = (name: string, hop: 'workload' | 'waypoint' = 'workload'): ConnectDecision => ({
  kind: 'hbone',
  address: '10.0.0.2',
  port: 15008,
  authority: '10.0.0.2:80',
  expectedIdentities: [],
  hop,
  workload: makeWorkload(name, '10.0.0.2'),
  service: undefined,
});
const failure = (more: Partial<DialFailure> = {}): DialFailure => ({
  reason: 'connect_failed',
  detail: '',
  canRetry: true,
  canWait: false,
  isRefusal: false,
  ...more,
});
const refused = {
  kind: 'refuse',
  reason: 'no_healthy_upstream',
  detail: '',
  workload: undefined,
  service: undefined,
} as const;

/** Fails at every endpoint given until the plan stops or waits; the endpoints that were tried. */
function run(
  plan: RetryPlan,
  endpoints: readonly ConnectDecision[],
  failed: DialFailure,
  nowMs = 0,
): { tried: string[]; end: string } {
  const tried: string[] = [];
  for (;;) {
    const next = endpoints.find(({ workload }) => !plan.exclude.has(workload?.uid ?? ''));
    const step = plan.next(next ?? refused);
    if (step.kind !== 'connect') {
      return { tried, end: step.kind === 'wait' ? `wait ${step.pauseMs}` : 'stop' };
    }
    tried.push(step.decision.workload?.name ?? '');
    if (!plan.failed(step.decision, failed, nowMs)) return { tried, end: 'failed' };
  }
}

describe('RetryPlan', () => {
  it('tries two other endpoints, then fails', () => {
    const result = run(new RetryPlan(0), [to('a'), to('b'), to('c'), to('d')], failure());
    assert.deepEqual(result, { tried: ['a', 'b', 'c'], end: 'failed' });
  });

  it('stops when there is no other endpoint', () => {
    assert.deepEqual(run(new RetryPlan(0), [to('a')], failure()), { tried: ['a'], end: 'stop' });
  });

  it('does not retry what another endpoint cannot cure', () => {
    const final = failure({ canRetry: false, reason: 'tunnel_refused' });
    assert.deepEqual(run(new RetryPlan(0), [to('a'), to('b')], final), {
      tried: ['a'],
      end: 'failed',
    });
  });

  it('tries every endpoint, waits a little and tries again where waiting may help', () => {
    const plan = new RetryPlan(0);
    const waits = failure({ canWait: true });
    const ends: string[] = [];
    for (let round = 0; round < 8; round++) {
      const { tried, end } = run(plan, [to('a'), to('b')], waits);
      ends.push(end);
      if (end === 'stop') break;
      assert.deepEqual(tried, ['a', 'b']);
    }
    assert.deepEqual(ends, [
      ...[50, 100, 200, 400, 800, 1550].map((pauseMs) => `wait ${pauseMs}`),
      'stop',
    ]);
  });

  it('waits longer for a waypoint, also for one that is not there yet', () => {
    const plan = new RetryPlan(0);
    let waitedMs = 0;
    for (;;) {
      const step = plan.next({ ...refused, reason: 'no_healthy_waypoint' });
      if (step.kind !== 'wait') break;
      waitedMs += step.pauseMs;
    }
    assert.equal(waitedMs, 7700);
    const tried = new RetryPlan(0);
    const waits = failure({ canWait: true });
    let rounds = 0;
    while (run(tried, [to('w', 'waypoint')], waits).end !== 'stop') rounds++;
    assert.equal(rounds, 9);
  });

  it('a refusal of another kind is final at once', () => {
    assert.deepEqual(new RetryPlan(0).next(refused), { kind: 'stop' });
  });

  it('begins nothing new when its time is used up', () => {
    const plan = new RetryPlan(0);
    const decision = to('a');
    assert.equal(plan.next(decision).kind, 'connect');
    assert.equal(plan.failed(decision, failure(), 20_000), false);
  });

  it('a destination outside the mesh is tried once', () => {
    const outside = {
      kind: 'passthrough',
      address: '1.1.1.1',
      port: 1,
      workload: undefined,
      service: undefined,
    } as const;
    const plan = new RetryPlan(0);
    assert.equal(plan.next(outside).kind, 'connect');
    assert.equal(plan.failed(outside, failure(), 0), false);
  });
});
