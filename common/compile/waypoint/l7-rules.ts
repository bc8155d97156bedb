// AuthorizationPolicy rules as a waypoint evaluates them.
import { create } from '@bufbuild/protobuf';
import {
  AuthzConditionSchema,
  AuthzOperationSchema,
  AuthzRuleSchema,
  AuthzSourceSchema,
  StringMatchSchema,
  type AuthzCondition,
  type AuthzOperation,
  type AuthzRule,
  type AuthzSource,
  type StringMatch,
} from '../../l7/gen/l7_pb.ts';
import type { Condition, Operation, Rule, Source } from '../../resources/gen/security_pb.ts';
import { isPathTemplate, pathTemplateRegex } from '../../resources/path-template.ts';
import { expandPrincipal } from '../../resources/trust-domain.ts';
import { parsePattern, parsePort, parseServiceAccount } from '../../resources/policy-value.ts';

/** Where the values of a rule are read. */
export interface RuleScope {
  readonly namespace: string;
  /** The mesh's own first, then its aliases. */
  readonly trustDomains: readonly string[];
}

const IP_KEYS = ['source.ip', 'remote.ip', 'destination.ip'];

/** One rule; a source that names trust domains becomes a rule of its own with a condition on them. */
export function buildL7Rules(rule: Rule, scope: RuleScope): AuthzRule[] {
  const to = rule.to.flatMap(({ operation }) => (operation ? [buildOperation(operation)] : []));
  const when = rule.when.map((condition) => buildCondition(condition, scope));
  const sources = rule.from.flatMap(({ source }) => (source ? [source] : []));
  const plain = sources.filter((source) => !hasTrustDomains(source));
  const rules: AuthzRule[] = [];
  if (plain.length > 0 || rule.from.length === 0) {
    const from = plain.map((source) => buildSource(source, scope));
    rules.push(create(AuthzRuleSchema, { from, to, when }));
  }
  for (const source of sources.filter(hasTrustDomains)) {
    const from = [buildSource(source, scope)];
    const domains = trustDomainCondition(source);
    rules.push(create(AuthzRuleSchema, { from, to, when: [...when, domains] }));
  }
  return rules;
}

function hasTrustDomains(source: Source): boolean {
  return source.trustDomains.length + source.notTrustDomains.length > 0;
}

function trustDomainCondition(source: Source): AuthzCondition {
  return create(AuthzConditionSchema, {
    key: 'source.trustDomain',
    values: source.trustDomains.map(patternMatch),
    notValues: source.notTrustDomains.map(patternMatch),
  });
}

function buildSource(source: Source, scope: RuleScope): AuthzSource {
  return create(AuthzSourceSchema, {
    principals: source.principals.flatMap((text) => principals(text, scope)),
    notPrincipals: source.notPrincipals.flatMap((text) => principals(text, scope)),
    namespaces: source.namespaces.map(patternMatch),
    notNamespaces: source.notNamespaces.map(patternMatch),
    ipBlocks: source.ipBlocks,
    notIpBlocks: source.notIpBlocks,
    remoteIpBlocks: source.remoteIpBlocks,
    notRemoteIpBlocks: source.notRemoteIpBlocks,
    requestPrincipals: source.requestPrincipals.map(patternMatch),
    notRequestPrincipals: source.notRequestPrincipals.map(patternMatch),
    serviceAccounts: accounts(source.serviceAccounts, scope),
    notServiceAccounts: accounts(source.notServiceAccounts, scope),
  });
}

function buildOperation(operation: Operation): AuthzOperation {
  return create(AuthzOperationSchema, {
    hosts: operation.hosts.map(patternMatch),
    notHosts: operation.notHosts.map(patternMatch),
    methods: operation.methods.map(patternMatch),
    notMethods: operation.notMethods.map(patternMatch),
    paths: operation.paths.map(pathMatch),
    notPaths: operation.notPaths.map(pathMatch),
    ports: ports(operation.ports),
    notPorts: ports(operation.notPorts),
  });
}

function buildCondition(condition: Condition, scope: RuleScope): AuthzCondition {
  const { key, values, notValues } = condition;
  if (IP_KEYS.includes(key)) {
    return create(AuthzConditionSchema, { key, ipBlocks: values, notIpBlocks: notValues });
  }
  const match = conditionValue(key, scope);
  return create(AuthzConditionSchema, {
    key,
    values: values.flatMap(match),
    notValues: notValues.flatMap(match),
  });
}

function conditionValue(key: string, scope: RuleScope): (text: string) => StringMatch[] {
  if (key === 'source.principal') return (text) => principals(text, scope);
  if (key === 'source.serviceAccount') {
    return (text) => accounts([text], scope).map((value) => exact(value));
  }
  return (text) => [patternMatch(text)];
}

function patternMatch(text: string): StringMatch {
  const pattern = parsePattern(text);
  if (pattern.kind === 'presence') {
    return create(StringMatchSchema, { kind: { case: 'present', value: true } });
  }
  return create(StringMatchSchema, { kind: { case: pattern.kind, value: pattern.text } });
}

function exact(value: string): StringMatch {
  return create(StringMatchSchema, { kind: { case: 'exact', value } });
}

function pathMatch(text: string): StringMatch {
  if (!isPathTemplate(text)) return patternMatch(text);
  return create(StringMatchSchema, { kind: { case: 'regex', value: pathTemplateRegex(text) } });
}

function principals(text: string, { trustDomains }: RuleScope): StringMatch[] {
  const bare = text.startsWith('spiffe://') ? text.slice('spiffe://'.length) : text;
  return expandPrincipal(bare, trustDomains).map(patternMatch);
}

function accounts(texts: readonly string[], scope: RuleScope): string[] {
  return texts.flatMap((text) => {
    const account = parseServiceAccount(text, scope.namespace);
    return account === undefined ? [] : [`${account.namespace}/${account.serviceAccount}`];
  });
}

function ports(texts: readonly string[]): number[] {
  return texts.map(parsePort).filter((port) => port !== undefined);
}
