// Endpoint choice: filters, locality ranks, weights.
import assert from 'node:assert/strict';
import { describe, it } from 'node:test';
import { chooseEndpoint } from '../../../../common/workload/load-balance.ts';
import type { LoadBalancer, Workload } from '../../../../common/workload/model.ts';
import { WorkloadStore } from '../../../../common/workload/store.ts';
import { makeService, makeWorkload, memberOf } from '../../../support/mesh-builders.ts';

const locality = (region: string, zone: string): Workload['locality'] => ({
  region,
  zone,
  subzone: '',
});
const source = makeWorkload('client', '10.0.0.1', {
  locality: locality('r1', 'z1'),
  network: '',
  node: 'n1',
  clusterId: 'c1',
});

function chosenSet(endpoints: readonly Workload[], loadBalancer: Partial<LoadBalancer>): string[] {
  const store = new WorkloadStore();
  for (const endpoint of endpoints)
    store.upsertWorkload({ ...endpoint, services: memberOf('web') });
  const service = makeService('web', '10.96.0.1', {
    loadBalancer: {
      mode: 'STANDARD',
      routingPreferences: [],
      healthPolicy: 'ONLY_HEALTHY',
      ...loadBalancer,
    },
  });
  store.upsertService(service);
  const names = new Set<string>();
  for (let at = 0; at < 1; at += 0.01) {
    const found = chooseEndpoint(store, { service, servicePort: 80, source, random: () => at });
    if (found !== undefined) names.add(found.workload.name);
  }
  return [...names].sort();
}

const near = makeWorkload('near', '10.0.0.2', { locality: locality('r1', 'z1') });
const region = makeWorkload('region', '10.0.0.3', { locality: locality('r1', 'z2') });
const far = makeWorkload('far', '10.0.0.4', { locality: locality('r2', 'z1') });
const gateway = { kind: 'hostname', namespace: 'x', hostname: 'gw', port: 15008 } as const;

