// The outbound decision as a table; names after Istio ztunnel's build_request_* tests.
import assert from 'node:assert/strict';
import { describe, it } from 'node:test';
import type { GatewayAddress, Service, Workload } from '../../../../common/workload/model.ts';
import { WorkloadStore } from '../../../../common/workload/store.ts';
import { buildRequest } from '../../../../ztunnel/proxy/request.ts';
import type { RequestDecision } from '../../../../ztunnel/proxy/request.ts';
import { makeService, makeWorkload, memberOf } from '../../../support/mesh-builders.ts';

const source = makeWorkload('client', '10.0.0.1');
const waypointHost: GatewayAddress = {
  kind: 'hostname',
  namespace: 'default',
  hostname: 'waypoint.default.svc.cluster.local',
  port: 15008,
};
const waypointPod = makeWorkload('waypoint-pod', '10.0.0.9', {
  isNativeTunnel: true,
  serviceAccount: 'waypoint',
  services: {
    'default/waypoint.default.svc.cluster.local': [{ servicePort: 15008, targetPort: 15008 }],
  },
});
const waypointService = makeService('waypoint', '10.96.0.9', {
  ports: [{ servicePort: 15008, targetPort: 15008 }],
});

const gatewayHost: GatewayAddress = {
  kind: 'hostname',
  namespace: 'default',
  hostname: 'gateway.default.svc.cluster.local',
  port: 15008,
};
/** As a control plane describes it: a public address in the far network. */
const gatewayPod = makeWorkload('gateway', '192.0.2.1', {
  network: 'far',
  services: portsOf('gateway', 15008, 15008),
});
const gatewayService = makeService('gateway', '', {
  ports: [{ servicePort: 15008, targetPort: 15008 }],
});
const remoteServer = makeWorkload('server', '', {
  network: 'far',
  services: memberOf('web'),
  networkGateway: gatewayHost,
});
const external = makeWorkload('external', '', {
  hostname: 'example.com',
  protocol: 'TCP',
  services: memberOf('web'),
});

function portsOf(name: string, servicePort: number, targetPort: number): Workload['services'] {
  return { [`default/${name}.default.svc.cluster.local`]: [{ servicePort, targetPort }] };
}

interface Row {
  readonly name: string;
  readonly workloads?: readonly Workload[];
  readonly services?: readonly Service[];
  readonly destination: readonly [string, number];
  readonly source?: Workload;
  readonly isSocks5?: boolean;
  /** What the hostname resolves to. */
  readonly addresses?: readonly string[];
  readonly wanted: Partial<RequestDecision>;
}

