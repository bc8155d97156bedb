// Evaluates L4 policies for a connection (ztunnel-spec section 7). Pure. Deny before allow; with any allow policy
// in force, something must allow. Dry-run policies are reported and never decide.
import { matchesPrefix } from '../workload/ip.ts';
import type { Cidr, Policy, PolicyMatch, ServiceAccountMatch, StringMatch } from './model.ts';

/** What a policy can see of a connection. */
export interface ConnectionFacts {
  /** SPIFFE id proven by mutual TLS; undefined for plaintext. */
  readonly sourceIdentity: string | undefined;
  readonly sourceIp: Uint8Array;
  /** The pod's address, never the virtual one. */
  readonly destinationIp: Uint8Array;
  /** The application's port. */
  readonly destinationPort: number;
}

/** The outcome. `policy` is `namespace/name` of the policy that decided. */
export type PolicyVerdict =
  | {
      readonly isAllowed: true;
      readonly policy: string | undefined;
      readonly dryRun: readonly string[];
    }
  | {
      readonly isAllowed: false;
      readonly policy: string | undefined;
      readonly reason: string;
      readonly dryRun: readonly string[];
    };

interface Principal {
  readonly namespace: string;
  readonly serviceAccount: string;
  /** Without `spiffe://`. */
  readonly text: string;
}

const NO_POLICY: PolicyVerdict = { isAllowed: true, policy: undefined, dryRun: [] };
const NONE_IN_FORCE = { policies: [], missing: [] };

/** Decides a connection. `policies` are those in force for the destination, see {@link policiesFor}. */
export function evaluatePolicies(
  policies: readonly Policy[],
  facts: ConnectionFacts,
): PolicyVerdict {
  if (policies.length === 0) return NO_POLICY;
  const principal = parsePrincipal(facts.sourceIdentity);
  const dryRun: string[] = [];
  let hasAllow = false;
  for (const policy of policies) {
    if (policy.action === 'ALLOW') {
      if (!policy.isDryRun) hasAllow = true;
      continue;
    }
    if (!matchesPolicy(policy, facts, principal)) continue;
    if (policy.isDryRun) dryRun.push(policy.key);
    else {
      const reason = `explicitly denied by: ${policy.key}`;
      return { isAllowed: false, policy: policy.key, reason, dryRun };
    }
  }
  let allowedBy: string | undefined;
  for (const policy of policies) {
    if (policy.action !== 'ALLOW' || !matchesPolicy(policy, facts, principal)) continue;
    if (policy.isDryRun) dryRun.push(policy.key);
    else allowedBy ??= policy.key;
  }
  if (hasAllow && allowedBy === undefined) {
    const reason = 'allow policies exist, but none allowed';
    return { isAllowed: false, policy: undefined, reason, dryRun };
  }
  return { isAllowed: true, policy: allowedBy, dryRun };
}

/** The policies in force for a workload. A listed but unknown selector policy is reported by name. */
export function policiesFor(
  all: ReadonlyMap<string, Policy>,
  workload: { readonly namespace: string; readonly authorizationPolicies: readonly string[] },
): { readonly policies: readonly Policy[]; readonly missing: readonly string[] } {
  if (all.size === 0 && workload.authorizationPolicies.length === 0) return NONE_IN_FORCE;
  const policies: Policy[] = [];
  for (const policy of all.values()) {
    if (
      policy.scope === 'GLOBAL' ||
      (policy.scope === 'NAMESPACE' && policy.namespace === workload.namespace)
    ) {
      policies.push(policy);
    }
  }
  const missing: string[] = [];
  for (const key of workload.authorizationPolicies) {
    const policy = all.get(key);
    if (policy === undefined) missing.push(key);
    else if (policy.scope === 'WORKLOAD_SELECTOR') policies.push(policy);
  }
  return { policies, missing };
}

function parsePrincipal(identity: string | undefined): Principal | undefined {
  if (identity === undefined) return undefined;
  const text = identity.replace(/^spiffe:\/\//, '');
  const parts = text.split('/');
  if (parts.length !== 5 || parts[1] !== 'ns' || parts[3] !== 'sa') return undefined;
  return { namespace: parts[2] ?? '', serviceAccount: parts[4] ?? '', text };
}

function matchesPolicy(
  policy: Policy,
  facts: ConnectionFacts,
  principal: Principal | undefined,
): boolean {
  return policy.rules.some((clauses) =>
    clauses.every(
      (matches) => matches.length === 0 || matches.some((one) => matchesOne(one, facts, principal)),
    ),
  );
}

function matchesOne(
  match: PolicyMatch,
  facts: ConnectionFacts,
  principal: Principal | undefined,
): boolean {
  if (isEmpty(match)) return false;
  const { sourceIp, destinationIp, destinationPort } = facts;
  const inRange = (ip: Uint8Array) => (cidr: Cidr) => matchesPrefix(ip, cidr.bytes, cidr.length);
  const hasNamespace = (one: StringMatch): boolean =>
    principal !== undefined && matchesString(one, principal.namespace);
  const hasPrincipal = (one: StringMatch): boolean =>
    principal !== undefined && matchesString(one, principal.text);
  const hasAccount = (one: ServiceAccountMatch): boolean =>
    principal !== undefined &&
    one.namespace === principal.namespace &&
    one.serviceAccount === principal.serviceAccount;
  const isPort = (port: number): boolean => port === destinationPort;
  return (
    passes(match.destinationPorts, match.notDestinationPorts, isPort) &&
    passes(match.namespaces, match.notNamespaces, hasNamespace) &&
    passes(match.serviceAccounts, match.notServiceAccounts, hasAccount) &&
    passes(match.principals, match.notPrincipals, hasPrincipal) &&
    passes(match.sourceIps, match.notSourceIps, inRange(sourceIp)) &&
    passes(match.destinationIps, match.notDestinationIps, inRange(destinationIp))
  );
}

function passes<T>(
  wanted: readonly T[],
  unwanted: readonly T[],
  hits: (one: T) => boolean,
): boolean {
  return (wanted.length === 0 || wanted.some(hits)) && !unwanted.some(hits);
}

function isEmpty(match: PolicyMatch): boolean {
  return Object.values(match).every((list: readonly unknown[]) => list.length === 0);
}

function matchesString(match: StringMatch, text: string): boolean {
  switch (match.kind) {
    case 'exact':
      return text === match.value;
    case 'prefix':
      return text.startsWith(match.value);
    case 'suffix':
      return text.endsWith(match.value);
    case 'presence':
      return text !== '';
  }
}
