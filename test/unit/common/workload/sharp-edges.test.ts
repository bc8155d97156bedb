// Where Istio's ztunnel keeps stale state or cuts numbers, this one does not.
import assert from 'node:assert/strict';
import { describe, it } from 'node:test';
import { create, toBinary } from '@bufbuild/protobuf';
import { decodeAddress } from '../../../../common/workload/decode.ts';
import { AddressSchema } from '../../../../common/workload/gen/workload_pb.ts';
import { chooseEndpoint } from '../../../../common/workload/load-balance.ts';
import type { LoadBalancer, Service } from '../../../../common/workload/model.ts';
import { WorkloadStore } from '../../../../common/workload/store.ts';
import { makeService, makeWorkload, memberOf } from '../../../support/mesh-builders.ts';

const VIP = '10.96.0.1';
const keyOf = ({ namespace, hostname }: Service): string => `${namespace}/${hostname}`;
const decodeService = (value: object): unknown =>
  decodeAddress(
    toBinary(AddressSchema, create(AddressSchema, { type: { case: 'service', value } })),
    'a',
  );

describe('state that is not stale', () => {
  it('an endpoint of a service with a range of addresses changes: the range leads to that service, once', () => {
    const store = new WorkloadStore();
    const range = makeService('range', '', {
      cidrVips: [{ network: '', ip: '10.100.0.0', length: 16 }],
    });
    store.upsertService(range);
    for (const ip of ['10.0.0.1', '10.0.0.2']) {
      store.upsertWorkload(makeWorkload('endpoint', ip, { services: memberOf('range') }));
    }
    const again = { ...range, ports: [{ servicePort: 80, targetPort: 9090 }] };
    store.upsertService(again);
    assert.deepEqual(store.servicesAt('', '10.100.1.1'), [again]);
    const [endpoint, ...others] = store.endpoints(keyOf(range)).values();
    assert.deepEqual([endpoint?.ips, others], [['10.0.0.2'], []]);
    store.remove(keyOf(range));
    assert.deepEqual(store.servicesAt('', '10.100.1.1'), []);
  });

  it('of two services of a namespace with one address the other stays when one goes', () => {
    const store = new WorkloadStore();
    const one = makeService('one', VIP);
    const two = makeService('two', VIP);
    for (const service of [one, two]) store.upsertService(service);
    assert.deepEqual(store.servicesAt('', VIP), [one, two]);
    store.remove(keyOf(one));
    assert.equal(store.findServiceByVip('', VIP), two);
  });

  it('unhealthy endpoints come back when a service takes all again', () => {
    const store = new WorkloadStore();
    const source = makeWorkload('client', '10.0.0.9');
    const services = memberOf('web');
    const chosenWith = (healthPolicy: LoadBalancer['healthPolicy']): string | undefined => {
      const { loadBalancer } = makeService('web', VIP);
      const service = makeService('web', VIP, { loadBalancer: { ...loadBalancer, healthPolicy } });
      store.upsertService(service);
      const asked = { service, servicePort: 80, source, random: () => 0 };
      return chooseEndpoint(store, asked)?.workload.name;
    };
    store.upsertWorkload(makeWorkload('ill', '10.0.0.1', { services, isHealthy: false }));
    const policies = ['ALLOW_ALL', 'ONLY_HEALTHY', 'ALLOW_ALL'] as const;
    assert.deepEqual(policies.map(chosenWith), ['ill', undefined, 'ill']);
  });
});

describe('numbers that are not cut', () => {
  it('a port above 65535 rejects its service', () => {
    const value = { ports: [{ servicePort: 80, targetPort: 65_536 + 8080 }] };
    assert.throws(() => decodeService(value), /port 73616 is out of range/);
  });

  it('a prefix longer than its address rejects its service', () => {
    const value = { addresses: [{ address: Uint8Array.of(10, 0, 0, 0), length: 256 + 8 }] };
    assert.throws(() => decodeService(value), /prefix length 264/);
  });
});
