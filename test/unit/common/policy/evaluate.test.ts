// L4 policies: nesting, each match type, and the order of deny and allow. Names after Istio ztunnel's rbac tests.
import assert from 'node:assert/strict';
import { describe, it } from 'node:test';
import { evaluatePolicies, policiesFor } from '../../../../common/policy/evaluate.ts';
import type { ConnectionFacts } from '../../../../common/policy/evaluate.ts';
import type { Policy, PolicyMatch } from '../../../../common/policy/model.ts';
import { parseIp } from '../../../../common/workload/ip.ts';
import { makeMatch, makePolicy, makeWorkload } from '../../../support/mesh-builders.ts';

const ip = (text: string): Uint8Array => parseIp(text) ?? new Uint8Array();
const facts: ConnectionFacts = {
  sourceIdentity: 'spiffe://td/ns/from/sa/account',
  sourceIp: ip('10.0.0.1'),
  destinationIp: ip('10.0.0.2'),
  destinationPort: 8080,
};
const plaintext: ConnectionFacts = { ...facts, sourceIdentity: undefined };
const allow = (match: Partial<PolicyMatch>): Policy =>
  makePolicy('allow', { rules: [[[makeMatch(match)]]] });
const isAllowed = (policies: readonly Policy[], about = facts): boolean =>
  evaluatePolicies(policies, about).isAllowed;
const cidr = (text: string, length: number): { bytes: Uint8Array; length: number } => ({
  bytes: ip(text),
  length,
});

describe('policy matches', () => {
  const rows: ReadonlyArray<{
    name: string;
    match: Partial<PolicyMatch>;
    tls: boolean;
    plain: boolean;
  }> = [
    {
      name: 'namespace exact',
      match: { namespaces: [{ kind: 'exact', value: 'from' }] },
      tls: true,
      plain: false,
    },
    {
      name: 'namespace other',
      match: { namespaces: [{ kind: 'exact', value: 'x' }] },
      tls: false,
      plain: false,
    },
    {
      name: 'namespace prefix',
      match: { namespaces: [{ kind: 'prefix', value: 'fr' }] },
      tls: true,
      plain: false,
    },
    {
      name: 'namespace suffix',
      match: { namespaces: [{ kind: 'suffix', value: 'om' }] },
      tls: true,
      plain: false,
    },
    {
      name: 'namespace presence',
      match: { namespaces: [{ kind: 'presence' }] },
      tls: true,
      plain: false,
    },
    {
      name: 'namespace in another case',
      match: { namespaces: [{ kind: 'exact', value: 'From' }] },
      tls: false,
      plain: false,
    },
    {
      name: 'not namespace',
      match: { notNamespaces: [{ kind: 'exact', value: 'from' }] },
      tls: false,
      plain: true,
    },
    {
      name: 'principal',
      match: { principals: [{ kind: 'exact', value: 'td/ns/from/sa/account' }] },
      tls: true,
      plain: false,
    },
    {
      name: 'principal prefix',
      match: { principals: [{ kind: 'prefix', value: 'td/ns/from/' }] },
      tls: true,
      plain: false,
    },
    {
      name: 'principal suffix',
      match: { principals: [{ kind: 'suffix', value: '/sa/account' }] },
      tls: true,
      plain: false,
    },
    {
      name: 'principal with its scheme',
      match: { principals: [{ kind: 'exact', value: 'spiffe://td/ns/from/sa/account' }] },
      tls: false,
      plain: false,
    },
    {
      name: 'principal presence',
      match: { principals: [{ kind: 'presence' }] },
      tls: true,
      plain: false,
    },
    {
      name: 'not principal presence',
      match: { notPrincipals: [{ kind: 'presence' }] },
      tls: false,
      plain: true,
    },
    {
      name: 'service account',
      match: { serviceAccounts: [{ namespace: 'from', serviceAccount: 'account' }] },
      tls: true,
      plain: false,
    },
    {
      name: 'service account of another namespace',
      match: { serviceAccounts: [{ namespace: 'other', serviceAccount: 'account' }] },
      tls: false,
      plain: false,
    },
    {
      name: 'not service account',
      match: { notServiceAccounts: [{ namespace: 'from', serviceAccount: 'account' }] },
      tls: false,
      plain: true,
    },
    { name: 'source range', match: { sourceIps: [cidr('10.0.0.0', 24)] }, tls: true, plain: true },
    {
      name: 'source range v6',
      match: { sourceIps: [cidr('fd00::', 8)] },
      tls: false,
      plain: false,
    },
    {
      name: 'not source range',
      match: { notSourceIps: [cidr('10.0.0.0', 24)] },
      tls: false,
      plain: false,
    },
    {
      name: 'destination range',
      match: { destinationIps: [cidr('10.0.0.2', 32)] },
      tls: true,
      plain: true,
    },
    {
      name: 'not destination range',
      match: { notDestinationIps: [cidr('10.0.0.0', 24)] },
      tls: false,
      plain: false,
    },
    {
      name: 'any of a list, and none of the other',
      match: {
        sourceIps: [cidr('10.9.0.0', 16), cidr('10.0.0.0', 24)],
        notSourceIps: [cidr('10.0.0.9', 32)],
      },
      tls: true,
      plain: true,
    },
    { name: 'destination port', match: { destinationPorts: [8080] }, tls: true, plain: true },
    { name: 'other port', match: { destinationPorts: [80] }, tls: false, plain: false },
    { name: 'not port', match: { notDestinationPorts: [8080] }, tls: false, plain: false },
    {
      name: 'types are joined by and',
      match: { destinationPorts: [8080], namespaces: [{ kind: 'exact', value: 'x' }] },
      tls: false,
      plain: false,
    },
    { name: 'nothing set matches nothing', match: {}, tls: false, plain: false },
    {
      name: 'namespace "" is not that of plaintext',
      match: { namespaces: [{ kind: 'exact', value: '' }] },
      tls: false,
      plain: false,
    },
    {
      name: 'a namespace that begins with "" is not that of plaintext',
      match: { namespaces: [{ kind: 'prefix', value: '' }] },
      tls: true,
      plain: false,
    },
  ];
  for (const { name, match, tls, plain } of rows) {
    it(name, () => {
      assert.equal(isAllowed([allow(match)]), tls);
      assert.equal(isAllowed([allow(match)], plaintext), plain);
    });
  }
});

