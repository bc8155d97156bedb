// AuthorizationPolicies with targetRefs: bound to a Gateway, to a Service or ServiceEntry
// of the policy's namespace, or, from the root namespace, to a whole GatewayClass.
import { create } from '@bufbuild/protobuf';
import {
  AuthorizationPolicySchema,
  AuthorizationPolicy_Action as L7Action,
  type AuthorizationPolicy as L7Policy,
} from '../../l7/gen/l7_pb.ts';
import {
  AuthorizationPolicy_Action,
  type AuthorizationPolicy,
  type PolicyTargetReference,
} from '../../resources/gen/security_pb.ts';
import type { Resource } from '../../resources/resource.ts';
import { WAYPOINT_CONTROLLERS } from '../gateways.ts';
import type { MeshModel } from '../mesh-model.ts';
import type { VerdictReason } from '../types.ts';
import type { Attachment } from '../waypoint-binding.ts';
import { buildL7Rules } from './l7-rules.ts';

type PolicyResource = Resource<AuthorizationPolicy>;

/** Waypoint key to its policies by "namespace/name". */
export type PoliciesByWaypoint = ReadonlyMap<string, ReadonlyMap<string, L7Policy>>;

/** What one target comes to: whole waypoints, or services at one. */
interface Binding {
  readonly waypoint: string;
  /** Service key; undefined for the whole waypoint. */
  readonly service: string | undefined;
}

type Failure = readonly [VerdictReason, string];

/** Compiles and binds every policy that has targets. */
export function buildL7Policies(
  model: MeshModel,
  policies: readonly PolicyResource[],
  attachments: ReadonlyMap<string, Attachment>,
): PoliciesByWaypoint {
  const byWaypoint = new Map<string, Map<string, L7Policy>>();
  for (const policy of policies) {
    const targets = targetsOf(policy.spec);
    if (targets.length === 0 || !isSupported(model, policy)) continue;
    for (const [path, target] of targets) {
      const bound = bindTarget(model, policy, { target, attachments });
      if ('failure' in bound) {
        model.log.nowhere(policy, path, bound.failure[0], `${path}: ${bound.failure[1]}`);
        continue;
      }
      for (const binding of bound) {
        attach(byWaypoint, policy, binding, trustDomainsOf(model));
        const message = `enforced by waypoint ${binding.waypoint}`;
        const verdict = { field: path, enforcedAt: 'waypoint', reason: 'Accepted' } as const;
        model.log.add(policy, { ...verdict, message, waypoint: binding.waypoint });
      }
    }
  }
  return byWaypoint;
}

function targetsOf(spec: AuthorizationPolicy): [string, PolicyTargetReference][] {
  if (spec.targetRef !== undefined) return [['spec.targetRef', spec.targetRef]];
  return spec.targetRefs.map((target, index) => [`spec.targetRefs[${index}]`, target]);
}

function isSupported(model: MeshModel, policy: PolicyResource): boolean {
  if (policy.spec.action !== AuthorizationPolicy_Action.CUSTOM) return true;
  const message = 'spec.action: external authorization (CUSTOM) is not served';
  model.log.nowhere(policy, 'spec.action', 'UnsupportedValue', message);
  return false;
}

interface TargetContext {
  readonly target: PolicyTargetReference;
  readonly attachments: ReadonlyMap<string, Attachment>;
}

type Bound = readonly Binding[] | { readonly failure: Failure };

function bindTarget(model: MeshModel, policy: PolicyResource, context: TargetContext): Bound {
  const { target } = context;
  switch (target.kind) {
    case 'Gateway':
      return bindGateway(model, `${policy.namespace}/${target.name}`);
    case 'GatewayClass':
      return bindClass(model, policy, target.name);
    default:
      return bindService(model, policy, context);
  }
}

function bindGateway(model: MeshModel, key: string): Bound {
  const gateway = model.gateways.get(key);
  if (gateway === undefined) {
    return { failure: ['TargetNotFound', `there is no Gateway ${key}`] };
  }
  if (!gateway.isServed) {
    const why = `Gateway ${key} has class ${gateway.className}, which is not a waypoint served here`;
    return { failure: ['GatewayNotServed', why] };
  }
  return [{ waypoint: key, service: undefined }];
}

function bindClass(model: MeshModel, policy: PolicyResource, name: string): Bound {
  if (policy.namespace !== model.mesh.rootNamespace) {
    const why = `a GatewayClass is a target only from the root namespace ${model.mesh.rootNamespace}`;
    return { failure: ['ForeignNamespace', why] };
  }
  if (!Object.hasOwn(WAYPOINT_CONTROLLERS, name)) {
    return { failure: ['TargetNotFound', `${name} is not a waypoint class`] };
  }
  const gateways = [...model.gateways.values()].filter(
    (gateway) => gateway.className === name && gateway.isServed,
  );
  if (gateways.length === 0) {
    return { failure: ['AncestorNotBound', `there is no waypoint of class ${name}`] };
  }
  return gateways.map(({ key }) => ({ waypoint: key, service: undefined }));
}

function bindService(model: MeshModel, policy: PolicyResource, context: TargetContext): Bound {
  const { kind, name } = context.target;
  const services = model.services.filter(
    (service) =>
      service.kind === kind && service.namespace === policy.namespace && service.name === name,
  );
  if (services.length === 0) {
    return { failure: ['TargetNotFound', `there is no ${kind} ${policy.namespace}/${name}`] };
  }
  const bindings = services.flatMap((service) => {
    const gateway = context.attachments.get(service.key)?.attached;
    return gateway?.isServed === true ? [{ waypoint: gateway.key, service: service.key }] : [];
  });
  if (bindings.length > 0) return bindings;
  const why = `${kind} ${name} has no waypoint, so nobody enforces this policy`;
  return { failure: ['AncestorNotBound', why] };
}

function attach(
  byWaypoint: Map<string, Map<string, L7Policy>>,
  policy: PolicyResource,
  binding: Binding,
  trustDomains: readonly string[],
): void {
  const policies = byWaypoint.get(binding.waypoint) ?? new Map<string, L7Policy>();
  byWaypoint.set(binding.waypoint, policies);
  const key = `${policy.namespace}/${policy.name}`;
  const compiled = policies.get(key) ?? buildPolicy(policy, trustDomains);
  policies.set(key, compiled);
  if (binding.service === undefined) compiled.wholeGateway = true;
  else if (!compiled.services.includes(binding.service)) compiled.services.push(binding.service);
}

function trustDomainsOf({ mesh }: MeshModel): string[] {
  return [mesh.trustDomain, ...(mesh.trustDomainAliases ?? [])];
}

function buildPolicy(policy: PolicyResource, trustDomains: readonly string[]): L7Policy {
  const { namespace, name } = policy;
  return create(AuthorizationPolicySchema, {
    namespace,
    name,
    action: l7Action(policy.spec.action),
    dryRun: policy.annotations['istio.io/dry-run'] === 'true',
    rules: policy.spec.rules.flatMap((rule) => buildL7Rules(rule, { namespace, trustDomains })),
  });
}

function l7Action(action: AuthorizationPolicy_Action): L7Action {
  if (action === AuthorizationPolicy_Action.DENY) return L7Action.DENY;
  return action === AuthorizationPolicy_Action.AUDIT ? L7Action.AUDIT : L7Action.ALLOW;
}
