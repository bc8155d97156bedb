// AuthorizationPolicies with targetRefs: what a request is answered at the waypoint, and where each target binds.
import assert from 'node:assert/strict';
import { describe, it } from 'node:test';
import { compile } from '../../../../common/compile/compile.ts';
import type { CompileInput } from '../../../../common/compile/types.ts';
import { authorize, compilePolicy, parsePeer } from '../../../../common/l7/authorization.ts';
import { makeConfig, makeWaypoint, MESH, meshWithWaypoint } from '../../../support/kube-objects.ts';

interface Call {
  readonly from?: string;
  readonly method?: string;
  readonly path?: string;
  readonly headers?: readonly [string, string][];
  readonly service?: string;
  readonly isTcp?: boolean;
}

const onReviews = { targetRefs: [{ kind: 'Service', group: '', name: 'reviews' }] };
const CLIENT = 'spiffe://cluster.local/ns/web/sa/front';

function isAllowed(
  specs: readonly object[],
  call: Call,
  extra: Partial<CompileInput> = {},
): boolean {
  const authorizationPolicies = specs.map((spec, index) => makeConfig(`p${index}`, spec));
  const { waypoints } = compile(meshWithWaypoint({ authorizationPolicies, ...extra }));
  const bound = [...(waypoints.get('app/waypoint')?.authorizationPolicies.values() ?? [])];
  const service = `app/${call.service ?? 'reviews'}.app.svc.cluster.local`;
  const policies = bound
    .map(compilePolicy)
    .filter((policy) => policy.isWholeGateway || policy.services.includes(service));
  const { method = 'GET', path = '/', headers = [] } = call;
  return authorize(policies, {
    peer: parsePeer(call.from ?? CLIENT),
    sourceIp: Uint8Array.of(10, 0, 0, 1),
    remoteIp: Uint8Array.of(10, 0, 0, 1),
    destinationIp: undefined,
    destinationPort: 80,
    http: call.isTcp === true ? undefined : { method, authority: 'reviews', path, headers },
  }).isAllowed;
}

describe('requests', () => {
  const operation = (value: object): object => ({ rules: [{ to: [{ operation: value }] }] });
  const source = (value: object): object => ({ rules: [{ from: [{ source: value }] }] });
  const deny = (spec: object): object => ({ action: 'DENY', ...spec });
  const rows: readonly (readonly [string, object, Call, boolean])[] = [
    ['a method', operation({ methods: ['GET'] }), {}, true],
    ['another method', operation({ methods: ['GET'] }), { method: 'POST' }, false],
    ['a path prefix', operation({ paths: ['/api/*'] }), { path: '/api/v1' }, true],
    ['a path template', operation({ paths: ['/api/{*}/x'] }), { path: '/api/1/x' }, true],
    [
      'a path template, one segment',
      operation({ paths: ['/api/{*}'] }),
      { path: '/api/1/2' },
      false,
    ],
    ['a denied path', deny(operation({ paths: ['/admin*'] })), { path: '/admin' }, false],
    ['beside a denied path', deny(operation({ paths: ['/admin*'] })), { path: '/' }, true],
    ['a principal', source({ principals: ['cluster.local/ns/web/sa/front'] }), {}, true],
    ['a service account', source({ serviceAccounts: ['web/front'] }), {}, true],
    ['another service account', source({ serviceAccounts: ['front'] }), {}, false],
    ['a trust domain', source({ trustDomains: ['cluster.local'] }), {}, true],
    ['another trust domain', source({ trustDomains: ['elsewhere'] }), {}, false],
    [
      'a header',
      { rules: [{ when: [{ key: 'request.headers[x-a]', values: ['1'] }] }] },
      { headers: [['x-a', '1']] },
      true,
    ],
    ['an empty ALLOW', {}, {}, false],
    ['HTTP rules never allow TCP', operation({ methods: ['GET'] }), { isTcp: true }, false],
    ['HTTP rules deny TCP', deny(operation({ methods: ['GET'] })), { isTcp: true }, false],
    ['another service is not affected', {}, { service: 'ratings' }, true],
    ['a mistake in an ALLOW rule', operation({ ports: ['99999'] }), {}, false],
  ];
  for (const [name, spec, call, expected] of rows) {
    it(`${name}: ${expected ? 'allowed' : 'refused'}`, () => {
      assert.equal(isAllowed([{ ...onReviews, ...spec }], call), expected);
    });
  }

  it('of another trust domain match policies written for cluster.local', () => {
    const spec = { ...onReviews, ...source({ principals: ['cluster.local/ns/web/*'] }) };
    const call = { from: 'spiffe://td/ns/web/sa/front' };
    assert.equal(isAllowed([spec], call, { mesh: { ...MESH, trustDomain: 'td' } }), true);
  });

  it('of a trust domain with aliases mean all of them, and no other', () => {
    const mesh = { ...MESH, trustDomain: 'td', trustDomainAliases: ['old'] };
    const spec = { ...onReviews, ...source({ principals: ['td/ns/web/sa/front'] }) };
    const from = (domain: string): object => ({ from: `spiffe://${domain}/ns/web/sa/front` });
    const answers = ['td', 'old', 'cluster.local'].map((one) =>
      isAllowed([spec], from(one), { mesh }),
    );
    assert.deepEqual(answers, [true, true, false]);
  });
});

