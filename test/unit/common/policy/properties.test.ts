// What holds for every set of L4 policies and every connection, whatever they say: the order of policies does not
// matter, a DENY only ever denies more, a dry run decides nothing, and the wire form means the same.
import assert from 'node:assert/strict';
import { describe, it } from 'node:test';
import { create, toBinary } from '@bufbuild/protobuf';
import fc from 'fast-check';
import { decodeAuthorization } from '../../../../common/policy/decode.ts';
import { evaluatePolicies } from '../../../../common/policy/evaluate.ts';
import type { ConnectionFacts } from '../../../../common/policy/evaluate.ts';
import {
  Action,
  AuthorizationSchema,
  Scope,
} from '../../../../common/policy/gen/authorization_pb.ts';
import type { Cidr, Policy, PolicyMatch, StringMatch } from '../../../../common/policy/model.ts';
import { makePolicy } from '../../../support/mesh-builders.ts';

// The prototype of what is decoded, for deepEqual.
const PLAIN = { noNullPrototype: true } as const;
const RUNS = { numRuns: 500, seed: 20_261_123 };
const few = <T>(of: fc.Arbitrary<T>): fc.Arbitrary<T[]> => fc.array(of, { maxLength: 2 });
// Small worlds, so that matches do hit.
const namespaces = fc.constantFrom('a', 'ab', 'b');
const accounts = fc.constantFrom('x', 'y');
const ips = fc
  .constantFrom([10, 0, 0, 1], [10, 0, 1, 1], [11, 0, 0, 1])
  .map((ip) => Uint8Array.from(ip));
const ports = fc.constantFrom(80, 443);

function stringMatches(values: fc.Arbitrary<string>): fc.Arbitrary<StringMatch> {
  return fc.oneof(
    fc.record(
      {
        kind: fc.constantFrom('exact' as const, 'prefix' as const, 'suffix' as const),
        value: values,
      },
      PLAIN,
    ),
    fc.constant({ kind: 'presence' as const }),
  );
}

const principals = fc.tuple(namespaces, accounts).map(([ns, sa]) => `td/ns/${ns}/sa/${sa}`);
const cidrs: fc.Arbitrary<Cidr> = fc.record(
  { bytes: ips, length: fc.constantFrom(0, 8, 24, 32) },
  PLAIN,
);
const serviceAccounts = fc.record({ namespace: namespaces, serviceAccount: accounts }, PLAIN);
const matches: fc.Arbitrary<PolicyMatch> = fc.record(
  {
    namespaces: few(stringMatches(namespaces)),
    notNamespaces: few(stringMatches(namespaces)),
    serviceAccounts: few(serviceAccounts),
    notServiceAccounts: few(serviceAccounts),
    principals: few(stringMatches(principals)),
    notPrincipals: few(stringMatches(principals)),
    sourceIps: few(cidrs),
    notSourceIps: few(cidrs),
    destinationIps: few(cidrs),
    notDestinationIps: few(cidrs),
    destinationPorts: few(ports),
    notDestinationPorts: few(ports),
  },
  PLAIN,
);
const policies: fc.Arbitrary<Policy> = fc
  .record({
    name: fc.constantFrom('p', 'q', 'r'),
    action: fc.constantFrom('ALLOW' as const, 'DENY' as const),
    isDryRun: fc.boolean(),
    rules: few(few(few(matches))),
  })
  .map(({ name, ...parts }) => makePolicy(name, parts));
const connections: fc.Arbitrary<ConnectionFacts> = fc.record({
  sourceIdentity: fc.option(
    principals.map((text) => `spiffe://${text}`),
    { nil: undefined },
  ),
  sourceIp: ips,
  destinationIp: ips,
  destinationPort: ports,
});
const sets = fc.array(policies, { maxLength: 5 });

function isAllowed(set: readonly Policy[], facts: ConnectionFacts): boolean {
  return evaluatePolicies(set, facts).isAllowed;
}

function holds(property: (set: readonly Policy[], facts: ConnectionFacts) => boolean): void {
  fc.assert(fc.property(sets, connections, property), RUNS);
}

function encode(policy: Policy): Uint8Array {
  const strings = (list: readonly StringMatch[]): object[] =>
    list.map((one) => ({
      matchType:
        one.kind === 'presence'
          ? { case: 'presence', value: {} }
          : { case: one.kind, value: one.value },
    }));
  const blocks = (list: readonly Cidr[]): object[] =>
    list.map(({ bytes, length }) => ({ address: bytes, length }));
  const match = (one: PolicyMatch): object => ({
    ...one,
    namespaces: strings(one.namespaces),
    notNamespaces: strings(one.notNamespaces),
    principals: strings(one.principals),
    notPrincipals: strings(one.notPrincipals),
    sourceIps: blocks(one.sourceIps),
    notSourceIps: blocks(one.notSourceIps),
    destinationIps: blocks(one.destinationIps),
    notDestinationIps: blocks(one.notDestinationIps),
  });
  const message = create(AuthorizationSchema, {
    name: policy.name,
    namespace: policy.namespace,
    scope: Scope[policy.scope],
    action: Action[policy.action],
    dryRun: policy.isDryRun,
    rules: policy.rules.map((clauses) => ({
      clauses: clauses.map((all) => ({ matches: all.map(match) })),
    })),
  });
  return toBinary(AuthorizationSchema, message);
}

describe('policies, whatever they say', () => {
  it('their order does not matter', () => {
    holds((set, facts) => isAllowed(set, facts) === isAllowed([...set].reverse(), facts));
  });

  it('one more DENY never lets more through, one DENY less never lets less through', () => {
    holds((set, facts) => {
      const without = set.filter(({ action }) => action !== 'DENY');
      return !isAllowed(set, facts) || isAllowed(without, facts);
    });
  });

  it('a dry run decides nothing, and says what would be', () => {
    holds((set, facts) => {
      const enforced = set.filter(({ isDryRun }) => !isDryRun);
      const verdict = evaluatePolicies(set, facts);
      const all = set.map((policy) => ({ ...policy, isDryRun: false }));
      const would = verdict.dryRun?.isAllowed ?? verdict.isAllowed;
      return verdict.isAllowed === isAllowed(enforced, facts) && would === isAllowed(all, facts);
    });
  });

  it('the rule that is named decides alone', () => {
    holds((set, facts) => {
      const { policy, rule, isAllowed: verdict } = evaluatePolicies(set, facts);
      if (policy === undefined || rule === undefined) return true;
      return set.some((one) => {
        const own = { ...one, isDryRun: false, rules: one.rules.slice(rule, rule + 1) };
        return one.key === policy && isAllowed([own], facts) === verdict;
      });
    });
  });

  it('a clause that says nothing of identities treats plaintext and mutual TLS alike', () => {
    holds((set, facts) => {
      const blind = set.map((policy) => ({
        ...policy,
        rules: policy.rules.map((clauses) => clauses.map((all) => all.map(withoutIdentities))),
      }));
      return isAllowed(blind, facts) === isAllowed(blind, { ...facts, sourceIdentity: undefined });
    });
  });

  it('the wire form means the same', () => {
    fc.assert(
      fc.property(policies, (policy) => {
        assert.deepEqual(decodeAuthorization(encode(policy), policy.key), policy);
      }),
      RUNS,
    );
  });
});

function withoutIdentities(match: PolicyMatch): PolicyMatch {
  return {
    ...match,
    namespaces: [],
    notNamespaces: [],
    serviceAccounts: [],
    notServiceAccounts: [],
    principals: [],
    notPrincipals: [],
  };
}
