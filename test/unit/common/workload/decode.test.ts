// Istio's Address resource as it is taken: what stands for a field that is not set, what a resource
// is refused for, and what is not read.
import assert from 'node:assert/strict';
import { describe, it } from 'node:test';
import { create, toBinary } from '@bufbuild/protobuf';
import { decodeAddress } from '../../../../common/workload/decode.ts';
import { AddressSchema } from '../../../../common/workload/gen/workload_pb.ts';
import type { AddressResource } from '../../../../common/workload/model.ts';
import { encodeMessage } from '../../../conformance/wire.ts';
import type { Message } from '../../../conformance/wire.ts';

type Kind = 'workload' | 'service';
type Init = Parameters<typeof create<typeof AddressSchema>>[1];

function decoded(kind: Kind, value: object): AddressResource {
  const init = { type: { case: kind, value } } as Init;
  return decodeAddress(toBinary(AddressSchema, create(AddressSchema, init)), 'a');
}

function valueOf(kind: Kind, value: object): object {
  const found = decoded(kind, value);
  return found.kind === 'workload' ? found.workload : found.service;
}

const UID = { uid: 'a' };

const read = (message: Message): AddressResource => decodeAddress(encodeMessage(message), 'a');

describe('each field of the wire, written by number,', () => {
  const gateway = { 1: { 1: 'gns', 2: 'gate.example' }, 3: 15_009 };
  const hostname = { kind: 'hostname', namespace: 'gns', hostname: 'gate.example', port: 15_009 };

  it('of a workload has its place', () => {
    const workload: Message = {
      ...{ 20: 'the-uid', 1: 'the-name', 2: 'ns', 3: [{ ip: '10.0.0.1' }, { ip: 'fd00::1' }] },
      ...{ 21: 'host.example', 4: 'net', 5: 1, 6: 'td', 7: 'account', 8: gateway },
      ...{ 19: { 2: { 1: 'far', 2: { ip: '10.9.9.9' } }, 3: 15_010 }, 9: 'the-node' },
      ...{ 10: 'c-name', 11: 'c-revision', 12: 3, 13: 'w-name', 14: true, 16: ['n/p', 'n/q'] },
      ...{ 17: 1, 18: 'cluster', 24: { 1: 'r', 2: 'z', 3: 's' }, 25: 1, 27: { 1: 7 } },
      ...{ 22: [{ 1: 'n/h', 2: { 1: [{ 1: 80, 2: 8080 }, { 1: 90 }] } }], 23: { 1: 1, 2: 15_088 } },
      ...{ 26: { 1: 'somebody.else/extension' } },
    };
    assert.deepEqual(read({ 1: workload }), {
      kind: 'workload',
      workload: {
        ...{ uid: 'the-uid', name: 'the-name', namespace: 'ns', ips: ['10.0.0.1', 'fd00::1'] },
        ...{ hostname: 'host.example', network: 'net', protocol: 'HBONE', trustDomain: 'td' },
        ...{ serviceAccount: 'account', waypoint: hostname, node: 'the-node' },
        networkGateway: { kind: 'address', network: 'far', ip: '10.9.9.9', port: 15_010 },
        ...{ canonicalName: 'c-name', canonicalRevision: 'c-revision', workloadType: 'job' },
        ...{ workloadName: 'w-name', isNativeTunnel: true, authorizationPolicies: ['n/p', 'n/q'] },
        ...{ isHealthy: false, clusterId: 'cluster', isHostNetwork: true, capacity: 7 },
        locality: { region: 'r', zone: 'z', subzone: 's' },
        services: {
          'n/h': [
            { servicePort: 80, targetPort: 8080 },
            { servicePort: 90, targetPort: 0 },
          ],
        },
        applicationTunnel: { protocol: 'PROXY', port: 15_088 },
        ...{ isNodeLocalAllowed: false, l7Percent: 0 },
      },
    });
  });

  it('of a service has its place', () => {
    const service: Message = {
      ...{ 1: 'web', 2: 'ns', 3: 'web.example', 6: ['spiffe://td/ns/a/sa/b'], 7: gateway },
      4: [
        { 1: 'net', 2: { ip: '10.96.0.1' } },
        { 1: 'net', 2: { ip: '10.100.0.0' }, 3: 16 },
      ],
      5: [{ 1: 80, 2: 8080, 3: 2 }, { 1: 443 }],
      8: { 1: [6, 1, 2, 3, 4, 5], 2: 2, 3: 1 },
      ...{ 9: 2, 10: { 1: 'somebody.else/extension' }, 11: true, 12: true, 14: 1 },
      13: { 1: { 2: { 1: 'net', 2: { ip: '10.0.0.9' } }, 3: 15_008 }, 2: 3 },
    };
    assert.deepEqual(read({ 2: service }), {
      kind: 'service',
      service: {
        ...{ name: 'web', namespace: 'ns', hostname: 'web.example', waypoint: hostname },
        vips: [{ network: 'net', ip: '10.96.0.1' }],
        cidrVips: [{ network: 'net', ip: '10.100.0.0', length: 16 }],
        ports: [
          { servicePort: 80, targetPort: 8080 },
          { servicePort: 443, targetPort: 0 },
        ],
        subjectAltNames: ['spiffe://td/ns/a/sa/b'],
        loadBalancer: {
          mode: 'FAILOVER',
          routingPreferences: ['NETWORK', 'REGION', 'ZONE', 'SUBZONE', 'NODE', 'CLUSTER'],
          healthPolicy: 'ALLOW_ALL',
        },
        ...{ ipFamilies: 'IPV6_ONLY', isCanonical: true, visibility: 'NAMESPACE' },
        weightedWaypoints: [
          {
            destination: { kind: 'address', network: 'net', ip: '10.0.0.9', port: 15_008 },
            weight: 3,
          },
        ],
      },
    });
  });

  const values: readonly [
    field: string,
    kind: 1 | 2,
    message: (n: number) => Message,
    key: string,
    all: unknown[],
  ][] = [
    [
      'type of workload',
      1,
      (n) => ({ 12: n }),
      'workloadType',
      ['deployment', 'cronjob', 'pod', 'job'],
    ],
    ['protocol', 1, (n) => ({ 5: n }), 'protocol', ['TCP', 'HBONE']],
    [
      'families',
      2,
      (n) => ({ 9: n }),
      'ipFamilies',
      ['AUTOMATIC', 'IPV4_ONLY', 'IPV6_ONLY', 'DUAL'],
    ],
  ];
  for (const [field, kind, message, key, all] of values) {
    it(`each ${field} has its meaning`, () => {
      const found = all.map((_, n) => {
        const resource = read({ [kind]: { ...(kind === 1 ? { 20: 'a' } : {}), ...message(n) } });
        const value = resource.kind === 'workload' ? resource.workload : resource.service;
        return Object.entries(value).find(([name]) => name === key)?.[1] as unknown;
      });
      assert.deepEqual(found, all);
    });
  }

  it('each mode of load balancing has its meaning', () => {
    const modes = ['STANDARD', 'STRICT', 'FAILOVER', 'PASSTHROUGH'];
    const found = modes.map((_, n) => {
      const resource = read({ 2: { 8: { 2: n } } });
      return resource.kind === 'service' ? resource.service.loadBalancer.mode : undefined;
    });
    assert.deepEqual(found, modes);
  });
});

