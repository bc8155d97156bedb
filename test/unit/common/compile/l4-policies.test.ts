// AuthorizationPolicy and PeerAuthentication at node proxies: what a connection is answered, by compiling the policy
// and evaluating it as a node proxy does.
import assert from 'node:assert/strict';
import { describe, it } from 'node:test';
import { toBinary } from '@bufbuild/protobuf';
import { compile } from '../../../../common/compile/compile.ts';
import type {
  CompileInput,
  CompileOutput,
  ConfigObject,
} from '../../../../common/compile/types.ts';
import { decodeAuthorization } from '../../../../common/policy/decode.ts';
import { evaluatePolicies, policiesFor } from '../../../../common/policy/evaluate.ts';
import { AuthorizationSchema, Scope } from '../../../../common/policy/gen/authorization_pb.ts';
import { MESH, makeConfig, makePod } from '../../../support/kube-objects.ts';

interface Call {
  readonly from?: string | undefined;
  readonly ip?: readonly number[];
  readonly port?: number;
}

const CLIENT = 'spiffe://cluster.local/ns/web/sa/front';
const pod = makePod('db', { ip: '10.0.0.9', labels: { app: 'db' } });

function isAllowed(output: CompileOutput, call: Call): boolean {
  const policies = [...output.authorizations].map(([key, policy]) =>
    decodeAuthorization(toBinary(AuthorizationSchema, policy), key),
  );
  const type = output.addresses.get('Kubernetes//Pod/app/db')?.type;
  assert.ok(type?.case === 'workload');
  const { namespace, authorizationPolicies } = type.value;
  const all = new Map(policies.map((policy) => [policy.key, policy]));
  const inForce = policiesFor(all, { namespace, authorizationPolicies });
  assert.deepEqual(inForce.missing, []);
  const facts = {
    sourceIdentity: 'from' in call ? call.from : CLIENT,
    sourceIp: Uint8Array.from(call.ip ?? [10, 0, 0, 1]),
    destinationIp: Uint8Array.of(10, 0, 0, 9),
    destinationPort: call.port ?? 80,
  };
  return evaluatePolicies(inForce.policies, facts).isAllowed;
}

const run = (input: Partial<CompileInput>): CompileOutput =>
  compile({ mesh: MESH, pods: [pod], ...input });
const policies = (...specs: readonly unknown[]): Partial<CompileInput> => ({
  authorizationPolicies: specs.map((spec, index) => makeConfig(`p${index}`, spec)),
});
const source = (value: object): object => ({ rules: [{ from: [{ source: value }] }] });
const operation = (value: object): object => ({ rules: [{ to: [{ operation: value }] }] });
const when = (key: string, ...values: string[]): object => ({
  rules: [{ when: [{ key, values }] }],
});
const deny = (spec: object): object => ({ action: 'DENY', ...spec });

