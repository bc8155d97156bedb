// The inbound decision as a table; names after Istio ztunnel's inbound tests.
import assert from 'node:assert/strict';
import { describe, it } from 'node:test';
import { WorkloadStore } from '../../../../common/workload/store.ts';
import { buildInboundRequest } from '../../../../ztunnel/proxy/inbound-request.ts';
import { makeService, makeWorkload, memberOf } from '../../../support/mesh-builders.ts';

const store = new WorkloadStore();
const server = makeWorkload('server', '10.0.0.2', { services: memberOf('web') });
const sandwich = makeWorkload('sandwich', '10.0.0.9', {
  services: {
    'default/gate.default.svc.cluster.local': [{ servicePort: 15008, targetPort: 15008 }],
  },
});
store.upsertWorkload(server);
store.upsertWorkload(sandwich);
store.upsertWorkload(
  makeWorkload('behind', '10.0.0.3', {
    waypoint: {
      kind: 'hostname',
      namespace: 'default',
      hostname: 'gate.default.svc.cluster.local',
      port: 15008,
    },
  }),
);
store.upsertWorkload(
  makeWorkload('beside', '10.0.0.4', {
    waypoint: { kind: 'address', network: '', ip: '10.0.0.9', port: 15008 },
  }),
);
store.upsertService(makeService('web', '10.96.0.1'));
store.upsertService(makeService('gate', '10.96.0.9'));

const tunnelled = makeWorkload('tunnelled', '10.0.0.7', {
  applicationTunnel: { protocol: 'NONE', port: 9000 },
});

const rows = [
  { name: 'own address', authority: '10.0.0.2:8080', wanted: { kind: 'accept', port: 8080 } },
  {
    name: 'mapped address',
    authority: '[::ffff:10.0.0.2]:80',
    wanted: { kind: 'accept', port: 80 },
  },
  {
    name: 'other address',
    authority: '10.0.0.5:80',
    wanted: { kind: 'refuse', status: 400, reason: 'ip_mismatch' },
  },
  {
    name: 'hostname of its service',
    authority: 'web.default.svc.cluster.local:80',
    wanted: { kind: 'accept', port: 8080 },
  },
  {
    name: 'hostname with an unknown port',
    authority: 'web.default.svc.cluster.local:81',
    wanted: { kind: 'refuse', status: 503 },
  },
  {
    name: 'unknown hostname',
    authority: 'nobody:80',
    wanted: { kind: 'refuse', status: 503, reason: 'unknown_destination' },
  },
  {
    name: 'no port',
    authority: '10.0.0.2',
    wanted: { kind: 'refuse', status: 400, reason: 'bad_authority' },
  },
  { name: 'garbage', authority: 'a:b:c', wanted: { kind: 'refuse', status: 400 } },
  { name: 'port 0', authority: '10.0.0.2:0', wanted: { kind: 'refuse', status: 400 } },
  {
    name: 'own listener',
    authority: '10.0.0.2:15008',
    wanted: { kind: 'refuse', status: 503, reason: 'recursive_call' },
  },
] as const;

