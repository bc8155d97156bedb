// AuthorizationPolicy at a waypoint: conditions, order of actions, TCP chains.
import assert from 'node:assert/strict';
import { describe, it } from 'node:test';
import { fromJson } from '@bufbuild/protobuf';
import { authorize, compilePolicy, parsePeer } from '../../../../common/l7/authorization.ts';
import type { AuthzInput, CompiledPolicy } from '../../../../common/l7/authorization.ts';
import { AuthorizationPolicySchema } from '../../../../common/l7/gen/l7_pb.ts';
import { parseIp } from '../../../../common/workload/ip.ts';

type Json = Parameters<typeof fromJson>[1];

function policy(action: string, rules: Json[], more: Record<string, Json> = {}): CompiledPolicy {
  return compilePolicy(
    fromJson(AuthorizationPolicySchema, { namespace: 'ns', name: action, action, rules, ...more }),
  );
}

const HTTP = {
  method: 'GET',
  authority: 'Web.Example:80',
  path: '/a/b',
  headers: [['x-team', 'red']] as [string, string][],
};

function input(more: Partial<AuthzInput> = {}): AuthzInput {
  return {
    peer: parsePeer('spiffe://cluster.local/ns/shop/sa/cart'),
    sourceIp: parseIp('10.1.2.3'),
    remoteIp: parseIp('192.0.2.1'),
    destinationIp: parseIp('10.96.0.5'),
    destinationPort: 80,
    http: HTTP,
    ...more,
  };
}

describe('authorization rules', () => {
  const rows: [name: string, rule: Json, expected: boolean][] = [
    ['an empty rule', {}, true],
    ['a principal', { from: [{ principals: [{ exact: 'cluster.local/ns/shop/sa/cart' }] }] }, true],
    ['a principal suffix', { from: [{ principals: [{ suffix: '/sa/cart' }] }] }, true],
    [
      'another principal',
      { from: [{ principals: [{ exact: 'cluster.local/ns/shop/sa/x' }] }] },
      false,
    ],
    ['any principal', { from: [{ principals: [{ present: true }] }] }, true],
    ['an excluded principal', { from: [{ notPrincipals: [{ suffix: 'cart' }] }] }, false],
    ['a namespace', { from: [{ namespaces: [{ exact: 'shop' }] }] }, true],
    ['a service account', { from: [{ serviceAccounts: ['shop/cart'] }] }, true],
    ['an excluded service account', { from: [{ notServiceAccounts: ['shop/cart'] }] }, false],
    ['a source block', { from: [{ ipBlocks: ['10.1.0.0/16'] }] }, true],
    ['another source block', { from: [{ ipBlocks: ['10.2.0.0/16', 'fd00::/8'] }] }, false],
    ['a remote block', { from: [{ remoteIpBlocks: ['192.0.2.0/24'] }] }, true],
    [
      'one of several sources',
      { from: [{ namespaces: [{ exact: 'x' }] }, { namespaces: [{ exact: 'shop' }] }] },
      true,
    ],
    ['a host in another case', { to: [{ hosts: [{ exact: 'web.example:80' }] }] }, true],
    ['a method', { to: [{ methods: [{ exact: 'GET' }] }] }, true],
    ['an excluded method', { to: [{ notMethods: [{ exact: 'GET' }] }] }, false],
    ['a path prefix', { to: [{ paths: [{ prefix: '/a' }] }] }, true],
    ['an excluded path', { to: [{ notPaths: [{ prefix: '/a' }] }] }, false],
    ['a port', { to: [{ ports: [80] }] }, true],
    ['another port', { to: [{ ports: [81] }] }, false],
    [
      'parts of one operation together',
      { to: [{ methods: [{ exact: 'GET' }], paths: [{ exact: '/x' }] }] },
      false,
    ],
    [
      'source and operation together',
      { from: [{ namespaces: [{ exact: 'shop' }] }], to: [{ ports: [81] }] },
      false,
    ],
    [
      'a header condition',
      { when: [{ key: 'request.headers[X-Team]', values: [{ exact: 'red' }] }] },
      true,
    ],
    [
      'an absent header',
      { when: [{ key: 'request.headers[y]', values: [{ exact: 'red' }] }] },
      false,
    ],
    [
      'an absent header that must not be',
      { when: [{ key: 'request.headers[y]', notValues: [{ exact: 'red' }] }] },
      true,
    ],
    [
      'a namespace condition',
      { when: [{ key: 'source.namespace', values: [{ exact: 'shop' }] }] },
      true,
    ],
    [
      'a destination port condition',
      { when: [{ key: 'destination.port', values: [{ exact: '80' }] }] },
      true,
    ],
    ['an address condition', { when: [{ key: 'source.ip', ipBlocks: ['10.0.0.0/8'] }] }, true],
    [
      'a request principal without a token',
      { from: [{ requestPrincipals: [{ present: true }] }] },
      false,
    ],
    [
      'an unwanted request principal without a token',
      { from: [{ notRequestPrincipals: [{ present: true }] }] },
      true,
    ],
  ];
  for (const [name, rule, expected] of rows) {
    it(`${name}: ${expected ? 'matches' : 'does not match'}`, () => {
      assert.equal(authorize([policy('ALLOW', [rule])], input()).isAllowed, expected);
    });
  }

  it('an unknown condition is refused with its place', () => {
    assert.throws(
      () => policy('ALLOW', [{ when: [{ key: 'no.such' }] }]),
      /rules\[0\]: when\[0\]: key: unknown condition "no.such"/,
    );
    assert.throws(
      () => policy('ALLOW', [{ from: [{ ipBlocks: ['10.0.0.0/40'] }] }]),
      /address block/,
    );
  });
});

