// AuthorizationPolicy at a waypoint, compiled. Order: DENY, then ALLOW; AUDIT and dry-run
// policies only mark. On a TCP chain a rule that asks for HTTP never matches in an ALLOW policy, and its HTTP parts
// are left out in a DENY policy, so that it matches more rather than less.
import { MeshError } from '../errors.ts';
import { matchesPrefix, parseIp } from '../workload/ip.ts';
import { AuthorizationPolicy_Action } from './gen/l7_pb.ts';
import type {
  AuthorizationPolicy,
  AuthzCondition,
  AuthzOperation,
  AuthzRule,
  AuthzSource,
  StringMatch,
} from './gen/l7_pb.ts';
import { joinedHeader } from './request.ts';
import type { Header } from './request.ts';
import { inField } from './route-table.ts';
import { compileStringMatch } from './string-match.ts';

/** Who calls, from the certificate that the peer proved. */
export interface AuthzPeer {
  /** `td/ns/<ns>/sa/<sa>`, or undefined without an identity. */
  readonly principal: string | undefined;
  readonly trustDomain: string | undefined;
  readonly namespace: string | undefined;
  readonly serviceAccount: string | undefined;
}

/** What a policy is evaluated on. Without `http` it is a TCP connection. */
export interface AuthzInput {
  readonly peer: AuthzPeer;
  readonly sourceIp: Uint8Array | undefined;
  readonly remoteIp: Uint8Array | undefined;
  readonly destinationIp: Uint8Array | undefined;
  readonly destinationPort: number;
  readonly http:
    | {
        readonly method: string;
        readonly authority: string;
        /** Without query. */
        readonly path: string;
        readonly headers: readonly Header[];
      }
    | undefined;
}

type Check = (input: AuthzInput) => boolean;

interface CompiledRule {
  /** True when some part needs HTTP attributes. */
  readonly needsHttp: boolean;
  readonly matches: Check;
  /** The rule without its HTTP parts. */
  readonly matchesTcp: Check;
}

/** A policy ready for evaluation. */
export interface CompiledPolicy {
  readonly name: string;
  readonly action: 'ALLOW' | 'DENY' | 'AUDIT';
  readonly isDryRun: boolean;
  readonly isWholeGateway: boolean;
  readonly services: readonly string[];
  readonly rules: readonly CompiledRule[];
}

/** The answer. `policy` decided; `dryRun` are policies that would have decided otherwise. */
export interface AuthzVerdict {
  readonly isAllowed: boolean;
  /** `ns/name` of the policy, or '' for the defaults (no ALLOW policy, or none matched). */
  readonly policy: string;
  readonly reason: 'allowed' | 'denied-by-policy' | 'no-allow-match';
  readonly dryRun: readonly string[];
  readonly audited: boolean;
}

/** `spiffe://td/ns/<ns>/sa/<sa>` to its parts. */
export function parsePeer(identity: string | undefined): AuthzPeer {
  const match =
    identity === undefined ? null : /^spiffe:\/\/([^/]+)\/ns\/([^/]*)\/sa\/([^/]*)$/.exec(identity);
  return {
    principal: match === null ? undefined : identity?.slice('spiffe://'.length),
    trustDomain: match?.[1],
    namespace: match?.[2],
    serviceAccount: match?.[3],
  };
}

/** Evaluates the policies bound to a service or gateway. */
export function authorize(policies: readonly CompiledPolicy[], input: AuthzInput): AuthzVerdict {
  const dryRun: string[] = [];
  let audited = false;
  let allowPolicies = 0;
  let allowedBy: string | undefined;
  let deniedBy: string | undefined;
  for (const policy of policies) {
    const isMatch = matchesPolicy(policy, input);
    if (policy.action === 'AUDIT') audited ||= isMatch;
    else if (policy.isDryRun) {
      if (isMatch === (policy.action === 'DENY')) dryRun.push(policy.name);
    } else if (policy.action === 'DENY') {
      if (isMatch) deniedBy ??= policy.name;
    } else {
      allowPolicies++;
      if (isMatch) allowedBy ??= policy.name;
    }
  }
  const common = { dryRun, audited };
  if (deniedBy !== undefined) {
    return { isAllowed: false, policy: deniedBy, reason: 'denied-by-policy', ...common };
  }
  if (allowPolicies > 0 && allowedBy === undefined) {
    return { isAllowed: false, policy: '', reason: 'no-allow-match', ...common };
  }
  return { isAllowed: true, policy: allowedBy ?? '', reason: 'allowed', ...common };
}

