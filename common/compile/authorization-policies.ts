// Reads AuthorizationPolicies so that a mistake in one never grants more than was written: an ALLOW rule that is
// not understood is dropped, a DENY rule applies without what is not understood.
import {
  AuthorizationPolicySchema,
  AuthorizationPolicy_Action,
  type AuthorizationPolicy,
} from '../resources/gen/security_pb.ts';
import { byAge, readResource, type Resource } from '../resources/resource.ts';
import { validateAuthorizationPolicy } from '../resources/validate-authorization-policy.ts';
import type { MeshModel } from './mesh-model.ts';
import type { ConfigObject } from './types.ts';

const RULE = /^spec\.rules\[(\d+)\]/;

/** The policies that can be applied, oldest first, with unsafe rules taken out. */
export function readPolicies(
  model: MeshModel,
  objects: readonly ConfigObject[],
): Resource<AuthorizationPolicy>[] {
  const kind = 'AuthorizationPolicy';
  const policies: Resource<AuthorizationPolicy>[] = [];
  for (const object of objects) {
    model.log.guard(kind, object, () => {
      const policy = readResource(
        kind,
        AuthorizationPolicySchema,
        object,
        validateAuthorizationPolicy,
      );
      model.log.admit(policy);
      if (policy.name !== '' && isTargetKnown(policy)) policies.push(withoutUnsafeRules(policy));
    });
  }
  return policies.sort(byAge);
}

// A bad value outside the rules leaves unknown whom the policy is for.
function isTargetKnown(policy: Resource<AuthorizationPolicy>): boolean {
  return policy.problems.every(
    (problem) => problem.reason !== 'Invalid' || problem.path.startsWith('spec.rules'),
  );
}

function withoutUnsafeRules(policy: Resource<AuthorizationPolicy>): Resource<AuthorizationPolicy> {
  if (policy.problems.length === 0) return policy;
  if (policy.spec.action === AuthorizationPolicy_Action.DENY) return policy;
  // A rule that is null was left out of the list and shifted the indexes: nothing can be told apart.
  const isWhole = policy.problems.some(
    ({ path, message }) => path === 'spec.rules' || message.endsWith('must not be null'),
  );
  const unsafe = new Set(policy.problems.map(({ path }) => Number(RULE.exec(path)?.[1] ?? -1)));
  const rules = isWhole ? [] : policy.spec.rules.filter((_, index) => !unsafe.has(index));
  return { ...policy, spec: { ...policy.spec, rules } };
}
