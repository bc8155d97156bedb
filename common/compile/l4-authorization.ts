// AuthorizationPolicies for node proxies: those with a selector, for a namespace, or for
// the whole mesh. What a node proxy cannot check never lets more through: an ALLOW rule with it is dropped, a DENY
// rule applies without it.
import { create } from '@bufbuild/protobuf';
import {
  Action,
  AuthorizationSchema,
  RuleSchema,
  Scope,
  type Authorization,
  type Match,
  type Rule as L4Rule,
} from '../policy/gen/authorization_pb.ts';
import {
  AuthorizationPolicy_Action,
  type AuthorizationPolicy,
  type Rule,
} from '../resources/gen/security_pb.ts';
import type { Resource } from '../resources/resource.ts';
import {
  conditionMatch,
  findL7Parts,
  isEmptyMatch,
  operationMatch,
  sourceMatches,
} from './l4-match.ts';
import { selects, type MeshModel } from './mesh-model.ts';

const DRY_RUN = 'istio.io/dry-run';

/** A policy that workloads list because their labels match. */
export interface SelectorPolicy {
  readonly key: string;
  readonly namespace: string;
  readonly isMeshWide: boolean;
  readonly selector: Readonly<Record<string, string>>;
}

export interface L4Policies {
  readonly authorizations: Authorization[];
  readonly selectors: SelectorPolicy[];
}

/** True for policies that waypoints enforce and node proxies are not sent. */
export function hasTargetRefs(policy: AuthorizationPolicy): boolean {
  return policy.targetRef !== undefined || policy.targetRefs.length > 0;
}

/** Compiles every policy without targetRefs. */
export function buildL4Policies(
  model: MeshModel,
  policies: readonly Resource<AuthorizationPolicy>[],
): L4Policies {
  const authorizations: Authorization[] = [];
  const selectors: SelectorPolicy[] = [];
  for (const policy of policies) {
    if (hasTargetRefs(policy.spec) || !isEnforceable(model, policy)) continue;
    const selector = policy.spec.selector?.matchLabels ?? {};
    const hasSelector = Object.keys(selector).length > 0;
    const isMeshWide = policy.namespace === model.mesh.rootNamespace;
    authorizations.push(
      create(AuthorizationSchema, {
        name: policy.name,
        namespace: policy.namespace,
        scope: policyScope(hasSelector, isMeshWide),
        action: isDeny(policy.spec) ? Action.DENY : Action.ALLOW,
        dryRun: isDryRun(policy),
        rules: buildRules(model, policy),
      }),
    );
    if (hasSelector) {
      const key = `${policy.namespace}/${policy.name}`;
      selectors.push({ key, namespace: policy.namespace, isMeshWide, selector });
    }
    reportReach(model, policy, { hasSelector, isMeshWide, selector });
  }
  return { authorizations, selectors };
}

function policyScope(hasSelector: boolean, isMeshWide: boolean): Scope {
  if (hasSelector) return Scope.WORKLOAD_SELECTOR;
  return isMeshWide ? Scope.GLOBAL : Scope.NAMESPACE;
}

function isDeny(policy: AuthorizationPolicy): boolean {
  return policy.action === AuthorizationPolicy_Action.DENY;
}

function isDryRun(policy: Resource<AuthorizationPolicy>): boolean {
  return policy.annotations[DRY_RUN] === 'true';
}

function isEnforceable(model: MeshModel, policy: Resource<AuthorizationPolicy>): boolean {
  const { action } = policy.spec;
  if (action === AuthorizationPolicy_Action.AUDIT || action === AuthorizationPolicy_Action.CUSTOM) {
    const name = action === AuthorizationPolicy_Action.AUDIT ? 'AUDIT' : 'CUSTOM';
    const message = `spec.action: node proxies do not enforce ${name}`;
    model.log.nowhere(policy, 'spec.action', 'UnsupportedValue', message);
    return false;
  }
  return true;
}

function reportReach(
  model: MeshModel,
  policy: Resource<AuthorizationPolicy>,
  reach: Pick<SelectorPolicy, 'isMeshWide' | 'selector'> & { readonly hasSelector: boolean },
): void {
  const pods = reach.isMeshWide ? model.pods : (model.podsByNamespace.get(policy.namespace) ?? []);
  const selected = pods.filter((pod) => !pod.isWaypoint && selects(reach.selector, pod.labels));
  if (reach.hasSelector && selected.length === 0) {
    const message = 'spec.selector: no pod has these labels';
    model.log.nowhere(policy, 'spec.selector', 'NoWorkloads', message);
    return;
  }
  model.log.add(policy, {
    field: 'spec',
    enforcedAt: 'node',
    reason: 'Accepted',
    message: isDryRun(policy)
      ? `evaluated and reported by node proxies for ${selected.length} workloads, not enforced`
      : `enforced by node proxies for ${selected.length} workloads`,
  });
}

function buildRules(model: MeshModel, policy: Resource<AuthorizationPolicy>): L4Rule[] {
  const deny = isDeny(policy.spec);
  return policy.spec.rules.flatMap((rule, index) => {
    const path = `spec.rules[${index}]`;
    const parts = findL7Parts(rule, path);
    for (const part of parts) {
      const effect = deny
        ? 'the rule denies without it, so it denies more'
        : 'the whole rule is dropped, so it allows nothing';
      const message = `${part.path}: node proxies do not see ${part.attribute}; ${effect}; use targetRefs to enforce it at a waypoint`;
      model.log.nowhere(policy, part.path, 'RequiresWaypoint', message);
    }
    if (parts.length > 0 && !deny) return [];
    return toL4Rules(rule, policy.namespace);
  });
}

/** One rule as one or more L4 rules: a source with trust domains needs clauses of its own. */
export function toL4Rules(rule: Rule, namespace: string): L4Rule[] {
  const operations = rule.to.map(({ operation }) => operation && operationMatch(operation));
  const common: Match[][] = [];
  // A part that lost all it said with its L7 content no longer restricts the rule.
  if (operations.length > 0 && operations.every((match) => match && !isEmptyMatch(match))) {
    common.push(operations.filter((match) => match !== undefined));
  }
  for (const condition of rule.when) {
    const match = conditionMatch(condition, namespace);
    if (match !== undefined) common.push([match]);
  }
  const sources = rule.from.map(({ source }) =>
    source === undefined ? [] : sourceMatches(source, namespace),
  );
  if (sources.length === 0 || sources.some((matches) => matches.length === 0)) {
    return [clausesToRule(common)];
  }
  if (sources.every((matches) => matches.length === 1)) {
    return [clausesToRule([...common, sources.flat()])];
  }
  return sources.map((matches) => clausesToRule([...common, ...matches.map((match) => [match])]));
}

function clausesToRule(clauses: readonly Match[][]): L4Rule {
  return create(RuleSchema, { clauses: clauses.map((matches) => ({ matches })) });
}