describe('fields that are not set', () => {
  const rows: readonly [claim: string, kind: Kind, wanted: object][] = [
    ['trust domain: cluster.local', 'workload', { trustDomain: 'cluster.local' }],
    ['service account: default', 'workload', { serviceAccount: 'default' }],
    ['cluster: Kubernetes', 'workload', { clusterId: 'Kubernetes' }],
    ['capacity: 1', 'workload', { capacity: 1 }],
    ['type: deployment', 'workload', { workloadType: 'deployment' }],
    ['protocol: TCP', 'workload', { protocol: 'TCP' }],
    ['visibility: public', 'service', { visibility: 'PUBLIC' }],
  ];
  for (const [claim, kind, wanted] of rows) {
    it(claim, () => assert.partialDeepStrictEqual(valueOf(kind, UID), wanted));
  }

  it('a capacity of 0 is not one that is not set', () =>
    assert.partialDeepStrictEqual(valueOf('workload', { ...UID, capacity: 0 }), { capacity: 0 }));
});

describe('what a resource is refused for', () => {
  const waypoint = { hboneMtlsPort: 15008 };
  const rows: readonly [claim: string, kind: Kind, value: object, reason: RegExp][] = [
    ['no uid', 'workload', { uid: '' }, /without uid/],
    ['legacy mutual TLS', 'workload', { tunnelProtocol: 2 }, /unknown tunnel protocol 2/],
    ['an unknown type', 'workload', { workloadType: 99 }, /unknown workload type 99/],
    ['an unknown status', 'workload', { status: 9 }, /unknown status 9/],
    ['an unknown network mode', 'workload', { networkMode: 9 }, /unknown network mode 9/],
    ['an address of 5 bytes', 'workload', { addresses: [new Uint8Array(5)] }, /of 5 bytes/],
    ['a service key without namespace', 'workload', { services: { web: {} } }, /"web" is not/],
    ['a waypoint that is nowhere', 'workload', { waypoint }, /without destination/],
    ['an unknown tunnel', 'workload', { applicationTunnel: { protocol: 7 } }, /tunnel 7/],
    ['an unknown mode', 'service', { loadBalancing: { mode: 9 } }, /mode 9/],
    ['no scope', 'service', { loadBalancing: { routingPreference: [0] } }, /unknown scope 0/],
    ['unknown families', 'service', { ipFamilies: 9 }, /unknown ip families 9/],
    ['an unknown health policy', 'service', { loadBalancing: { healthPolicy: 9 } }, /policy 9/],
    ['a weight for nothing', 'service', { weightedWaypoints: [{ weight: 1 }] }, /without dest/],
  ];
  for (const [claim, kind, value, reason] of rows) {
    it(claim, () => assert.throws(() => decoded(kind, { ...UID, ...value }), reason));
  }

  it('neither workload nor service', () =>
    assert.throws(() => decodeAddress(new Uint8Array(), 'a'), /neither workload nor service/));
});

describe('what is taken all the same', () => {
  it('an unknown visibility is public', () =>
    assert.partialDeepStrictEqual(valueOf('service', { visibility: 9 }), {
      visibility: 'PUBLIC',
    }));

  it('names that are no identities stay, and match nobody', () =>
    assert.partialDeepStrictEqual(valueOf('service', { subjectAltNames: ['x'] }), {
      subjectAltNames: ['x'],
    }));

  it('a whole prefix is an address, a shorter one a range', () => {
    const address = Uint8Array.of(10, 0, 0, 0);
    const addresses = [
      { address, length: 32 },
      { address, length: 8 },
    ];
    assert.partialDeepStrictEqual(valueOf('service', { addresses }), {
      vips: [{ network: '', ip: '10.0.0.0' }],
      cidrVips: [{ network: '', ip: '10.0.0.0', length: 8 }],
    });
  });
});