describe('the trust domain of a client', () => {
  const foreign: ConnectionFacts = { ...facts, sourceIdentity: 'spiffe://far/ns/from/sa/account' };

  it('is no part of a service account or a namespace', () => {
    const account = { namespace: 'from', serviceAccount: 'account' };
    assert.equal(isAllowed([allow({ serviceAccounts: [account] })], foreign), true);
    assert.equal(isAllowed([allow({ notServiceAccounts: [account] })], foreign), false);
    assert.equal(
      isAllowed([allow({ namespaces: [{ kind: 'exact', value: 'from' }] })], foreign),
      true,
    );
  });

  it('is part of a principal', () => {
    const principals = [{ kind: 'exact' as const, value: 'td/ns/from/sa/account' }];
    assert.equal(isAllowed([allow({ principals })], foreign), false);
    assert.equal(isAllowed([allow({ principals })]), true);
  });
});

describe('policy nesting', () => {
  const hit = makeMatch({ destinationPorts: [8080] });
  const miss = makeMatch({ destinationPorts: [1] });
  const rows: ReadonlyArray<{ name: string; rules: Policy['rules']; wanted: boolean }> = [
    { name: 'no rules never match', rules: [], wanted: false },
    { name: 'a rule without clauses always matches', rules: [[]], wanted: true },
    { name: 'a clause without matches is true', rules: [[[]]], wanted: true },
    { name: 'rules are joined by or', rules: [[[miss]], [[hit]]], wanted: true },
    { name: 'clauses are joined by and', rules: [[[hit], [miss]]], wanted: false },
    { name: 'matches are joined by or', rules: [[[miss, hit]]], wanted: true },
  ];
  for (const { name, rules, wanted } of rows) {
    it(name, () => assert.equal(isAllowed([makePolicy('p', { rules })]), wanted));
  }
});

