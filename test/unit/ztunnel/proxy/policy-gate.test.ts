// A policy that is named but not here: new connections wait for it, a bounded time, and what is running goes on.
import assert from 'node:assert/strict';
import { describe, it } from 'node:test';
import type { ConnectionFacts } from '../../../../common/policy/evaluate.ts';
import type { Policy } from '../../../../common/policy/model.ts';
import type { Workload } from '../../../../common/workload/model.ts';
import { POLICY_WAIT_MS, PolicyGate } from '../../../../ztunnel/proxy/policy-gate.ts';
import { FakeClock, settle } from '../../../support/fake-clock.ts';
import { makePolicy, makeWorkload } from '../../../support/mesh-builders.ts';

const facts: ConnectionFacts = {
  sourceIdentity: undefined,
  sourceIp: Uint8Array.of(10, 0, 0, 1),
  destinationIp: Uint8Array.of(10, 0, 0, 2),
  destinationPort: 80,
};
const deny = makePolicy('deny', { scope: 'WORKLOAD_SELECTOR', action: 'DENY', rules: [[]] });
const naming = makeWorkload('w', '10.0.0.2', { authorizationPolicies: ['default/deny'] });
const plain = makeWorkload('w', '10.0.0.2');

function setUp(...policies: Policy[]): {
  clock: FakeClock;
  policies: Map<string, Policy>;
  gate: PolicyGate;
} {
  const clock = new FakeClock();
  const all = new Map(policies.map((policy) => [policy.key, policy]));
  const gate = new PolicyGate(
    { after: (delayMs, fn) => ({ ...clock.after(delayMs, fn), isPending: true }) as never },
    all,
  );
  return { clock, policies: all, gate };
}

describe('policy gate', () => {
  it('a record whose policies are all here waits for nothing', async () => {
    const { clock, gate } = setUp(deny);
    assert.equal(gate.isComplete(naming), true);
    assert.deepEqual(await gate.missing(() => naming), []);
    assert.deepEqual(clock.delaysMs, []);
    assert.equal(gate.check(naming, facts).isAllowed, false);
  });

  it('waits until a named policy arrives, which then decides', async () => {
    const { clock, gate, policies } = setUp();
    assert.equal(gate.isComplete(naming), false);
    const waited = gate.missing(() => naming);
    policies.set(deny.key, deny);
    gate.changed();
    assert.deepEqual(await waited, []);
    assert.deepEqual(clock.delaysMs, []);
    assert.equal(gate.check(naming, facts).isAllowed, false);
  });

  it('waits until the record no longer names it', async () => {
    const { gate } = setUp();
    const state: { current: Workload } = { current: naming };
    const waited = gate.missing(() => state.current);
    state.current = plain;
    gate.changed();
    assert.deepEqual(await waited, []);
  });

  it('does not end the wait for another policy', async () => {
    const { clock, gate, policies } = setUp();
    const state = { missing: undefined as readonly string[] | undefined };
    void gate
      .missing(() => naming)
      .then((missing) => {
        state.missing = missing;
      });
    policies.set('default/other', makePolicy('other'));
    gate.changed();
    await settle();
    assert.equal(state.missing, undefined);
    await clock.advance(POLICY_WAIT_MS);
    assert.deepEqual(state.missing, ['default/deny']);
    assert.deepEqual(clock.delaysMs, []);
  });

  it('judges what is running by the policies that are here', () => {
    const { gate, policies } = setUp(deny);
    assert.equal(gate.check(naming, facts).isAllowed, false);
    policies.delete(deny.key);
    gate.changed();
    assert.equal(gate.check(naming, facts).isAllowed, true);
  });

  it('a policy that changes its scope is that of other workloads from then on', () => {
    const { gate, policies } = setUp({ ...deny, scope: 'NAMESPACE' });
    const elsewhere = { ...plain, namespace: 'elsewhere' };
    const denied = (): boolean[] =>
      [plain, naming, elsewhere].map((workload) => !gate.check(workload, facts).isAllowed);
    assert.deepEqual(denied(), [true, true, false]);
    const put = (scope: Policy['scope']): boolean[] => {
      policies.set(deny.key, { ...deny, scope });
      gate.changed();
      return denied();
    };
    assert.deepEqual(put('WORKLOAD_SELECTOR'), [false, true, false]);
    assert.deepEqual(put('GLOBAL'), [true, true, true]);
    assert.deepEqual(put('NAMESPACE'), [true, true, false]);
  });
});
