// DestinationRules on a waypoint's clusters: which rule applies, what is merged, what is said of the rest.
import assert from 'node:assert/strict';
import { describe, it } from 'node:test';
import { compile } from '../../../../common/compile/compile.ts';
import type { CompileInput, ConfigObject } from '../../../../common/compile/types.ts';
import { Cluster_LbPolicy, type Cluster } from '../../../../common/l7/gen/l7_pb.ts';
import { makeConfig, meshWithWaypoint } from '../../../support/kube-objects.ts';

const { LEAST_REQUEST, RANDOM, ROUND_ROBIN } = Cluster_LbPolicy;
const HOST = 'reviews.app.svc.cluster.local';
const lb = (simple: string): object => ({ loadBalancer: { simple } });

function rule(name: string, spec: object, namespace = 'app', created = '2026-01-01'): ConfigObject {
  return makeConfig(name, { host: HOST, ...spec }, { namespace, creationTimestamp: created });
}

function clusterOf(destinationRules: ConfigObject[], subset = ''): Cluster | undefined {
  const route = [{ destination: { host: 'reviews', ...(subset === '' ? {} : { subset }) } }];
  const virtualServices = [makeConfig('v', { hosts: ['reviews'], http: [{ route }] })];
  const output = compile(meshWithWaypoint({ destinationRules, virtualServices }));
  return output.waypoints.get('app/waypoint')?.clusters.get(`outbound|80|${subset}|${HOST}`);
}

function verdictsOf(destinationRules: ConfigObject[], extra: Partial<CompileInput> = {}): string[] {
  const { verdicts } = compile(meshWithWaypoint({ destinationRules, ...extra }));
  return verdicts
    .filter(({ kind }) => kind === 'DestinationRule')
    .map(({ name, field, enforcedAt, reason }) => [name, field, enforcedAt, reason].join(' '));
}

describe('the rule that applies', () => {
  const policy = (simple: string): object => ({ trafficPolicy: lb(simple) });
  const rows: readonly (readonly [string, ConfigObject[], Cluster_LbPolicy])[] = [
    ['none: least request', [], LEAST_REQUEST],
    ['its own', [rule('a', policy('RANDOM'))], RANDOM],
    [
      'exact before wildcard',
      [
        rule('a', { host: '*.app.svc.cluster.local', ...policy('ROUND_ROBIN') }),
        rule('b', policy('RANDOM')),
      ],
      RANDOM,
    ],
    ['the root namespace last', [rule('a', policy('RANDOM'), 'istio-system')], RANDOM],
    [
      'its namespace before the root namespace',
      [rule('a', policy('RANDOM'), 'istio-system'), rule('b', policy('ROUND_ROBIN'))],
      ROUND_ROBIN,
    ],
    ['not of another namespace', [rule('a', policy('RANDOM'), 'other')], LEAST_REQUEST],
    ['not when hidden', [rule('a', { ...policy('RANDOM'), exportTo: ['x'] })], LEAST_REQUEST],
    [
      'the oldest policy of several',
      [
        rule('a', policy('RANDOM'), 'app', '2026-02-01'),
        rule('b', policy('ROUND_ROBIN'), 'app', '2026-01-01'),
      ],
      ROUND_ROBIN,
    ],
    [
      'a port by itself',
      [
        rule('a', {
          trafficPolicy: {
            ...lb('RANDOM'),
            portLevelSettings: [{ port: { number: 80 }, ...lb('ROUND_ROBIN') }],
          },
        }),
      ],
      ROUND_ROBIN,
    ],
  ];
  for (const [name, rules, expected] of rows) {
    it(name, () => assert.equal(clusterOf(rules)?.lbPolicy, expected));
  }
});