describe('authorization order', () => {
  const all: Json = {};
  const none: Json = { to: [{ ports: [1] }] };
  const rows: [name: string, policies: CompiledPolicy[], allowed: boolean, by: string][] = [
    ['nothing allows', [], true, ''],
    ['an allow policy without rules denies', [policy('ALLOW', [])], false, ''],
    ['a matching allow', [policy('ALLOW', [all])], true, 'ns/ALLOW'],
    ['an allow that does not match', [policy('ALLOW', [none])], false, ''],
    ['a deny beats an allow', [policy('ALLOW', [all]), policy('DENY', [all])], false, 'ns/DENY'],
    ['a deny that does not match', [policy('DENY', [none])], true, ''],
    ['audit only marks', [policy('AUDIT', [all])], true, ''],
    ['dry run does not deny', [policy('DENY', [all], { dryRun: true })], true, ''],
  ];
  for (const [name, policies, allowed, by] of rows) {
    it(name, () => {
      const verdict = authorize(policies, input());
      assert.equal(verdict.isAllowed, allowed);
      assert.equal(verdict.policy, by);
    });
  }

  it('names dry-run policies that would have denied', () => {
    const verdict = authorize([policy('DENY', [all], { dryRun: true })], input());
    assert.deepEqual(verdict.dryRun, ['ns/DENY']);
  });
});

describe('authorization of TCP', () => {
  const tcp = input({ http: undefined });
  const paths: Json = { to: [{ paths: [{ prefix: '/x' }], ports: [80] }] };

  it('never allows by a rule that needs HTTP', () => {
    assert.equal(authorize([policy('ALLOW', [paths])], tcp).isAllowed, false);
  });

  it('denies by what is left of such a rule', () => {
    assert.equal(authorize([policy('DENY', [paths])], tcp).isAllowed, false);
    assert.equal(
      authorize([policy('DENY', [{ to: [{ paths: [{ prefix: '/x' }], ports: [81] }] }])], tcp)
        .isAllowed,
      true,
    );
  });

  it('has no peer without an identity', () => {
    const stranger = input({ peer: parsePeer(undefined) });
    const any = policy('ALLOW', [{ from: [{ principals: [{ present: true }] }] }]);
    assert.equal(authorize([any], stranger).isAllowed, false);
  });
});
