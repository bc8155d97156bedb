// Istio's Address resource as it is taken: what stands for a field that is not set, what a resource
// is refused for, and what is not read.
import assert from 'node:assert/strict';
import { describe, it } from 'node:test';
import { create, toBinary } from '@bufbuild/protobuf';
import { decodeAddress } from '../../../../common/workload/decode.ts';
import { AddressSchema } from '../../../../common/workload/gen/workload_pb.ts';
import type { AddressResource } from '../../../../common/workload/model.ts';

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