describe('chooseEndpoint', () => {
  const rows: ReadonlyArray<{
    name: string;
    endpoints: readonly Workload[];
    balancer: Partial<LoadBalancer>;
    wanted: readonly string[];
  }> = [
    {
      name: 'standard uses all',
      endpoints: [near, region, far],
      balancer: {},
      wanted: ['far', 'near', 'region'],
    },
    {
      name: 'strict keeps full matches',
      endpoints: [near, region, far],
      balancer: { mode: 'STRICT', routingPreferences: ['REGION', 'ZONE'] },
      wanted: ['near'],
    },
    {
      name: 'strict with no match chooses none',
      endpoints: [far],
      balancer: { mode: 'STRICT', routingPreferences: ['REGION'] },
      wanted: [],
    },
    {
      name: 'failover prefers the best rank',
      endpoints: [near, region, far],
      balancer: { mode: 'FAILOVER', routingPreferences: ['REGION', 'ZONE'] },
      wanted: ['near'],
    },
    {
      name: 'failover takes the next rank',
      endpoints: [region, far],
      balancer: { mode: 'FAILOVER', routingPreferences: ['REGION', 'ZONE'] },
      wanted: ['region'],
    },
    {
      name: 'failover takes the last rank',
      endpoints: [far],
      balancer: { mode: 'FAILOVER', routingPreferences: ['REGION', 'ZONE'] },
      wanted: ['far'],
    },
    {
      name: 'the node, and within the cluster',
      endpoints: [
        { ...near, node: 'n2', clusterId: 'c1' },
        { ...far, node: 'n1', clusterId: 'c1' },
      ],
      balancer: { mode: 'STRICT', routingPreferences: ['CLUSTER', 'NODE'] },
      wanted: ['far'],
    },
    {
      name: 'what neither has is the same',
      endpoints: [near, { ...far, locality: { ...far.locality, subzone: 's' } }],
      balancer: { mode: 'STRICT', routingPreferences: ['SUBZONE'] },
      wanted: ['near'],
    },
    {
      name: 'of another cluster none is here',
      endpoints: [{ ...near, node: 'n1', clusterId: 'c2' }],
      balancer: { mode: 'STRICT', routingPreferences: ['NODE', 'CLUSTER'] },
      wanted: [],
    },
    {
      name: 'a leading network outranks locality',
      endpoints: [{ ...near, network: 'other', networkGateway: gateway }, far],
      balancer: { mode: 'FAILOVER', routingPreferences: ['NETWORK', 'REGION', 'ZONE'] },
      wanted: ['far'],
    },
    {
      name: 'a network mismatch still counts the rest',
      endpoints: [
        { ...near, network: 'other', networkGateway: gateway },
        { ...far, network: 'other', networkGateway: gateway },
      ],
      balancer: { mode: 'FAILOVER', routingPreferences: ['NETWORK', 'REGION'] },
      wanted: ['near'],
    },
    {
      name: 'unhealthy endpoints are left out',
      endpoints: [near, { ...far, isHealthy: false }],
      balancer: {},
      wanted: ['near'],
    },
    {
      name: 'allow all takes unhealthy ones',
      endpoints: [near, { ...far, isHealthy: false }],
      balancer: { healthPolicy: 'ALLOW_ALL' },
      wanted: ['far', 'near'],
    },
    {
      name: 'capacity 0 is never chosen',
      endpoints: [near, { ...far, capacity: 0 }],
      balancer: {},
      wanted: ['near'],
    },
    {
      name: 'capacity 0 alone is nothing',
      endpoints: [{ ...far, capacity: 0 }],
      balancer: {},
      wanted: [],
    },
    {
      name: 'another network without gateway is no candidate',
      endpoints: [near, { ...far, network: 'other' }],
      balancer: {},
      wanted: ['near'],
    },
    {
      name: 'no address is no candidate',
      endpoints: [near, { ...far, ips: [] }],
      balancer: {},
      wanted: ['near'],
    },
  ];
  for (const { name, endpoints, balancer, wanted } of rows) {
    it(name, () => assert.deepEqual(chosenSet(endpoints, balancer), wanted));
  }

  it('weights by capacity', () => {
    const store = new WorkloadStore();
    store.upsertWorkload({ ...near, services: memberOf('web'), capacity: 3 });
    store.upsertWorkload({ ...far, services: memberOf('web'), capacity: 1 });
    const service = makeService('web', '10.96.0.1');
    let chosen = 0;
    for (let at = 0; at < 1000; at++) {
      const found = chooseEndpoint(store, {
        service,
        servicePort: 80,
        source,
        random: () => at / 1000,
      });
      if (found?.workload.name === 'near') chosen++;
    }
    assert.equal(chosen, 750);
  });

  it('a port that the service does not list is one of a waypoint with an application tunnel only', () => {
    const store = new WorkloadStore();
    const service = makeService('web', '10.96.0.1');
    const mapped = [{ servicePort: 15009, targetPort: 9090 }];
    const services = { 'default/web.default.svc.cluster.local': mapped };
    const portOf = (tunnelPort: number | undefined, servicePort: number, isWaypoint = true) => {
      const tunnel = { protocol: 'NONE', port: tunnelPort ?? 0 } as const;
      const applicationTunnel = tunnelPort === undefined ? undefined : tunnel;
      store.upsertWorkload({ ...near, services, applicationTunnel });
      const asked = { service, servicePort, source, random: () => 0, isWaypoint };
      return chooseEndpoint(store, asked)?.port;
    };
    assert.equal(portOf(15088, 15008), 15008);
    assert.equal(portOf(15088, 15009), 9090);
    assert.equal(portOf(15088, 15009, false), undefined);
    assert.equal(portOf(undefined, 15009), undefined);
    assert.equal(portOf(0, 15008), undefined);
  });

  it('uses the endpoint port map before the service port', () => {
    const store = new WorkloadStore();
    const key = 'default/web.default.svc.cluster.local';
    store.upsertWorkload({ ...near, services: { [key]: [{ servicePort: 80, targetPort: 9090 }] } });
    const service = makeService('web', '10.96.0.1', {
      ports: [{ servicePort: 80, targetPort: 0 }],
    });
    const found = chooseEndpoint(store, { service, servicePort: 80, source, random: () => 0 });
    assert.equal(found?.port, 9090);
    store.upsertWorkload({ ...near, services: { [key]: [] } });
    assert.equal(
      chooseEndpoint(store, { service, servicePort: 80, source, random: () => 0 }),
      undefined,
    );
  });
});