describe('deny and allow', () => {
  const any: Policy['rules'] = [[]];
  const rows: ReadonlyArray<{ name: string; policies: readonly Policy[]; wanted: boolean }> = [
    { name: 'no policy allows', policies: [], wanted: true },
    {
      name: 'a deny that matches denies',
      policies: [makePolicy('d', { action: 'DENY', rules: any })],
      wanted: false,
    },
    {
      name: 'a deny that does not match allows',
      policies: [makePolicy('d', { action: 'DENY' })],
      wanted: true,
    },
    {
      name: 'deny beats allow',
      policies: [makePolicy('a', { rules: any }), makePolicy('d', { action: 'DENY', rules: any })],
      wanted: false,
    },
    { name: 'an allow that does not match denies', policies: [makePolicy('a')], wanted: false },
    {
      name: 'one allow of several is enough',
      policies: [makePolicy('a'), makePolicy('b', { rules: any })],
      wanted: true,
    },
    {
      name: 'a dry-run deny does not deny',
      policies: [makePolicy('d', { action: 'DENY', rules: any, isDryRun: true })],
      wanted: true,
    },
    {
      name: 'a dry-run allow does not demand a match',
      policies: [makePolicy('a', { isDryRun: true })],
      wanted: true,
    },
    {
      name: 'a dry-run allow does not allow',
      policies: [makePolicy('a'), makePolicy('b', { rules: any, isDryRun: true })],
      wanted: false,
    },
  ];
  for (const { name, policies, wanted } of rows) {
    it(name, () => assert.equal(isAllowed(policies), wanted));
  }

  it('names the policy and the rule that decided', () => {
    const port = (destinationPort: number): Policy['rules'][number] => [
      [makeMatch({ destinationPorts: [destinationPort] })],
    ];
    const rules = [port(1), port(8080), []];
    const denied = evaluatePolicies([makePolicy('d', { action: 'DENY', rules })], facts);
    assert.deepEqual(denied, {
      isAllowed: false,
      policy: 'default/d',
      rule: 1,
      reason: 'explicitly denied by: default/d',
    });
    const allowed = evaluatePolicies([makePolicy('x'), makePolicy('a', { rules })], facts);
    assert.deepEqual(allowed, { isAllowed: true, policy: 'default/a', rule: 1 });
  });

  it('names the policies of which none allowed, up to five', () => {
    const policies = ['a', 'b', 'c', 'd', 'e', 'f', 'g'].map((name) => makePolicy(name));
    assert.deepEqual(evaluatePolicies(policies, facts), {
      isAllowed: false,
      policy: undefined,
      rule: undefined,
      reason:
        'allow policies exist, but none allowed: default/a, default/b, default/c, default/d, default/e, and 2 more',
    });
  });

  const dry = (name: string, parts: Partial<Policy>): Policy =>
    makePolicy(name, { isDryRun: true, ...parts });
  const dryRows: ReadonlyArray<{
    name: string;
    policies: readonly Policy[];
    wanted: { isAllowed: boolean; would: boolean; matched: readonly string[] };
  }> = [
    {
      name: 'a deny that matches',
      policies: [dry('d', { action: 'DENY', rules: any })],
      wanted: { isAllowed: true, would: false, matched: ['default/d'] },
    },
    {
      name: 'a deny that does not match',
      policies: [dry('d', { action: 'DENY' })],
      wanted: { isAllowed: true, would: true, matched: [] },
    },
    {
      name: 'an allow that matches nothing would deny',
      policies: [dry('a', {})],
      wanted: { isAllowed: true, would: false, matched: [] },
    },
    {
      name: 'an allow that matches would allow what is denied',
      policies: [makePolicy('x'), dry('a', { rules: any })],
      wanted: { isAllowed: false, would: true, matched: ['default/a'] },
    },
  ];
  for (const { name, policies, wanted } of dryRows) {
    it(`a dry run of ${name} is reported and decides nothing`, () => {
      const { isAllowed, dryRun } = evaluatePolicies(policies, facts);
      const matched = dryRun?.matched.map(({ policy }) => policy);
      assert.deepEqual({ isAllowed, would: dryRun?.isAllowed, matched }, wanted);
    });
  }
});

describe('policiesFor', () => {
  it('takes global, namespace and listed selector policies', () => {
    const all = new Map(
      [
        makePolicy('global', {
          scope: 'GLOBAL',
          namespace: 'istio-system',
          key: 'istio-system/global',
        }),
        makePolicy('own'),
        makePolicy('foreign', { namespace: 'other', key: 'other/foreign' }),
        makePolicy('selected', { scope: 'WORKLOAD_SELECTOR' }),
        makePolicy('unselected', { scope: 'WORKLOAD_SELECTOR' }),
      ].map((policy) => [policy.key, policy]),
    );
    const workload = makeWorkload('w', '10.0.0.1', {
      authorizationPolicies: ['default/selected', 'default/gone'],
    });
    const { policies, missing } = policiesFor(all, workload);
    assert.deepEqual(
      policies.map(({ name }) => name),
      ['global', 'own', 'selected'],
    );
    assert.deepEqual(missing, ['default/gone']);
  });
});