describe('authorization policies decide connections', () => {
  const rows: readonly (readonly [string, object, Call, boolean])[] = [
    ['an empty ALLOW allows nothing', {}, {}, false],
    ['a rule for everything allows', { rules: [{}] }, {}, true],
    ['a principal', source({ principals: ['cluster.local/ns/web/sa/front'] }), {}, true],
    ['another principal', source({ principals: ['cluster.local/ns/web/sa/back'] }), {}, false],
    ['a principal prefix', source({ principals: ['cluster.local/ns/web/*'] }), {}, true],
    ['a principal suffix', source({ principals: ['*/sa/front'] }), {}, true],
    ['any principal', source({ principals: ['*'] }), {}, true],
    ['any principal, plaintext', source({ principals: ['*'] }), { from: undefined }, false],
    ['not a principal', source({ notPrincipals: ['*/sa/front'] }), {}, false],
    ['a namespace', source({ namespaces: ['web'] }), {}, true],
    ['another namespace', source({ namespaces: ['other'] }), {}, false],
    ['a service account', source({ serviceAccounts: ['web/front'] }), {}, true],
    ['a bare service account is of the policy', source({ serviceAccounts: ['front'] }), {}, false],
    ['an address block', source({ ipBlocks: ['10.0.0.0/8'] }), {}, true],
    ['outside an address block', source({ notIpBlocks: ['10.0.0.0/8'] }), {}, false],
    ['a trust domain', source({ trustDomains: ['cluster.local'] }), {}, true],
    ['another trust domain', source({ trustDomains: ['cluster'] }), {}, false],
    ['not a trust domain', source({ notTrustDomains: ['cluster.local'] }), {}, false],
    [
      'a trust domain and a namespace both hold',
      source({ trustDomains: ['cluster.local'], namespaces: ['other'] }),
      {},
      false,
    ],
    ['a port', operation({ ports: ['80', '81'] }), {}, true],
    ['another port', operation({ ports: ['81'] }), {}, false],
    ['not a port', operation({ notPorts: ['80'] }), {}, false],
    ['when source.namespace', when('source.namespace', 'web'), {}, true],
    ['when destination.port', when('destination.port', '81'), {}, false],
    ['when source.serviceAccount', when('source.serviceAccount', 'web/front'), {}, true],
    ['when source.trustDomain', when('source.trustDomain', 'elsewhere'), {}, false],
    [
      'from, to and when are all needed',
      {
        rules: [
          {
            from: [{ source: { namespaces: ['web'] } }],
            to: [{ operation: { ports: ['81'] } }],
            when: [{ key: 'source.ip', values: ['10.0.0.1'] }],
          },
        ],
      },
      {},
      false,
    ],
    [
      'one of several sources is enough',
      {
        rules: [{ from: [{ source: { namespaces: ['x'] } }, { source: { namespaces: ['web'] } }] }],
      },
      {},
      true,
    ],
    ['a deny', deny(source({ namespaces: ['web'] })), {}, false],
    ['a deny of others', deny(source({ namespaces: ['x'] })), {}, true],
    // L7 content.
    ['ALLOW with a method allows nothing', operation({ methods: ['GET'] }), {}, false],
    ['ALLOW with a path beside ports', operation({ ports: ['80'], paths: ['/x'] }), {}, false],
    ['DENY with a method denies all', deny(operation({ methods: ['GET'] })), {}, false],
    ['DENY with path and port', deny(operation({ ports: ['81'], paths: ['/'] })), {}, true],
    ['DENY with a header condition', deny(when('request.headers[x]', 'y')), {}, false],
    // Mistakes never let more through.
    ['ALLOW with a bad block', source({ ipBlocks: ['10.0.0.0/99'] }), {}, false],
    ['ALLOW with an unknown field', source({ namespaces: ['web'], colour: ['x'] }), {}, false],
    ['DENY with a bad port', deny(operation({ ports: ['99999'] })), {}, false],
    ['ALLOW with a null rule', { rules: [null, {}] }, {}, false],
  ];
  for (const [name, spec, call, expected] of rows) {
    it(`${name}: ${expected ? 'allowed' : 'refused'}`, () => {
      assert.equal(isAllowed(run(policies(spec)), call), expected);
    });
  }

  it('deny wins over allow', () => {
    assert.equal(isAllowed(run(policies({ rules: [{}] }, deny({ rules: [{}] }))), {}), false);
  });
});

describe('scope', () => {
  const scopeOf = (spec: object, namespace: string): Scope | undefined => {
    const policy = makeConfig('p', spec, { namespace });
    return run({ authorizationPolicies: [policy] }).authorizations.get(`${namespace}/p`)?.scope;
  };
  const selector = { matchLabels: { app: 'db' } };

  it('is the namespace, the mesh from the root namespace, or the selected workloads', () => {
    assert.equal(scopeOf({}, 'app'), Scope.NAMESPACE);
    assert.equal(scopeOf({}, 'istio-system'), Scope.GLOBAL);
    assert.equal(scopeOf({ selector }, 'app'), Scope.WORKLOAD_SELECTOR);
  });

  it('selector policies are listed by the workloads of their namespace, or of all from the root', () => {
    const list = (namespace: string, labels: object = selector): readonly string[] => {
      const policy = makeConfig('p', { selector: labels }, { namespace });
      const { addresses } = run({ authorizationPolicies: [policy] });
      const type = addresses.get('Kubernetes//Pod/app/db')?.type;
      return type?.case === 'workload' ? type.value.authorizationPolicies : [];
    };
    assert.deepEqual(list('app'), ['app/p']);
    assert.deepEqual(list('istio-system'), ['istio-system/p']);
    assert.deepEqual(list('other'), []);
    assert.deepEqual(list('app', { matchLabels: { app: 'x' } }), []);
  });

  it('with targetRefs nothing is sent to node proxies', () => {
    const spec = { targetRefs: [{ kind: 'Service', name: 'db' }], rules: [{}] };
    assert.equal(run(policies(spec)).authorizations.size, 0);
  });
});

