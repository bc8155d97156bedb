import assert from 'node:assert/strict';
import { describe, it } from 'node:test';
import { buildZone, resolveName } from '../../../../local/kubelet/dns-records.ts';
import type { EndpointSlice, Service } from '../../../../local/kubelet/objects.ts';

const service = (name: string, spec: Service['spec']): Service => ({
  metadata: { name, namespace: 'shop' },
  spec,
});
const SERVICES = [
  service('web', { clusterIP: '10.96.1.1', ports: [{ name: 'http', port: 80 }] }),
  service('db', { clusterIP: 'None' }),
  service('out', { type: 'ExternalName', externalName: 'example.org' }),
];
const SLICE: EndpointSlice = {
  metadata: { name: 's', namespace: 'shop', labels: { 'kubernetes.io/service-name': 'db' } },
  addressType: 'IPv4',
  endpoints: [
    { addresses: ['10.1.0.1'], hostname: 'db-0' },
    { addresses: ['10.1.0.2'], hostname: 'db-1', conditions: { ready: false } },
  ],
};
const ZONE = buildZone('cluster.local', SERVICES, [SLICE]);

const ROWS: readonly (readonly [string, string, string, readonly string[]])[] = [
  ['web.shop.svc.cluster.local', 'A', 'NOERROR', ['10.96.1.1']],
  ['web.shop.svc.cluster.local', 'AAAA', 'NOERROR', []],
  ['db.shop.svc.cluster.local', 'A', 'NOERROR', ['10.1.0.1']],
  ['db-0.db.shop.svc.cluster.local', 'A', 'NOERROR', ['10.1.0.1']],
  ['db-1.db.shop.svc.cluster.local', 'A', 'NXDOMAIN', []],
  ['out.shop.svc.cluster.local', 'A', 'NOERROR', ['example.org']],
  ['10-1-0-9.shop.pod.cluster.local', 'A', 'NOERROR', ['10.1.0.9']],
  ['fd00-1--9.shop.pod.cluster.local', 'AAAA', 'NOERROR', ['fd00:1::9']],
  ['fd00-1--9.shop.pod.cluster.local', 'A', 'NOERROR', []],
  ['fd00-nine.shop.pod.cluster.local', 'AAAA', 'NXDOMAIN', []],
  ['absent.shop.svc.cluster.local', 'A', 'NXDOMAIN', []],
  ['_http._tcp.web.shop.svc.cluster.local', 'A', 'NOERROR', []],
  ['_none._tcp.web.shop.svc.cluster.local', 'SRV', 'NXDOMAIN', []],
  ['a.b.c.d.e.svc.cluster.local', 'A', 'NXDOMAIN', []],
  ['svc.cluster.local', 'A', 'NXDOMAIN', []],
  ['web.shop.svc', 'A', 'NXDOMAIN', []],
  ['example.org', 'A', 'NXDOMAIN', []],
  ['', 'A', 'NXDOMAIN', []],
];

describe('cluster dns', () => {
  for (const [name, type, code, data] of ROWS) {
    it(`${type} of "${name}" is ${code} ${data.join(' ')}`, () => {
      const answer = resolveName(ZONE, name, type);
      assert.equal(answer.code, code);
      assert.deepEqual(
        answer.records.map((record) => record.data),
        data,
      );
    });
  }

  it('gives the port of a service by SRV', () => {
    const answer = resolveName(ZONE, '_http._tcp.web.shop.svc.cluster.local', 'SRV');
    assert.deepEqual(answer.records[0]?.data, {
      target: 'web.shop.svc.cluster.local',
      port: 80,
    });
  });
});
