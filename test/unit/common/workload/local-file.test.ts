// The local file: defaults, the tagged form of string matches, and what it is refused for. That every
// key of an object is read is shown by test/unit/ztunnel/admin/config-dump.test.ts, which sends dumps back.
import assert from 'node:assert/strict';
import { describe, it } from 'node:test';
import { parseLocalState } from '../../../../common/workload/local-file.ts';

const POLICY = 'policies: [{name: p, namespace: n, scope: Global, action: Allow, rules: [[[';
const matchOf = (text: string): object =>
  parseLocalState(`${POLICY}${text}]]]}]`).policies[0]?.rules[0]?.[0]?.[0] ?? {};

describe('local file', () => {
  it('an empty one holds nothing', () =>
    assert.deepEqual(parseLocalState(''), { workloads: [], services: [], policies: [] }));

  it('a default network is written as nothing before the slash', () => {
    const { services } = parseLocalState(
      'services: [{name: a, namespace: n, hostname: h, vips: [/127.10.0.1]}]',
    );
    assert.deepEqual(services[0]?.vips, [{ network: '', ip: '127.10.0.1' }]);
  });

  it('a gateway is an address, or else a name', () => {
    const destinations = ['net/10.0.0.1', 'ns/host.example.com'];
    const found = destinations.map(
      (destination) =>
        parseLocalState(
          `workloads: [{uid: a, waypoint: {destination: ${destination}, hboneMtlsPort: 15009}}]`,
        ).workloads[0]?.waypoint,
    );
    assert.deepEqual(found, [
      { kind: 'address', network: 'net', ip: '10.0.0.1', port: 15009 },
      { kind: 'hostname', namespace: 'ns', hostname: 'host.example.com', port: 15009 },
    ]);
  });

  it('string matches are tagged', () => {
    const match = matchOf(
      '{namespaces: [!Exact a, !Prefix b, !Suffix c], principals: [!Presence []], notSourceIps: [10.0.0.0/8, 10.0.0.1]}',
    );
    assert.partialDeepStrictEqual(match, {
      namespaces: [
        { kind: 'exact', value: 'a' },
        { kind: 'prefix', value: 'b' },
        { kind: 'suffix', value: 'c' },
      ],
      principals: [{ kind: 'presence' }],
      notSourceIps: [
        { bytes: Uint8Array.of(10, 0, 0, 0), length: 8 },
        { bytes: Uint8Array.of(10, 0, 0, 1), length: 32 },
      ],
    });
  });

  it('a workload’s services have its ports', () => {
    const { workloads } = parseLocalState(
      'workloads: [{uid: a, services: {ns/h: {80: 8080, 90: 0}, ns/i: {}}}]',
    );
    assert.deepEqual(workloads[0]?.services, {
      'ns/h': [
        { servicePort: 80, targetPort: 8080 },
        { servicePort: 90, targetPort: 0 },
      ],
      'ns/i': [],
    });
  });

  it('what is not said is as plain as it can be', () => {
    const { workloads, services, policies } = parseLocalState(
      'workloads: [{uid: a}]\nservices: [{name: b}]\npolicies: [{name: c, namespace: n}]',
    );
    assert.partialDeepStrictEqual(workloads[0], {
      ...{ ips: [], services: {}, protocol: 'TCP', capacity: 1, isHealthy: true },
      ...{ trustDomain: 'cluster.local', serviceAccount: 'default', clusterId: 'Kubernetes' },
    });
    assert.partialDeepStrictEqual(services[0], { vips: [], ports: [], visibility: 'PUBLIC' });
    assert.partialDeepStrictEqual(policies[0], {
      ...{ scope: 'NAMESPACE', action: 'ALLOW', isDryRun: false, rules: [] },
    });
  });

  const refused: readonly [claim: string, text: string, reason: RegExp][] = [
    ['an unknown key', 'workloads: [{uid: a, nam: b}]', /nam/],
    ['an unknown list', 'pods: []', /pods/],
    ['an address that is none', 'workloads: [{uid: a, workloadIps: [10.0.0]}]', /10\.0\.0/],
    ['a protocol that is none', 'workloads: [{uid: a, protocol: UDP}]', /protocol/],
    ['a port that is none', 'services: [{name: a, ports: {80: http}}]', /port/],
    ['a port above all', 'services: [{name: a, ports: {80: 70000}}]', /port/],
    [
      'a range longer than its address',
      `${POLICY}{sourceIps: [10.0.0.0/33]}]]]}]`,
      /10\.0\.0\.0\/33/,
    ],
    ['a range without length', `${POLICY}{sourceIps: [10.0.0.0/x]}]]]}]`, /10\.0\.0\.0\/x/],
    ['a range with an empty length', `${POLICY}{sourceIps: [10.0.0.0/]}]]]}]`, /10\.0\.0\.0\//],
    ['a policy’s port that is none', `${POLICY}{destinationPorts: [http]}]]]}]`, /port/],
    [
      'a service’s range that is none',
      'services: [{name: a, cidrVips: [{cidr: 10.0.0.0/40}]}]',
      /\/40/,
    ],
  ];
  for (const [claim, text, reason] of refused) {
    it(`is refused for ${claim}`, () => assert.throws(() => parseLocalState(text), reason));
  }
});
