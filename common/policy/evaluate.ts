// Evaluates L4 policies for a connection. Pure. Deny before allow; with any allow policy
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

/** What decided: `namespace/name` of the policy and the index of its rule; undefined when none did. */
interface Decision {
  readonly policy: string | undefined;
  readonly rule: number | undefined;
}

/** What dry-run policies say of a connection; they never decide. */
export interface DryRun {
  /** Whether the connection would be allowed if they were in force. */
  readonly isAllowed: boolean;
  /** Those that match. */
  readonly matched: ReadonlyArray<{
    readonly policy: string;
    readonly rule: number;
    readonly action: Policy['action'];
  }>;
}

/** The outcome. `dryRun` is there when a dry-run policy is in force. */
export type PolicyVerdict = (
  | (Decision & { readonly isAllowed: true })
  | (Decision & { readonly isAllowed: false; readonly reason: string })
) & { readonly dryRun?: DryRun };

interface Principal {
  readonly namespace: string;
  readonly serviceAccount: string;
  /** Without `spiffe://`. */
  readonly text: string;
}

const NO_POLICY: PolicyVerdict = { isAllowed: true, policy: undefined, rule: undefined };
const NONE_IN_FORCE = { policies: [], missing: [] };
/** So many policies are named when none of them allowed. */
const NAMED_POLICIES = 5;

/** Decides a connection. `policies` are those in force for the destination, see {@link policiesFor}. */
export function evaluatePolicies(
  policies: readonly Policy[],
  facts: ConnectionFacts,
): PolicyVerdict {
  if (policies.length === 0) return NO_POLICY;
  const principal = parsePrincipal(facts.sourceIdentity);
  const ruleOf = (policy: Policy): number =>
    policy.rules.findIndex((rule) => matchesRule(rule, facts, principal));
  if (!policies.some(({ isDryRun }) => isDryRun)) return decide(policies, ruleOf);
  const verdict = decide(
    policies.filter(({ isDryRun }) => !isDryRun),
    ruleOf,
  );
  const matched = policies.flatMap((policy) => {
    const rule = policy.isDryRun ? ruleOf(policy) : -1;
    return rule < 0 ? [] : [{ policy: policy.key, rule, action: policy.action }];
  });
  return { ...verdict, dryRun: { isAllowed: decide(policies, ruleOf).isAllowed, matched } };
}

/** Deny before allow; with any allow policy, something must allow. `ruleOf` is negative when no rule matches. */
function decide(policies: readonly Policy[], ruleOf: (policy: Policy) => number): PolicyVerdict {
  for (const policy of policies) {
    const rule = policy.action === 'DENY' ? ruleOf(policy) : -1;
    if (rule < 0) continue;
    const reason = `explicitly denied by: ${policy.key}`;
    return { isAllowed: false, policy: policy.key, rule, reason };
  }
  const allows = policies.filter(({ action }) => action === 'ALLOW');
  if (allows.length === 0) return NO_POLICY;
  for (const policy of allows) {
    const rule = ruleOf(policy);
    if (rule >= 0) return { isAllowed: true, policy: policy.key, rule };
  }
  const names = allows.slice(0, NAMED_POLICIES).map(({ key }) => key);
  const more = allows.length > NAMED_POLICIES ? `, and ${allows.length - NAMED_POLICIES} more` : '';
  const reason = `allow policies exist, but none allowed: ${names.join(', ')}${more}`;
  return { isAllowed: false, policy: undefined, rule: undefined, reason };
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

/** AND of clauses, each an OR of matches. */
function matchesRule(
  clauses: Policy['rules'][number],
  facts: ConnectionFacts,
  principal: Principal | undefined,
): boolean {
  return clauses.every(
    (matches) => matches.length === 0 || matches.some((one) => matchesOne(one, facts, principal)),
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