describe('traffic policy', () => {
  it('sets pool limits and outlier detection with its defaults', () => {
    const trafficPolicy = {
      connectionPool: {
        tcp: { maxConnections: 5, connectTimeout: '2s' },
        http: { http1MaxPendingRequests: 6, http2MaxRequests: 7, maxRequestsPerConnection: 8 },
      },
      outlierDetection: { consecutiveGatewayErrors: 3, interval: '1s' },
    };
    const cluster = clusterOf([rule('a', { trafficPolicy })]);
    assert.equal(cluster?.maxConnections, 5);
    assert.equal(cluster.connectTimeoutMs, 2000);
    assert.equal(cluster.maxPendingRequests, 6);
    assert.equal(cluster.maxRequests, 7);
    assert.equal(cluster.maxRequestsPerConnection, 8);
    assert.equal(cluster.outlierDetection?.consecutive5xx, 5);
    assert.equal(cluster.outlierDetection.consecutiveGatewayErrors, 3);
    assert.equal(cluster.outlierDetection.intervalMs, 1000);
    assert.equal(cluster.outlierDetection.baseEjectionMs, 30_000);
    assert.equal(cluster.outlierDetection.maxEjectionPercent, 10);
  });

  it('of a subset overrides that of the rule part by part', () => {
    const spec = {
      trafficPolicy: { ...lb('RANDOM'), connectionPool: { tcp: { maxConnections: 5 } } },
      subsets: [{ name: 'v1', labels: { version: 'v1' }, trafficPolicy: lb('ROUND_ROBIN') }],
    };
    const cluster = clusterOf([rule('a', spec)], 'v1');
    assert.equal(cluster?.lbPolicy, ROUND_ROBIN);
    assert.equal(cluster.maxConnections, 5);
  });

  it('can upgrade to HTTP/2', () => {
    const trafficPolicy = { connectionPool: { http: { h2UpgradePolicy: 'UPGRADE' } } };
    assert.equal(clusterOf([rule('a', { trafficPolicy })])?.http2, true);
  });

  it('of several rules of a host the subsets are joined', () => {
    const subsets = (name: string): object => ({ subsets: [{ name, labels: { version: name } }] });
    const rules = [rule('a', subsets('v1')), rule('b', subsets('v2'))];
    assert.ok(clusterOf(rules, 'v1'));
    assert.ok(clusterOf(rules, 'v2'));
  });
});

describe('verdicts', () => {
  const bare = { namespaces: [{ metadata: { name: 'app' } }] };
  const rows: readonly (readonly [string, ConfigObject[], Partial<CompileInput>, string])[] = [
    ['executed', [rule('a', {})], {}, 'a spec waypoint Accepted'],
    ['no waypoint', [rule('a', {})], bare, 'a spec.host nowhere NoWaypoint'],
    ['unknown host', [rule('a', { host: 'x' })], {}, 'a spec.host nowhere HostNotFound'],
    ['another namespace', [rule('a', {}, 'other')], {}, 'a spec.host nowhere Shadowed'],
    [
      'TLS origination',
      [rule('a', { trafficPolicy: { tls: { mode: 'SIMPLE' } } })],
      {},
      'a spec.trafficPolicy.tls.mode nowhere UnsupportedValue',
    ],
  ];
  for (const [name, rules, extra, expected] of rows) {
    it(`${name}: ${expected}`, () => {
      assert.ok(verdictsOf(rules, extra).includes(expected), verdictsOf(rules, extra).join('\n'));
    });
  }

  it('ISTIO_MUTUAL is what the mesh does anyway', () => {
    const rules = [rule('a', { trafficPolicy: { tls: { mode: 'ISTIO_MUTUAL' } } })];
    assert.deepEqual(verdictsOf(rules), ['a spec waypoint Accepted']);
  });

  it('a subset in use that selects nothing is reported', () => {
    const route = [{ destination: { host: 'reviews', subset: 'v9' } }];
    const virtualServices = [makeConfig('v', { hosts: ['reviews'], http: [{ route }] })];
    const rules = [rule('a', { subsets: [{ name: 'v9', labels: { version: 'v9' } }] })];
    assert.ok(
      verdictsOf(rules, { virtualServices }).includes('a spec.subsets[0] nowhere NoWorkloads'),
    );
  });
});