describe('targets', () => {
  const outcome = (
    targetRef: object,
    extra: Partial<CompileInput> = {},
    namespace = 'app',
  ): string => {
    const policy = makeConfig('p', { targetRefs: [targetRef], rules: [{}] }, { namespace });
    const output = compile(meshWithWaypoint({ authorizationPolicies: [policy], ...extra }));
    const [verdict] = output.verdicts.filter(({ kind }) => kind === 'AuthorizationPolicy');
    return [verdict?.enforcedAt, verdict?.reason].join(' ');
  };
  const gateway = (kind: string, name: string): object => ({
    group: 'gateway.networking.k8s.io',
    kind,
    name,
  });
  const service = { group: '', kind: 'Service', name: 'reviews' };
  const bare = { namespaces: [{ metadata: { name: 'app' } }] };
  const rows: readonly (readonly [string, string, string])[] = [
    ['a Service', outcome(service), 'waypoint Accepted'],
    ['a Service without waypoint', outcome(service, bare), 'nowhere AncestorNotBound'],
    ['no such Service', outcome({ ...service, name: 'x' }), 'nowhere TargetNotFound'],
    ['a Gateway', outcome(gateway('Gateway', 'waypoint')), 'waypoint Accepted'],
    ['no such Gateway', outcome(gateway('Gateway', 'x')), 'nowhere TargetNotFound'],
    [
      'a Gateway that is not ours',
      outcome(gateway('Gateway', 'waypoint'), {
        gateways: [makeWaypoint('waypoint', { className: 'other' })],
      }),
      'nowhere GatewayNotServed',
    ],
    [
      'a GatewayClass from the root namespace',
      outcome(gateway('GatewayClass', 'istio-waypoint'), {}, 'istio-system'),
      'waypoint Accepted',
    ],
    [
      'a GatewayClass from elsewhere',
      outcome(gateway('GatewayClass', 'istio-waypoint')),
      'nowhere ForeignNamespace',
    ],
    ['another kind', outcome({ group: 'apps', kind: 'Deployment', name: 'x' }), 'nowhere Invalid'],
  ];
  for (const [name, actual, expected] of rows) {
    it(`${name}: ${expected}`, () => assert.equal(actual, expected));
  }

  it('a policy for the whole waypoint applies to every service', () => {
    const spec = { targetRefs: [gateway('Gateway', 'waypoint')] };
    assert.equal(isAllowed([spec], { service: 'ratings' }), false);
  });

  it('one policy can have several targets', () => {
    const spec = { targetRefs: [service, { ...service, name: 'ratings' }] };
    assert.equal(isAllowed([spec], { service: 'ratings' }), false);
    assert.equal(isAllowed([spec], { service: 'reviews' }), false);
  });
});