const rows: readonly Row[] = [
  {
    name: 'unknown destination passes through',
    destination: ['1.2.3.4', 443],
    wanted: { kind: 'passthrough', address: '1.2.3.4', port: 443 },
  },
  {
    name: 'known destination without hbone is dialled plainly',
    workloads: [makeWorkload('server', '10.0.0.2', { protocol: 'TCP' })],
    destination: ['10.0.0.2', 80],
    wanted: { kind: 'tcp', address: '10.0.0.2', port: 80 },
  },
  {
    name: 'known destination with hbone gets a tunnel',
    workloads: [makeWorkload('server', '10.0.0.2')],
    destination: ['10.0.0.2', 80],
    wanted: {
      kind: 'hbone',
      address: '10.0.0.2',
      port: 15008,
      authority: '10.0.0.2:80',
      expectedIdentities: ['spiffe://cluster.local/ns/default/sa/server'],
      hop: 'workload',
    },
  },
  {
    name: 'a service is balanced and its port translated',
    workloads: [makeWorkload('server', '10.0.0.2', { services: memberOf('web') })],
    services: [makeService('web', '10.96.0.1')],
    destination: ['10.96.0.1', 80],
    wanted: { kind: 'hbone', address: '10.0.0.2', authority: '10.0.0.2:8080' },
  },
  {
    name: 'a service adds its subject alternative names',
    workloads: [makeWorkload('server', '10.0.0.2', { services: memberOf('web') })],
    services: [makeService('web', '10.96.0.1', { subjectAltNames: ['spiffe://a/ns/b/sa/c'] })],
    destination: ['10.96.0.1', 80],
    wanted: {
      expectedIdentities: ['spiffe://a/ns/b/sa/c', 'spiffe://cluster.local/ns/default/sa/server'],
    },
  },
  {
    name: 'a service without endpoints is refused, not passed through',
    services: [makeService('web', '10.96.0.1')],
    destination: ['10.96.0.1', 80],
    wanted: { kind: 'refuse', reason: 'no_healthy_upstream' },
  },
  {
    name: 'a service port that does not exist is refused',
    workloads: [makeWorkload('server', '10.0.0.2', { services: memberOf('web') })],
    services: [makeService('web', '10.96.0.1')],
    destination: ['10.96.0.1', 81],
    wanted: { kind: 'refuse', reason: 'no_healthy_upstream' },
  },
  {
    name: 'a passthrough service goes to the original destination',
    services: [
      makeService('web', '10.96.0.1', {
        loadBalancer: { mode: 'PASSTHROUGH', routingPreferences: [], healthPolicy: 'ONLY_HEALTHY' },
      }),
    ],
    destination: ['10.96.0.1', 80],
    wanted: { kind: 'passthrough', address: '10.96.0.1' },
  },
  {
    name: 'a service waypoint gets the original vip as authority',
    workloads: [makeWorkload('server', '10.0.0.2', { services: memberOf('web') }), waypointPod],
    services: [makeService('web', '10.96.0.1', { waypoint: waypointHost }), waypointService],
    destination: ['10.96.0.1', 80],
    wanted: {
      kind: 'hbone',
      address: '10.0.0.9',
      port: 15008,
      authority: '10.96.0.1:80',
      hop: 'waypoint',
      expectedIdentities: ['spiffe://cluster.local/ns/default/sa/waypoint'],
    },
  },
  {
    name: 'a service for all hosts below a name goes to its waypoint, which resolves',
    workloads: [waypointPod],
    services: [
      makeService('wild', '240.240.0.7', { hostname: '*.example.com', waypoint: waypointHost }),
      waypointService,
    ],
    destination: ['240.240.0.7', 80],
    wanted: { kind: 'hbone', address: '10.0.0.9', authority: '240.240.0.7:80', hop: 'waypoint' },
  },
  {
    name: 'a service for all hosts below a name has nobody behind it without its waypoint',
    services: [makeService('wild', '240.240.0.7', { hostname: '*.example.com' })],
    destination: ['240.240.0.7', 80],
    wanted: { kind: 'refuse', reason: 'no_healthy_upstream' },
  },
  {
    name: 'an unknown waypoint is never bypassed',
    workloads: [makeWorkload('server', '10.0.0.2', { services: memberOf('web') })],
    services: [makeService('web', '10.96.0.1', { waypoint: waypointHost })],
    destination: ['10.96.0.1', 80],
    wanted: { kind: 'refuse', reason: 'unknown_waypoint' },
  },
  {
    name: 'a waypoint without endpoints is never bypassed',
    services: [makeService('web', '10.96.0.1', { waypoint: waypointHost }), waypointService],
    destination: ['10.96.0.1', 80],
    wanted: { kind: 'refuse', reason: 'no_healthy_waypoint' },
  },
  {
    name: 'the waypoint itself is not sent to the waypoint',
    workloads: [makeWorkload('server', '10.0.0.2', { services: memberOf('web') }), waypointPod],
    services: [makeService('web', '10.96.0.1', { waypoint: waypointHost }), waypointService],
    source: waypointPod,
    destination: ['10.96.0.1', 80],
    wanted: { kind: 'hbone', address: '10.0.0.2', hop: 'workload' },
  },
  {
    name: 'a workload waypoint is used for direct addressing',
    workloads: [makeWorkload('server', '10.0.0.2', { waypoint: waypointHost }), waypointPod],
    services: [waypointService],
    destination: ['10.0.0.2', 8080],
    wanted: { kind: 'hbone', address: '10.0.0.9', authority: '10.0.0.2:8080', hop: 'waypoint' },
  },
  {
    name: 'a workload waypoint is not used through a service',
    workloads: [
      makeWorkload('server', '10.0.0.2', { waypoint: waypointHost, services: memberOf('web') }),
      waypointPod,
    ],
    services: [makeService('web', '10.96.0.1'), waypointService],
    destination: ['10.96.0.1', 80],
    wanted: { kind: 'hbone', address: '10.0.0.2', hop: 'workload' },
  },
  {
    name: 'a waypoint by address is found',
    workloads: [
      makeWorkload('server', '10.0.0.2', {
        waypoint: { kind: 'address', network: '', ip: '10.96.0.9', port: 15008 },
      }),
      waypointPod,
    ],
    services: [waypointService],
    destination: ['10.0.0.2', 8080],
    wanted: { kind: 'hbone', address: '10.0.0.9', hop: 'waypoint' },
  },
  {
    name: 'a waypoint by the name of a workload is found',
    workloads: [
      makeWorkload('server', '10.0.0.2', {
        waypoint: {
          ...{ kind: 'hostname', namespace: 'default', port: 15008 },
          hostname: 'waypoint.example.com',
        },
      }),
      { ...waypointPod, hostname: 'waypoint.example.com' },
    ],
    destination: ['10.0.0.2', 8080],
    wanted: { kind: 'hbone', address: '10.0.0.9', authority: '10.0.0.2:8080', hop: 'waypoint' },
  },
  {
    name: 'a source waypoint is never used',
    workloads: [makeWorkload('server', '10.0.0.2'), waypointPod],
    services: [waypointService],
    source: { ...source, waypoint: waypointHost },
    destination: ['10.0.0.2', 80],
    wanted: { kind: 'hbone', address: '10.0.0.2', hop: 'workload' },
  },
  {
    name: 'host network pods are passed through by address',
    workloads: [makeWorkload('node', '10.0.1.1', { isHostNetwork: true, protocol: 'TCP' })],
    destination: ['10.0.1.1', 80],
    wanted: { kind: 'passthrough' },
  },
  {
    name: 'host network pods are chosen through a service',
    workloads: [
      makeWorkload('node', '10.0.1.1', {
        isHostNetwork: true,
        protocol: 'TCP',
        services: memberOf('web'),
      }),
    ],
    services: [makeService('web', '10.96.0.1')],
    destination: ['10.96.0.1', 80],
    wanted: { kind: 'tcp', address: '10.0.1.1', port: 8080 },
  },
  {
    name: 'an endpoint in another network without its gateway is not dialled plainly',
    workloads: [remoteServer],
    services: [makeService('web', '10.96.0.1')],
    destination: ['10.96.0.1', 80],
    wanted: { kind: 'refuse', reason: 'no_healthy_gateway' },
  },
  {
    name: 'an endpoint in another network is reached through its gateway, in two tunnels',
    workloads: [remoteServer, gatewayPod],
    services: [
      makeService('web', '10.96.0.1', { subjectAltNames: ['spiffe://far/ns/web/sa/all'] }),
      gatewayService,
    ],
    destination: ['10.96.0.1', 80],
    wanted: {
      kind: 'double_hbone',
      address: '192.0.2.1',
      port: 15008,
      authority: 'web.default.svc.cluster.local:80',
      expectedIdentities: ['spiffe://cluster.local/ns/default/sa/gateway'],
      innerIdentities: [
        'spiffe://far/ns/web/sa/all',
        'spiffe://cluster.local/ns/default/sa/server',
      ],
      workload: gatewayPod,
    },
  },
  {
    name: 'a gateway by address is found in its own network',
    workloads: [
      {
        ...remoteServer,
        networkGateway: { kind: 'address', network: 'far', ip: '192.0.2.1', port: 15009 },
      },
      { ...gatewayPod, network: 'far', services: {} },
    ],
    services: [makeService('web', '10.96.0.1')],
    destination: ['10.96.0.1', 80],
    wanted: { kind: 'double_hbone', address: '192.0.2.1', port: 15009 },
  },
  {
    name: 'a record for many without an account adds no identity',
    workloads: [{ ...remoteServer, serviceAccount: '' }, gatewayPod],
    services: [makeService('web', '10.96.0.1'), gatewayService],
    destination: ['10.96.0.1', 80],
    wanted: { kind: 'double_hbone', innerIdentities: [] },
  },
  {
    name: 'endpoints here are used when the gateway of those elsewhere is missing',
    workloads: [remoteServer, makeWorkload('here', '10.0.0.5', { services: memberOf('web') })],
    services: [makeService('web', '10.96.0.1')],
    destination: ['10.96.0.1', 80],
    wanted: { kind: 'hbone', address: '10.0.0.5' },
  },
  {
    name: 'failover leaves the network when nothing is left in it',
    workloads: [
      remoteServer,
      gatewayPod,
      makeWorkload('here', '10.0.0.5', { services: memberOf('web'), isHealthy: false }),
    ],
    services: [
      makeService('web', '10.96.0.1', {
        loadBalancer: {
          mode: 'FAILOVER',
          routingPreferences: ['NETWORK', 'REGION'],
          healthPolicy: 'ONLY_HEALTHY',
        },
      }),
      gatewayService,
    ],
    destination: ['10.96.0.1', 80],
    wanted: { kind: 'double_hbone', address: '192.0.2.1' },
  },
  {
    name: 'a waypoint in another network is reached through that network’s gateway',
    workloads: [
      { ...waypointPod, network: 'far', ips: [], networkGateway: gatewayHost },
      gatewayPod,
    ],
    services: [
      makeService('web', '10.96.0.1', { waypoint: waypointHost }),
      waypointService,
      gatewayService,
    ],
    destination: ['10.96.0.1', 80],
    wanted: {
      kind: 'double_hbone',
      address: '192.0.2.1',
      authority: 'web.default.svc.cluster.local:80',
      innerIdentities: ['spiffe://cluster.local/ns/default/sa/waypoint'],
    },
  },
  {
    name: 'a workload’s waypoint in another network is not reached by address',
    workloads: [
      makeWorkload('server', '10.0.0.2', { waypoint: waypointHost }),
      { ...waypointPod, network: 'far', ips: [], networkGateway: gatewayHost },
      gatewayPod,
    ],
    services: [waypointService, gatewayService],
    destination: ['10.0.0.2', 80],
    wanted: { kind: 'refuse', reason: 'cross_network' },
  },
  {
    name: 'a waypoint of the weighted set is not sent to another of the set',
    workloads: [
      makeWorkload('server', '10.0.0.2', { services: memberOf('web') }),
      waypointPod,
      makeWorkload('other', '10.0.0.8'),
    ],
    services: [
      makeService('web', '10.96.0.1', {
        weightedWaypoints: [
          { destination: { kind: 'address', network: '', ip: '10.0.0.8', port: 15008 }, weight: 9 },
          { destination: waypointHost, weight: 1 },
        ],
      }),
      waypointService,
    ],
    source: waypointPod,
    destination: ['10.96.0.1', 80],
    wanted: { kind: 'hbone', address: '10.0.0.2', hop: 'workload' },
  },
  {
    name: 'another pod of the same account is not the waypoint',
    workloads: [makeWorkload('server', '10.0.0.2', { services: memberOf('web') }), waypointPod],
    services: [makeService('web', '10.96.0.1', { waypoint: waypointHost }), waypointService],
    source: { ...source, serviceAccount: 'waypoint' },
    destination: ['10.96.0.1', 80],
    wanted: { kind: 'hbone', address: '10.0.0.9', hop: 'waypoint' },
  },
  {
    name: 'a waypoint by address keeps its own family',
    workloads: [
      makeWorkload('server', 'fd00::2', {
        waypoint: { kind: 'address', network: '', ip: '10.0.0.9', port: 15008 },
      }),
      { ...waypointPod, ips: ['fd00::9', '10.0.0.9'], services: {} },
    ],
    destination: ['fd00::2', 80],
    wanted: { kind: 'hbone', address: '10.0.0.9', authority: '[fd00::2]:80', hop: 'waypoint' },
  },
  {
    name: 'a waypoint by name takes the dialled family',
    workloads: [
      makeWorkload('server', 'fd00::2', { waypoint: waypointHost }),
      { ...waypointPod, ips: ['10.0.0.9', 'fd00::9'] },
    ],
    services: [waypointService],
    destination: ['fd00::2', 80],
    wanted: { kind: 'hbone', address: 'fd00::9', hop: 'waypoint' },
  },
  {
    name: 'an address that is workload and service uses the service’s waypoint',
    workloads: [makeWorkload('server', '10.96.0.1', { services: memberOf('web') }), waypointPod],
    services: [makeService('web', '10.96.0.1', { waypoint: waypointHost }), waypointService],
    destination: ['10.96.0.1', 80],
    wanted: { kind: 'hbone', address: '10.0.0.9', hop: 'waypoint' },
  },
  {
    name: 'a headless service is dialled by its endpoint’s address',
    workloads: [makeWorkload('server', 'fd00::2', { services: memberOf('web') })],
    services: [makeService('web', '')],
    destination: ['fd00::2', 8080],
    wanted: { kind: 'hbone', address: 'fd00::2', port: 15008, authority: '[fd00::2]:8080' },
  },
  {
    name: 'a named port is what the endpoint maps it to',
    workloads: [makeWorkload('server', 'fd00::2', { services: portsOf('web', 80, 9090) })],
    services: [makeService('web', 'fd00::96', { ports: [{ servicePort: 80, targetPort: 0 }] })],
    destination: ['fd00::96', 80],
    wanted: { kind: 'hbone', authority: '[fd00::2]:9090' },
  },
  {
    name: 'a named port that the endpoint lacks is refused',
    workloads: [makeWorkload('server', '10.0.0.2', { services: portsOf('web', 80, 0) })],
    services: [makeService('web', '10.96.0.1', { ports: [{ servicePort: 80, targetPort: 0 }] })],
    destination: ['10.96.0.1', 80],
    wanted: { kind: 'refuse', reason: 'no_healthy_upstream' },
  },
  {
    name: 'a cidr address of a service, ipv6',
    workloads: [makeWorkload('server', 'fd00::2', { protocol: 'TCP', services: memberOf('web') })],
    services: [
      makeService('web', '', { cidrVips: [{ network: '', ip: '2001:db8::', length: 32 }] }),
    ],
    destination: ['2001:db8::1', 80],
    wanted: { kind: 'tcp', address: 'fd00::2', port: 8080 },
  },
  {
    name: 'a service of another namespace that hides is passed through',
    services: [makeService('web', '10.96.0.1', { namespace: 'other', visibility: 'NAMESPACE' })],
    destination: ['10.96.0.1', 80],
    wanted: { kind: 'passthrough' },
  },
  {
    name: 'a pod that calls itself by its address gets a tunnel like any other',
    destination: ['10.0.0.1', 80],
    wanted: { kind: 'hbone', address: '10.0.0.1', authority: '10.0.0.1:80', hop: 'workload' },
  },
  {
    name: 'an endpoint known by name only is asked for',
    workloads: [external],
    services: [makeService('web', '10.96.0.1')],
    destination: ['10.96.0.1', 80],
    wanted: { kind: 'resolve', hostname: 'example.com' },
  },
  {
    name: 'a resolved name is dialled, the dialled family first',
    workloads: [external],
    services: [makeService('web', 'fd00::96')],
    destination: ['fd00::96', 80],
    addresses: ['192.0.2.9', '2001:db8::9'],
    wanted: { kind: 'tcp', address: '2001:db8::9', port: 8080 },
  },
  {
    name: 'a resolved name of the other family is better than none',
    workloads: [external],
    services: [makeService('web', 'fd00::96')],
    destination: ['fd00::96', 80],
    addresses: ['192.0.2.9'],
    wanted: { kind: 'tcp', address: '192.0.2.9' },
  },
  {
    name: 'a name without addresses is refused',
    workloads: [external],
    services: [makeService('web', '10.96.0.1')],
    destination: ['10.96.0.1', 80],
    addresses: [],
    wanted: { kind: 'refuse', reason: 'no_address' },
  },
  {
    name: 'a recursive call on ipv6 is refused',
    destination: ['::1', 15001],
    wanted: { kind: 'refuse', reason: 'recursive_call' },
  },
  {
    name: 'the socks5 port is ours when there is such a listener',
    destination: ['127.0.0.1', 15080],
    isSocks5: true,
    wanted: { kind: 'refuse', reason: 'recursive_call' },
  },
  {
    name: 'the socks5 port is anybody’s otherwise',
    destination: ['127.0.0.1', 15080],
    wanted: { kind: 'passthrough' },
  },
  {
    name: 'our ports at another address are not ours',
    workloads: [makeWorkload('server', '10.0.0.2', { protocol: 'TCP' })],
    destination: ['10.0.0.2', 15008],
    wanted: { kind: 'tcp', address: '10.0.0.2', port: 15008 },
  },
  {
    name: 'a recursive call is refused',
    destination: ['127.0.0.1', 15008],
    wanted: { kind: 'refuse', reason: 'recursive_call' },
  },
  {
    name: 'of several addresses the dialled one is taken',
    workloads: [makeWorkload('server', '', { ips: ['10.0.0.2', '10.0.0.3'] })],
    destination: ['10.0.0.3', 80],
    wanted: { kind: 'hbone', address: '10.0.0.3', authority: '10.0.0.3:80' },
  },
  {
    name: 'weights that are all 0 leave the service its waypoint',
    workloads: [waypointPod, makeWorkload('other', '10.0.0.8')],
    services: [
      makeService('web', '10.96.0.1', {
        waypoint: waypointHost,
        weightedWaypoints: [
          { destination: { kind: 'address', network: '', ip: '10.0.0.8', port: 15008 }, weight: 0 },
        ],
      }),
      waypointService,
    ],
    destination: ['10.96.0.1', 80],
    wanted: { kind: 'hbone', address: '10.0.0.9', authority: '10.96.0.1:80' },
  },
  {
    name: 'the ports of endpoints and DNS are anybody’s',
    destination: ['127.0.0.1', 15021],
    wanted: { kind: 'passthrough' },
  },
  {
    name: 'the dialled family is preferred',
    workloads: [
      makeWorkload('server', '', { ips: ['10.0.0.2', 'fd00::2'], services: memberOf('web') }),
    ],
    services: [makeService('web', 'fd00::96')],
    destination: ['fd00::96', 80],
    wanted: { kind: 'hbone', address: 'fd00::2', authority: '[fd00::2]:8080' },
  },
  {
    name: 'the service restricts the family',
    workloads: [
      makeWorkload('server', '', { ips: ['10.0.0.2', 'fd00::2'], services: memberOf('web') }),
    ],
    services: [makeService('web', '10.96.0.1', { ipFamilies: 'IPV6_ONLY' })],
    destination: ['10.96.0.1', 80],
    wanted: { kind: 'hbone', address: 'fd00::2' },
  },
  {
    name: 'an endpoint without an address of the service’s family is refused',
    workloads: [makeWorkload('server', '10.0.0.2', { services: memberOf('web') })],
    services: [makeService('web', '10.96.0.1', { ipFamilies: 'IPV6_ONLY' })],
    destination: ['10.96.0.1', 80],
    wanted: { kind: 'refuse', reason: 'no_address' },
  },
  {
    name: 'an unknown waypoint of a workload is never bypassed',
    workloads: [makeWorkload('server', '10.0.0.2', { waypoint: waypointHost })],
    destination: ['10.0.0.2', 80],
    wanted: { kind: 'refuse', reason: 'unknown_waypoint' },
  },
];

