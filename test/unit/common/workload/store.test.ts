// The index of workloads and services: who is found where several have one address, and nothing of what was removed.
import assert from 'node:assert/strict';
import { describe, it } from 'node:test';
import { chooseEndpoint } from '../../../../common/workload/load-balance.ts';
import type { Service, Workload } from '../../../../common/workload/model.ts';
import { WorkloadStore } from '../../../../common/workload/store.ts';
import { makeService, makeWorkload, memberOf } from '../../../support/mesh-builders.ts';

const IP = '10.0.0.1';
const VIP = '10.96.0.1';
const pod = (name: string, protocol: Workload['protocol']): Workload =>
  makeWorkload(name, IP, { protocol });
const entry = (name: string, protocol: Workload['protocol']): Workload =>
  makeWorkload(name, IP, {
    protocol,
    uid: `Kubernetes/networking.istio.io/ServiceEntry/x/${name}`,
  });

describe('several workloads on one address', () => {
  const rows: readonly [claim: string, workloads: readonly Workload[], found: string][] = [
    ['a pod before an entry', [pod('p', 'TCP'), entry('e', 'HBONE')], 'p'],
    ['HBONE before TCP', [pod('h', 'HBONE'), pod('t', 'TCP')], 'h'],
    ['of equal ones the last', [pod('first', 'HBONE'), pod('last', 'HBONE')], 'last'],
  ];
  for (const [claim, workloads, found] of rows) {
    it(claim, () => {
      const store = new WorkloadStore();
      for (const workload of workloads) store.upsertWorkload(workload);
      assert.equal(store.findWorkload('', IP)?.name, found);
      for (const workload of workloads) store.remove(workload.uid);
      assert.equal(store.findWorkload('', IP), undefined);
    });
  }
});

describe('several services on one address', () => {
  const service = (namespace: string, more: Partial<Service> = {}): Service =>
    makeService(namespace, VIP, { namespace, ...more });
  const rows: readonly [claim: string, services: readonly Service[], found: string][] = [
    ['that of the client', [service('a', { isCanonical: true }), service('mine')], 'mine'],
    ['else the canonical one', [service('a'), service('b', { isCanonical: true })], 'b'],
    ['else the first', [service('a'), service('b')], 'a'],
    ['none that is not visible', [service('a', { visibility: 'NAMESPACE' }), service('b')], 'b'],
  ];
  for (const [claim, services, found] of rows) {
    it(claim, () => {
      const store = new WorkloadStore();
      for (const one of services) store.upsertService(one);
      assert.equal(store.findServiceByVip('', VIP, 'mine')?.namespace, found);
    });
  }
});

describe('ranges of addresses', () => {
  const range = (name: string, ip: string, length: number, more: Partial<Service> = {}): Service =>
    makeService(name, '', { cidrVips: [{ network: '', ip, length }], ...more });
  const exact = makeService('exact', '10.100.1.1');
  const wide = range('wide', '10.100.0.0', 16);
  const narrow = range('narrow', '10.100.1.0', 24);
  const theirs = { namespace: 'theirs' };
  const hidden: Partial<Service> = { ...theirs, visibility: 'NAMESPACE' };
  const rows: readonly [claim: string, services: readonly Service[], found: string | undefined][] =
    [
      ['an address itself before a range', [narrow, exact], 'exact'],
      ['the longest range', [wide, narrow], 'narrow'],
      ['one of the client before a longer one', [wide, { ...narrow, ...theirs }], 'wide'],
      [
        'of equal ones the canonical',
        [narrow, range('own', '10.100.1.0', 24, { isCanonical: true })],
        'own',
      ],
      [
        'an address that is not visible leaves it to a range',
        [{ ...exact, ...hidden }, wide],
        'wide',
      ],
      ['a range that is not visible is none', [{ ...narrow, ...hidden }, wide], 'wide'],
      [
        'nor is one in another network',
        [{ ...narrow, cidrVips: [{ network: 'far', ip: '10.100.1.0', length: 24 }] }],
        undefined,
      ],
      ['nor one beside it', [range('beside', '10.100.2.0', 24)], undefined],
    ];
  for (const [claim, services, found] of rows) {
    it(claim, () => {
      const store = new WorkloadStore();
      for (const one of services) store.upsertService(one);
      assert.equal(store.findServiceByVip('', '10.100.1.1', 'default')?.name, found);
      for (const { namespace, hostname } of services) store.remove(`${namespace}/${hostname}`);
      assert.equal(store.findServiceByVip('', '10.100.1.1', 'default'), undefined);
    });
  }

  it('nobody’s namespace sees everything', () => {
    const store = new WorkloadStore();
    store.upsertService({ ...narrow, ...hidden });
    assert.equal(store.findServiceByVip('', '10.100.1.1')?.name, 'narrow');
    assert.equal(store.findServiceByVip('', '10.100.1.1', 'default'), undefined);
  });
});

describe('endpoints before their service', () => {
  it('are there when it comes, and again when it comes back', () => {
    const store = new WorkloadStore();
    const web = makeService('web', VIP);
    const key = `${web.namespace}/${web.hostname}`;
    const { loadBalancer } = web;
    const chosenIn = (service: Service): string | undefined => {
      const source = makeWorkload('client', '10.0.0.9');
      const asked = { service, servicePort: 80, source, random: () => 0 };
      return chooseEndpoint(store, asked)?.workload.name;
    };
    const services = memberOf('web');
    store.upsertWorkload(makeWorkload('ill', '10.0.0.2', { services, isHealthy: false }));
    store.upsertWorkload(makeWorkload('well', IP, { services }));
    assert.deepEqual([...store.awaitedServices()], [key]);
    store.upsertService(web);
    assert.deepEqual([...store.awaitedServices()], []);
    // Filtered by the health policy it came with.
    assert.equal(chosenIn(web), 'well');
    store.remove(key);
    const all = { ...web, loadBalancer: { ...loadBalancer, healthPolicy: 'ALLOW_ALL' as const } };
    store.upsertService(all);
    assert.equal(chosenIn(all), 'ill');
  });

  it('that have gone by then are not', () => {
    const store = new WorkloadStore();
    const workload = makeWorkload('gone', IP, { services: memberOf('web') });
    store.upsertWorkload(workload);
    store.remove(workload.uid);
    assert.deepEqual([...store.awaitedServices()], []);
    const web = makeService('web', VIP);
    store.upsertService(web);
    assert.equal(store.endpoints(`${web.namespace}/${web.hostname}`).size, 0);
  });
});