function matchesPolicy(policy: CompiledPolicy, input: AuthzInput): boolean {
  const isTcp = input.http === undefined;
  for (const rule of policy.rules) {
    if (!isTcp || !rule.needsHttp) {
      if (rule.matches(input)) return true;
    } else if (policy.action !== 'ALLOW' && rule.matchesTcp(input)) return true;
  }
  return false;
}

/** Compiles and checks a policy. Throws `bad_resource` naming the field. */
export function compilePolicy(policy: AuthorizationPolicy): CompiledPolicy {
  const action = ACTIONS.get(policy.action);
  if (action === undefined) {
    throw new MeshError('bad_resource', `action: unknown value ${policy.action}`);
  }
  return {
    name: `${policy.namespace}/${policy.name}`,
    action,
    isDryRun: policy.dryRun,
    isWholeGateway: policy.wholeGateway,
    services: policy.services,
    rules: policy.rules.map((rule, at) => inField(`rules[${at}]`, () => compileRule(rule))),
  };
}

const ACTIONS = new Map<number, CompiledPolicy['action']>([
  [AuthorizationPolicy_Action.ALLOW, 'ALLOW'],
  [AuthorizationPolicy_Action.DENY, 'DENY'],
  [AuthorizationPolicy_Action.AUDIT, 'AUDIT'],
]);

interface Part {
  readonly needsHttp: boolean;
  readonly check: Check;
}

function compileRule(rule: AuthzRule): CompiledRule {
  const groups: Part[][][] = [
    rule.from.map((source, at) => inField(`from[${at}]`, () => sourceParts(source))),
    rule.to.map((operation, at) => inField(`to[${at}]`, () => operationParts(operation))),
  ].filter((group) => group.length > 0);
  const when = rule.when.map((condition, at) =>
    inField(`when[${at}]`, () => conditionPart(condition)),
  );
  const parts = [...groups.flat(2), ...when];
  const matches =
    (usable: (part: Part) => boolean): Check =>
    (input) =>
      groups.every((group) =>
        group.some((entry) => entry.every((part) => !usable(part) || part.check(input))),
      ) && when.every((part) => !usable(part) || part.check(input));
  return {
    needsHttp: parts.some((part) => part.needsHttp),
    matches: matches(() => true),
    matchesTcp: matches((part) => !part.needsHttp),
  };
}

type Attribute = (input: AuthzInput) => string | undefined;

function sourceParts(source: AuthzSource): Part[] {
  const account: Attribute = ({ peer }) =>
    peer.principal === undefined
      ? undefined
      : `${peer.namespace ?? ''}/${peer.serviceAccount ?? ''}`;
  const never: Attribute = () => undefined;
  return [
    ...textParts(source.principals, source.notPrincipals, ({ peer }) => peer.principal, false),
    ...textParts(source.namespaces, source.notNamespaces, ({ peer }) => peer.namespace, false),
    ...blockParts(source.ipBlocks, source.notIpBlocks, (input) => input.sourceIp, false),
    ...blockParts(source.remoteIpBlocks, source.notRemoteIpBlocks, (input) => input.remoteIp, true),
    // Without JWT authentication there is no request principal: wanted ones never match, unwanted ones always pass.
    ...textParts(source.requestPrincipals, source.notRequestPrincipals, never, true),
    ...exactParts(source.serviceAccounts, source.notServiceAccounts, account),
  ];
}

function operationParts(operation: AuthzOperation): Part[] {
  const port = (wanted: readonly number[], isNegative: boolean): Part[] =>
    wanted.length === 0
      ? []
      : [
          {
            needsHttp: false,
            check: (input) => wanted.includes(input.destinationPort) !== isNegative,
          },
        ];
  return [
    ...textParts(
      operation.hosts.map(ignoringCase),
      operation.notHosts.map(ignoringCase),
      ({ http }) => http?.authority,
      true,
    ),
    ...textParts(operation.methods, operation.notMethods, ({ http }) => http?.method, true),
    ...textParts(operation.paths, operation.notPaths, ({ http }) => http?.path, true),
    ...port(operation.ports, false),
    ...port(operation.notPorts, true),
  ];
}

function ignoringCase(match: StringMatch): StringMatch {
  return { ...match, ignoreCase: true };
}

