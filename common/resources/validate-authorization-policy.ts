// Istio's validation rules for AuthorizationPolicy.
import {
  AuthorizationPolicy_Action,
  type AuthorizationPolicy,
  type Condition,
  type Operation,
  type PolicyTargetReference,
  type Rule,
  type Source,
} from './gen/security_pb.ts';
import { pathTemplateProblem } from './path-template.ts';
import { parseBlock, parsePort, parseServiceAccount } from './policy-value.ts';
import type { Problems } from './problem.ts';
import type { ResourceMeta } from './resource.ts';

const MAX_TARGETS = 16;
const TARGET_GROUPS: Readonly<Record<string, string>> = {
  Gateway: 'gateway.networking.k8s.io',
  GatewayClass: 'gateway.networking.k8s.io',
  Service: '',
  ServiceEntry: 'networking.istio.io',
};
const CONDITION_KEYS = [
  'source.ip',
  'remote.ip',
  'source.namespace',
  'source.principal',
  'source.serviceAccount',
  'source.trustDomain',
  'request.auth.principal',
  'request.auth.audiences',
  'request.auth.presenter',
  'destination.ip',
  'destination.port',
  'connection.sni',
];
const CONDITION_PREFIXES = [
  'request.headers[',
  'request.auth.claims[',
  'experimental.envoy.filters.',
];

/** Checks an AuthorizationPolicy's spec. */
export function validateAuthorizationPolicy(
  spec: AuthorizationPolicy,
  problems: Problems,
  meta: ResourceMeta,
): void {
  validateTargets(spec, problems);
  const isDeny = spec.action === AuthorizationPolicy_Action.DENY;
  problems.at('rules').check(!isDeny || spec.rules.length > 0, 'DENY without rules denies nothing');
  spec.rules.forEach((rule, index) => validateRule(rule, problems.at('rules', index), meta));
}

function validateTargets(spec: AuthorizationPolicy, problems: Problems): void {
  const { selector, targetRef, targetRefs } = spec;
  const ways = [selector !== undefined, targetRef !== undefined, targetRefs.length > 0];
  problems.check(
    ways.filter(Boolean).length <= 1,
    'only one of selector, targetRef and targetRefs may be set',
  );
  problems.at('targetRefs').check(targetRefs.length <= MAX_TARGETS, `at most ${MAX_TARGETS}`);
  if (targetRef !== undefined) validateTarget(targetRef, problems.at('targetRef'));
  targetRefs.forEach((target, index) => validateTarget(target, problems.at('targetRefs', index)));
}

function validateTarget(target: PolicyTargetReference, problems: Problems): void {
  const group = Object.hasOwn(TARGET_GROUPS, target.kind) ? TARGET_GROUPS[target.kind] : undefined;
  const kinds = Object.keys(TARGET_GROUPS).join(', ');
  problems.at('kind').check(group !== undefined, `must be one of ${kinds}`);
  if (group !== undefined) {
    const isCore = group === '' && target.group === 'core';
    problems
      .at('group')
      .check(target.group === group || isCore, `must be ${JSON.stringify(group)}`);
  }
  problems.at('name').check(target.name !== '', 'must not be empty');
  problems.at('namespace').check(target.namespace === '', 'targets are of the same namespace');
}

function validateRule(rule: Rule, problems: Problems, meta: ResourceMeta): void {
  rule.from.forEach(({ source }, index) => {
    const at = problems.at('from', index, 'source');
    if (source === undefined || isEmpty(source)) at.invalid('must not be empty');
    else validateSource(source, at, meta);
  });
  rule.to.forEach(({ operation }, index) => {
    const at = problems.at('to', index, 'operation');
    if (operation === undefined || isEmpty(operation)) at.invalid('must not be empty');
    else validateOperation(operation, at);
  });
  rule.when.forEach((condition, index) => validateCondition(condition, problems.at('when', index)));
}

function isEmpty(part: Source | Operation): boolean {
  return Object.values(part).every((value) => !Array.isArray(value) || value.length === 0);
}

function validateSource(source: Source, problems: Problems, meta: ResourceMeta): void {
  for (const key of ['ipBlocks', 'notIpBlocks', 'remoteIpBlocks', 'notRemoteIpBlocks'] as const) {
    checkEach(
      source[key],
      problems.at(key),
      (text) => parseBlock(text) !== undefined,
      'an IP block',
    );
  }
  for (const key of ['serviceAccounts', 'notServiceAccounts'] as const) {
    const isAccount = (text: string): boolean =>
      parseServiceAccount(text, meta.namespace) !== undefined;
    checkEach(source[key], problems.at(key), isAccount, 'a service account');
  }
  for (const key of ['trustDomains', 'notTrustDomains'] as const) {
    const isDomain = (text: string): boolean => text !== '' && !text.startsWith('*');
    checkEach(source[key], problems.at(key), isDomain, 'a trust domain or its prefix');
  }
  const byName = source.serviceAccounts.length + source.notServiceAccounts.length > 0;
  const byOther = source.principals.length + source.namespaces.length > 0;
  problems
    .at('serviceAccounts')
    .check(!byName || !byOther, 'cannot be combined with principals or namespaces');
  for (const key of ['principals', 'notPrincipals', 'namespaces', 'notNamespaces'] as const) {
    checkEach(source[key], problems.at(key), (text) => text !== '', 'a value');
  }
}

function validateOperation(operation: Operation, problems: Problems): void {
  for (const key of ['ports', 'notPorts'] as const) {
    checkEach(operation[key], problems.at(key), (text) => parsePort(text) !== undefined, 'a port');
  }
  for (const key of ['hosts', 'notHosts', 'methods', 'notMethods'] as const) {
    checkEach(operation[key], problems.at(key), (text) => text !== '', 'a value');
  }
  for (const key of ['paths', 'notPaths'] as const) {
    operation[key].forEach((path, index) => {
      const problem = path === '' ? 'must not be empty' : pathTemplateProblem(path);
      if (problem !== undefined) problems.at(key, index).invalid(problem);
    });
  }
}

function validateCondition(condition: Condition, problems: Problems): void {
  const { key, values, notValues } = condition;
  const isKnown =
    CONDITION_KEYS.includes(key) || CONDITION_PREFIXES.some((prefix) => key.startsWith(prefix));
  problems.at('key').check(isKnown, `unknown key ${JSON.stringify(key)}`);
  problems.check(values.length + notValues.length > 0, 'values or notValues are needed');
  const check = valueCheck(key);
  if (check === undefined) return;
  checkEach(values, problems.at('values'), ...check);
  checkEach(notValues, problems.at('notValues'), ...check);
}

function valueCheck(key: string): [(text: string) => boolean, string] | undefined {
  switch (key) {
    case 'source.ip':
    case 'remote.ip':
    case 'destination.ip':
      return [(text) => parseBlock(text) !== undefined, 'an IP block'];
    case 'destination.port':
      return [(text) => parsePort(text) !== undefined, 'a port'];
    case 'source.serviceAccount':
      return [(text) => parseServiceAccount(text, '-') !== undefined, 'a service account'];
    case 'source.trustDomain':
      return [(text) => text !== '' && !text.startsWith('*'), 'a trust domain or its prefix'];
    default:
      return undefined;
  }
}

function checkEach(
  values: readonly string[],
  problems: Problems,
  holds: (text: string) => boolean,
  what: string,
): void {
  values.forEach((value, index) => {
    problems.at(index).check(holds(value), `${JSON.stringify(value)} is not ${what}`);
  });
}