describe('verdicts', () => {
  const reasons = (spec: object): string[] =>
    run(policies(spec)).verdicts.map(({ field, enforcedAt, reason }) =>
      [field, enforcedAt, reason].join(' '),
    );

  it('an L4 policy is enforced at nodes', () => {
    assert.deepEqual(reasons({ rules: [{}] }), ['spec node Accepted']);
  });

  it('an L7 part of a selector policy is enforced nowhere, and says so', () => {
    assert.deepEqual(reasons(operation({ methods: ['GET'] })), [
      'spec node Accepted',
      'spec.rules[0].to[0].operation.methods nowhere RequiresWaypoint',
    ]);
  });

  it('CUSTOM and AUDIT are enforced nowhere', () => {
    for (const action of ['CUSTOM', 'AUDIT']) {
      assert.deepEqual(reasons({ action, rules: [{}] }), ['spec.action nowhere UnsupportedValue']);
    }
  });

  it('a selector without workloads is reported', () => {
    assert.deepEqual(reasons({ selector: { matchLabels: { app: 'x' } } }), [
      'spec.selector nowhere NoWorkloads',
    ]);
  });
});

describe('peer authentication', () => {
  const pa = (
    name: string,
    spec: object,
    namespace = 'app',
    created = '2026-01-01',
  ): ConfigObject =>
    makeConfig(name, spec, { namespace, creationTimestamp: `${created}T00:00:00Z` });
  const strict = { mtls: { mode: 'STRICT' } };
  const permissive = { mtls: { mode: 'PERMISSIVE' } };
  const selector = { matchLabels: { app: 'db' } };
  const plaintext = { from: undefined };
  const ports = (mode: string): object => ({ portLevelMtls: { 80: { mode } } });

  const rows: readonly (readonly [string, ConfigObject[], Call, boolean])[] = [
    ['nothing said: plaintext is accepted', [], plaintext, true],
    ['STRICT in the namespace', [pa('a', strict)], plaintext, false],
    ['STRICT accepts mutual TLS', [pa('a', strict)], {}, true],
    ['STRICT in the root namespace', [pa('a', strict, 'istio-system')], plaintext, false],
    ['STRICT in another namespace', [pa('a', strict, 'other')], plaintext, true],
    [
      'the namespace overrides the mesh',
      [pa('a', strict, 'istio-system'), pa('b', permissive)],
      plaintext,
      true,
    ],
    [
      'UNSET inherits',
      [pa('a', strict, 'istio-system'), pa('b', { mtls: { mode: 'UNSET' } })],
      plaintext,
      false,
    ],
    [
      'the workload overrides the namespace',
      [pa('a', strict), pa('b', { selector, ...permissive })],
      plaintext,
      true,
    ],
    [
      'the oldest wins',
      [pa('a', strict, 'app', '2026-02-01'), pa('b', permissive)],
      plaintext,
      true,
    ],
    ['DISABLE is permissive', [pa('a', { mtls: { mode: 'DISABLE' } })], plaintext, true],
    [
      'a STRICT port of a permissive workload',
      [pa('a', { selector, ...permissive, ...ports('STRICT') })],
      { ...plaintext, port: 80 },
      false,
    ],
    [
      'another port of a permissive workload',
      [pa('a', { selector, ...permissive, ...ports('STRICT') })],
      { ...plaintext, port: 81 },
      true,
    ],
    [
      'a permissive port of a STRICT workload',
      [pa('a', { selector, ...strict, ...ports('PERMISSIVE') })],
      { ...plaintext, port: 80 },
      true,
    ],
    [
      'another port of a STRICT workload',
      [pa('a', { selector, ...strict, ...ports('DISABLE') })],
      { ...plaintext, port: 81 },
      false,
    ],
    [
      'ports over an inherited STRICT',
      [pa('a', strict), pa('b', { selector, ...ports('PERMISSIVE') })],
      { ...plaintext, port: 80 },
      true,
    ],
    [
      'a selector in the root namespace does nothing',
      [pa('a', { selector, ...strict }, 'istio-system')],
      plaintext,
      true,
    ],
  ];
  for (const [name, peerAuthentications, call, expected] of rows) {
    it(`${name}: ${expected ? 'allowed' : 'refused'}`, () => {
      assert.equal(isAllowed(run({ peerAuthentications }), call), expected);
    });
  }
});
