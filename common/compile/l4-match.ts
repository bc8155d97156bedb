// One AuthorizationPolicy rule as clauses of Istio's L4 Authorization, and the parts of it
// that only an L7 proxy can check.
import { create } from '@bufbuild/protobuf';
import {
  MatchSchema,
  StringMatchSchema,
  type Match,
  type StringMatch,
} from '../policy/gen/authorization_pb.ts';
import type { Condition, Operation, Rule, Source } from '../resources/gen/security_pb.ts';
import {
  parseBlock,
  parsePattern,
  parsePort,
  parseServiceAccount,
  type AddressBlock,
} from '../resources/policy-value.ts';

/** An L7 part of a rule: where it is and what it is called. */
export interface L7Part {
  readonly path: string;
  readonly attribute: string;
}

const L7_SOURCE = [
  'requestPrincipals',
  'notRequestPrincipals',
  'remoteIpBlocks',
  'notRemoteIpBlocks',
] as const;
const L7_OPERATION = ['hosts', 'notHosts', 'methods', 'notMethods', 'paths', 'notPaths'] as const;
const L4_KEYS = [
  'source.ip',
  'source.namespace',
  'source.principal',
  'source.serviceAccount',
  'source.trustDomain',
  'destination.ip',
  'destination.port',
];

/** Everything in a rule that needs an L7 proxy. */
export function findL7Parts(rule: Rule, path: string): L7Part[] {
  const parts: L7Part[] = [];
  rule.from.forEach(({ source }, index) => {
    for (const attribute of L7_SOURCE) {
      if ((source?.[attribute] ?? []).length === 0) continue;
      parts.push({ path: `${path}.from[${index}].source.${attribute}`, attribute });
    }
  });
  rule.to.forEach(({ operation }, index) => {
    for (const attribute of L7_OPERATION) {
      if ((operation?.[attribute] ?? []).length === 0) continue;
      parts.push({ path: `${path}.to[${index}].operation.${attribute}`, attribute });
    }
  });
  rule.when.forEach((condition, index) => {
    if (L4_KEYS.includes(condition.key)) return;
    parts.push({ path: `${path}.when[${index}]`, attribute: condition.key });
  });
  return parts;
}

/** The matches of one source; several, when trust domains restrict it, must all hold. */
export function sourceMatches(source: Source, namespace: string): Match[] {
  const match = create(MatchSchema, {
    principals: source.principals.map(principalMatch),
    notPrincipals: source.notPrincipals.map(principalMatch),
    namespaces: source.namespaces.map(stringMatch),
    notNamespaces: source.notNamespaces.map(stringMatch),
    sourceIps: blocks(source.ipBlocks),
    notSourceIps: blocks(source.notIpBlocks),
    serviceAccounts: accounts(source.serviceAccounts, namespace),
    notServiceAccounts: accounts(source.notServiceAccounts, namespace),
  });
  const domains = create(MatchSchema, {
    principals: source.trustDomains.map(trustDomainMatch),
    notPrincipals: source.notTrustDomains.map(trustDomainMatch),
  });
  return [match, domains].filter((entry) => !isEmptyMatch(entry));
}

/** The match of one operation. */
export function operationMatch(operation: Operation): Match {
  return create(MatchSchema, {
    destinationPorts: ports(operation.ports),
    notDestinationPorts: ports(operation.notPorts),
  });
}

/** The match of a condition on an L4 attribute; undefined for any other key. */
export function conditionMatch(condition: Condition, namespace: string): Match | undefined {
  const { key, values, notValues } = condition;
  switch (key) {
    case 'source.ip':
      return create(MatchSchema, { sourceIps: blocks(values), notSourceIps: blocks(notValues) });
    case 'destination.ip':
      return create(MatchSchema, {
        destinationIps: blocks(values),
        notDestinationIps: blocks(notValues),
      });
    case 'destination.port':
      return create(MatchSchema, {
        destinationPorts: ports(values),
        notDestinationPorts: ports(notValues),
      });
    case 'source.namespace':
      return create(MatchSchema, {
        namespaces: values.map(stringMatch),
        notNamespaces: notValues.map(stringMatch),
      });
    case 'source.principal':
      return create(MatchSchema, {
        principals: values.map(principalMatch),
        notPrincipals: notValues.map(principalMatch),
      });
    case 'source.trustDomain':
      return create(MatchSchema, {
        principals: values.map(trustDomainMatch),
        notPrincipals: notValues.map(trustDomainMatch),
      });
    case 'source.serviceAccount':
      return create(MatchSchema, {
        serviceAccounts: accounts(values, namespace),
        notServiceAccounts: accounts(notValues, namespace),
      });
    default:
      return undefined;
  }
}

/** True when no field is set; such a match never matches. */
export function isEmptyMatch(match: Match): boolean {
  return MatchSchema.fields.every((field) => {
    const value: unknown = Reflect.get(match, field.localName);
    return !Array.isArray(value) || value.length === 0;
  });
}

function stringMatch(text: string): StringMatch {
  const pattern = parsePattern(text);
  if (pattern.kind === 'presence') {
    return create(StringMatchSchema, { matchType: { case: 'presence', value: {} } });
  }
  return create(StringMatchSchema, { matchType: { case: pattern.kind, value: pattern.text } });
}

function principalMatch(text: string): StringMatch {
  return stringMatch(text.startsWith('spiffe://') ? text.slice('spiffe://'.length) : text);
}

// A trust domain is what stands before the first slash of a principal. One that starts with a star is refused
// by validation: no prefix says it.
function trustDomainMatch(text: string): StringMatch {
  const pattern = parsePattern(text);
  if (pattern.kind === 'presence') return stringMatch('*');
  const prefix = pattern.kind === 'prefix' ? pattern.text : `${pattern.text}/`;
  return create(StringMatchSchema, { matchType: { case: 'prefix', value: prefix } });
}

function blocks(texts: readonly string[]): AddressBlock[] {
  return texts.map(parseBlock).filter((block) => block !== undefined);
}

function ports(texts: readonly string[]): number[] {
  return texts.map(parsePort).filter((port) => port !== undefined);
}

function accounts(
  texts: readonly string[],
  namespace: string,
): { namespace: string; serviceAccount: string }[] {
  return texts
    .map((text) => parseServiceAccount(text, namespace))
    .filter((account) => account !== undefined);
}
