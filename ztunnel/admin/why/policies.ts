// What each policy at a destination says of a connection. The evaluator of the data plane is asked for every policy and
// rule alone, so that the explanation cannot differ from the decision.
import { evaluatePolicies, policiesFor } from '../../../common/policy/evaluate.ts';
import type { ConnectionFacts, PolicyVerdict } from '../../../common/policy/evaluate.ts';
import type { Policy } from '../../../common/policy/model.ts';
import type { Workload } from '../../../common/workload/model.ts';
import type { WhyPolicy } from '../../../common/admin/explanation.ts';

/** The verdict, with what led to it. */
export interface ExplainedVerdict {
  readonly verdict: PolicyVerdict;
  readonly policies: readonly WhyPolicy[];
  /** Named by the workload, but not there. */
  readonly missing: readonly string[];
}

/** Evaluates the policies in force at a workload. */
export function explainPolicies(
  all: ReadonlyMap<string, Policy>,
  workload: Workload,
  facts: ConnectionFacts,
): ExplainedVerdict {
  const { policies, missing } = policiesFor(all, workload);
  const verdict = evaluatePolicies(policies, facts);
  return {
    verdict,
    missing,
    policies: policies.map((policy) => {
      const rule = policy.rules.findIndex((one) => matches({ ...policy, rules: [one] }, facts));
      const isDeciding = verdict.policy === policy.key;
      return {
        policy: policy.key,
        action: policy.action,
        scope: policy.scope,
        isDryRun: policy.isDryRun,
        isMatch: rule >= 0,
        rule: rule < 0 ? null : rule,
        isDeciding,
        detail: describe(policy, rule, isDeciding),
      };
    }),
  };
}

/** A policy that denies what it matches, alone, denies exactly when it matches. */
function matches(policy: Policy, facts: ConnectionFacts): boolean {
  return !evaluatePolicies([{ ...policy, action: 'DENY', isDryRun: false }], facts).isAllowed;
}

function describe(policy: Policy, rule: number, isDeciding: boolean): string {
  if (rule < 0) {
    return policy.rules.length === 0 ? 'has no rules, so it matches nothing' : 'no rule matches';
  }
  const would = policy.isDryRun ? 'would ' : '';
  const verb = policy.action === 'ALLOW' ? 'allow' : 'deny';
  const decides = isDeciding ? '; this decides' : '';
  return `rule ${rule} matches: ${would}${verb}${policy.isDryRun ? ' (dry run)' : ''}${decides}`;
}