describe('buildInboundRequest', () => {
  for (const { name, authority, wanted } of rows) {
    it(name, () => {
      const decision = buildInboundRequest({
        store,
        workload: server,
        authority,
        localIp: '10.0.0.2',
      });
      assert.partialDeepStrictEqual(decision, wanted);
    });
  }

  it('an address behind this waypoint is ours', () => {
    const context = { store, workload: sandwich, authority: '10.0.0.3:80', localIp: '10.0.0.9' };
    assert.partialDeepStrictEqual(buildInboundRequest(context), { kind: 'accept', port: 80 });
  });

  it('an address behind the waypoint of another pod is not ours', () => {
    for (const authority of ['10.0.0.3:80', '10.0.0.4:80']) {
      const context = { store, workload: server, authority, localIp: '10.0.0.2' };
      const wanted = { kind: 'refuse', status: 400, reason: 'ip_mismatch' };
      assert.partialDeepStrictEqual(buildInboundRequest(context), wanted);
    }
  });

  it('an address behind a waypoint by address is ours, if that is our address', () => {
    const context = { store, workload: sandwich, authority: '10.0.0.4:80', localIp: '10.0.0.9' };
    assert.partialDeepStrictEqual(buildInboundRequest(context), { kind: 'accept', port: 80 });
  });

  const proxied = makeWorkload('proxied', '10.0.0.6', {
    applicationTunnel: { protocol: 'PROXY', port: 9000 },
    services: memberOf('web', 'dual'),
  });
  const dual = makeService('dual', '', {
    vips: [
      { network: 'far', ip: '10.1.0.1' },
      { network: '', ip: 'fd00::96' },
      { network: '', ip: '10.96.0.2' },
    ],
  });
  store.upsertService(dual);
  store.upsertService(makeService('bare', ''));
  const tunnels = [
    {
      name: 'an address authority is the target as it is',
      authority: '10.9.9.9:80',
      wanted: { address: '127.0.0.1', port: 9000, proxyTarget: { ip: '10.9.9.9', port: 80 } },
    },
    {
      name: 'an ipv6 pod has its own loopback',
      authority: '[fd00::9]:80',
      localIp: 'fd00::6',
      wanted: { address: '::1', port: 9000, proxyTarget: { ip: 'fd00::9', port: 80 } },
    },
    {
      name: 'a hostname is told by its address of this network, ipv4 first, with the service’s port',
      authority: 'dual.default.svc.cluster.local:80',
      wanted: { port: 9000, proxyTarget: { ip: '10.96.0.2', port: 80 } },
    },
    {
      name: 'a hostname without any address is refused',
      authority: 'bare.default.svc.cluster.local:80',
      wanted: { kind: 'refuse', status: 503 },
    },
    {
      name: 'loopback can be turned off',
      authority: '10.9.9.9:80',
      isTunnelOnLoopback: false,
      wanted: { address: '10.0.0.6', port: 9000, proxyTarget: { ip: '10.9.9.9', port: 80 } },
    },
    {
      name: 'our own listeners stay out of reach',
      authority: '10.9.9.9:15006',
      wanted: { kind: 'refuse', reason: 'recursive_call' },
    },
  ];
  for (const { name, wanted, ...more } of tunnels) {
    it(`proxy tunnel: ${name}`, () => {
      const context = { store, workload: proxied, localIp: '10.0.0.6', ...more };
      assert.partialDeepStrictEqual(buildInboundRequest(context), wanted);
    });
  }

  it('a named port is what this endpoint maps it to', () => {
    const named = makeService('named', '10.96.0.5', {
      ports: [{ servicePort: 80, targetPort: 0 }],
    });
    store.upsertService(named);
    const key = 'default/named.default.svc.cluster.local';
    const authority = 'named.default.svc.cluster.local:80';
    const ask = (targetPort: number): object =>
      buildInboundRequest({
        store,
        workload: makeWorkload('x', '10.0.0.2', {
          services: { [key]: [{ servicePort: 80, targetPort }] },
        }),
        authority,
        localIp: '10.0.0.2',
      });
    assert.partialDeepStrictEqual(ask(9090), { kind: 'accept', port: 9090 });
    assert.partialDeepStrictEqual(ask(0), { kind: 'refuse', status: 503 });
  });

  it('a service behind a weighted waypoint is ours', () => {
    store.upsertService(
      makeService('split', '10.96.0.7', {
        weightedWaypoints: [
          {
            destination: {
              kind: 'hostname',
              namespace: 'default',
              hostname: 'gate.default.svc.cluster.local',
              port: 15008,
            },
            weight: 1,
          },
        ],
      }),
    );
    const context = { store, workload: sandwich, authority: '10.96.0.7:80', localIp: '10.0.0.9' };
    assert.partialDeepStrictEqual(buildInboundRequest(context), { kind: 'accept', port: 80 });
  });

  it('a service port that leads to our own listener is refused, however the service calls it', () => {
    const looping = makeWorkload('looping', '10.0.0.2', {
      services: {
        'default/web.default.svc.cluster.local': [{ servicePort: 80, targetPort: 15008 }],
      },
    });
    const authority = 'web.default.svc.cluster.local:80';
    const context = { store, workload: looping, authority, localIp: '10.0.0.2' };
    const wanted = { kind: 'refuse', status: 503, reason: 'recursive_call' };
    assert.partialDeepStrictEqual(buildInboundRequest(context), wanted);
  });

  it('an application tunnel may listen where our listeners would be', () => {
    const workload = makeWorkload('above', '10.0.0.7', {
      applicationTunnel: { protocol: 'NONE', port: 15008 },
    });
    const context = { store, workload, authority: '10.0.0.7:80', localIp: '10.0.0.7' };
    assert.partialDeepStrictEqual(buildInboundRequest(context), { kind: 'accept', port: 15008 });
  });

  it('an application tunnel without protocol takes any address and sets the port', () => {
    const context = { store, workload: tunnelled, authority: '10.9.9.9:80', localIp: '10.0.0.7' };
    assert.partialDeepStrictEqual(buildInboundRequest(context), {
      kind: 'accept',
      address: '10.0.0.7',
      port: 9000,
      proxyTarget: undefined,
    });
  });
});