function conditionPart(condition: AuthzCondition): Part {
  const { key } = condition;
  const ip = IP_KEYS[key];
  if (ip !== undefined) {
    return allOf(blockParts(condition.ipBlocks, condition.notIpBlocks, ip, key === 'remote.ip'));
  }
  const header = /^request\.headers\[([^\]]+)\]$/.exec(key)?.[1]?.toLowerCase();
  if (header !== undefined) {
    const read: Attribute = ({ http }) => http && joinedHeader(http.headers, header);
    return allOf(textParts(condition.values, condition.notValues, read, true));
  }
  const attribute = TEXT_KEYS[key];
  if (attribute !== undefined) {
    return allOf(textParts(condition.values, condition.notValues, attribute, false));
  }
  if (key.startsWith('request.auth.') || key.startsWith('experimental.')) {
    return allOf(textParts(condition.values, condition.notValues, () => undefined, true));
  }
  throw new MeshError('bad_resource', `key: unknown condition "${key}"`);
}

const IP_KEYS: Readonly<Record<string, (input: AuthzInput) => Uint8Array | undefined>> = {
  'source.ip': (input) => input.sourceIp,
  'remote.ip': (input) => input.remoteIp,
  'destination.ip': (input) => input.destinationIp,
};

const TEXT_KEYS: Readonly<Record<string, Attribute>> = {
  'source.namespace': ({ peer }) => peer.namespace,
  'source.principal': ({ peer }) => peer.principal,
  'source.serviceAccount': ({ peer }) =>
    peer.principal === undefined
      ? undefined
      : `${peer.namespace ?? ''}/${peer.serviceAccount ?? ''}`,
  'source.trustDomain': ({ peer }) => peer.trustDomain,
  'destination.port': (input) => String(input.destinationPort),
  'connection.sni': () => undefined,
};

function allOf(parts: readonly Part[]): Part {
  return {
    needsHttp: parts.some((part) => part.needsHttp),
    check: (input) => parts.every((part) => part.check(input)),
  };
}

function textParts(
  wanted: readonly StringMatch[],
  unwanted: readonly StringMatch[],
  read: Attribute,
  needsHttp: boolean,
): Part[] {
  const part = (matches: readonly StringMatch[], isNegative: boolean): Part[] => {
    if (matches.length === 0) return [];
    const predicates = matches.map((match) => compileStringMatch(match, true));
    return [
      {
        needsHttp,
        check: (input) => {
          const value = read(input);
          const isMatch = value !== undefined && predicates.some((predicate) => predicate(value));
          return isMatch !== isNegative;
        },
      },
    ];
  };
  return [...part(wanted, false), ...part(unwanted, true)];
}

function exactParts(
  wanted: readonly string[],
  unwanted: readonly string[],
  read: Attribute,
): Part[] {
  const part = (values: readonly string[], isNegative: boolean): Part[] => {
    if (values.length === 0) return [];
    const set = new Set(values);
    return [
      { needsHttp: false, check: (input) => set.has(read(input) ?? '\u0000') !== isNegative },
    ];
  };
  return [...part(wanted, false), ...part(unwanted, true)];
}

function blockParts(
  wanted: readonly string[],
  unwanted: readonly string[],
  read: (input: AuthzInput) => Uint8Array | undefined,
  needsHttp: boolean,
): Part[] {
  const part = (texts: readonly string[], isNegative: boolean): Part[] => {
    if (texts.length === 0) return [];
    const blocks = texts.map(parseBlock);
    return [
      {
        needsHttp,
        check: (input) => {
          const ip = read(input);
          const isMatch =
            ip !== undefined &&
            blocks.some(({ prefix, length }) => matchesPrefix(ip, prefix, length));
          return isMatch !== isNegative;
        },
      },
    ];
  };
  return [...part(wanted, false), ...part(unwanted, true)];
}

function parseBlock(text: string): { prefix: Uint8Array; length: number } {
  const [address = '', bits] = text.split('/');
  const prefix = parseIp(address);
  const length = bits === undefined ? (prefix?.length ?? 0) * 8 : Number(bits);
  if (
    prefix === undefined ||
    !Number.isInteger(length) ||
    length < 0 ||
    length > prefix.length * 8
  ) {
    throw new MeshError('bad_resource', `"${text}" is not an address block`);
  }
  return { prefix, length };
}
