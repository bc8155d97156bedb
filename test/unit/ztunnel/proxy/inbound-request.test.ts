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

  it('an application tunnel takes any address and sets the port', () => {
    const context = { store, workload: tunnelled, authority: '10.9.9.9:80', localIp: '10.0.0.7' };
    assert.partialDeepStrictEqual(buildInboundRequest(context), { kind: 'accept', port: 9000 });
  });
});