describe('buildRequest', () => {
  for (const row of rows) {
    it(row.name, () => {
      const store = new WorkloadStore();
      for (const workload of [source, ...(row.workloads ?? [])]) store.upsertWorkload(workload);
      for (const service of row.services ?? []) store.upsertService(service);
      const [ip, port] = row.destination;
      const decision = buildRequest({
        store,
        source: row.source ?? source,
        destination: { ip, port },
        random: () => 0,
        isSocks5: row.isSocks5 ?? false,
        addressesOf: () => row.addresses,
      });
      assert.partialDeepStrictEqual(decision, row.wanted);
    });
  }

  it('of the addresses of a name one is picked at random, all of the dialled family', () => {
    const store = new WorkloadStore();
    for (const workload of [source, external]) store.upsertWorkload(workload);
    store.upsertService(makeService('web', '10.96.0.1'));
    const picked = [0, 0.34, 0.67, 0.999].map((at) =>
      buildRequest({
        ...{ store, source, destination: { ip: '10.96.0.1', port: 80 }, random: () => at },
        addressesOf: () => ['192.0.2.1', '2001:db8::1', '192.0.2.2', '192.0.2.3'],
      }),
    );
    assert.deepEqual(
      picked.map((decision) => 'address' in decision && decision.address),
      ['192.0.2.1', '192.0.2.2', '192.0.2.3', '192.0.2.3'],
    );
  });

  it('through a waypoint the destination is the waypoint, the service the one that was meant', () => {
    const store = new WorkloadStore();
    const server = makeWorkload('server', '10.0.0.2', { services: memberOf('web') });
    for (const workload of [waypointPod, server]) store.upsertWorkload(workload);
    store.upsertService(waypointService);
    store.upsertService(makeService('web', '10.96.0.1', { waypoint: waypointHost }));
    const decision = buildRequest({
      store,
      source: makeWorkload('client', '10.0.0.1'),
      destination: { ip: '10.96.0.1', port: 80 },
      random: () => 0,
    });
    assert.equal(decision.workload?.name, 'waypoint-pod');
    assert.equal(decision.service?.name, 'web');
  });

  it('samples weighted waypoints by weight', () => {
    const store = new WorkloadStore();
    const other = makeWorkload('other', '10.0.0.8');
    for (const workload of [waypointPod, other]) store.upsertWorkload(workload);
    store.upsertService(waypointService);
    store.upsertService(
      makeService('web', '10.96.0.1', {
        weightedWaypoints: [
          { destination: waypointHost, weight: 1 },
          { destination: { kind: 'address', network: '', ip: '10.0.0.8', port: 15008 }, weight: 3 },
        ],
      }),
    );
    const pick = (at: number): string => {
      const decision = buildRequest({
        store,
        source,
        destination: { ip: '10.96.0.1', port: 80 },
        random: () => at,
      });
      return decision.kind === 'hbone' ? decision.address : decision.kind;
    };
    assert.equal(pick(0.2), '10.0.0.9');
    assert.equal(pick(0.3), '10.0.0.8');
  });

  it('leaves out endpoints that failed', () => {
    const store = new WorkloadStore();
    const a = makeWorkload('a', '10.0.0.2', { services: memberOf('web') });
    const b = makeWorkload('b', '10.0.0.3', { services: memberOf('web') });
    for (const workload of [a, b]) store.upsertWorkload(workload);
    store.upsertService(makeService('web', '10.96.0.1'));
    const context = { store, source, destination: { ip: '10.96.0.1', port: 80 }, random: () => 0 };
    const decision = buildRequest({ ...context, exclude: new Set([a.uid]) });
    assert.equal(decision.workload?.uid, b.uid);
    const none = buildRequest({ ...context, exclude: new Set([a.uid, b.uid]) });
    assert.equal(none.kind, 'refuse');
  });
});
