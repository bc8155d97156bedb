import assert from 'node:assert/strict';
import { describe, it } from 'node:test';
import type { EndpointSlice, Service } from '../../../../local/kubelet/objects.ts';
import { buildServiceRules, readyBackends } from '../../../../local/kubelet/service-rules.ts';

const WEB: Service = {
  metadata: { name: 'web', namespace: 'shop' },
  spec: { clusterIP: '10.96.1.1', ports: [{ name: 'http', port: 80, nodePort: 30080 }] },
};
const KUBERNETES: Service = {
  metadata: { name: 'kubernetes', namespace: 'default' },
  spec: { clusterIP: '10.96.0.1', ports: [{ name: 'https', port: 443 }] },
};

function slice(endpoints: EndpointSlice['endpoints']): EndpointSlice {
  return {
    metadata: { name: 's', namespace: 'shop', labels: { 'kubernetes.io/service-name': 'web' } },
    addressType: 'IPv4',
    ports: [{ name: 'http', port: 8080 }],
    endpoints: endpoints ?? [],
  };
}

const BASE = {
  family: 'ip' as const,
  serviceCidr: '10.96.0.0/16',
  clusterDns: '10.96.0.10',
  nodeAddress: '10.200.255.10',
  bridgeAddress: '10.200.255.1',
  api: { host: '10.200.255.1', port: 4321 },
};

describe('service rules', () => {
  it('sends each connection to a random ready endpoint and keeps the source', () => {
    const rules = buildServiceRules({
      ...BASE,
      services: [WEB],
      slices: [
        slice([
          { addresses: ['10.200.1.4'] },
          { addresses: ['10.200.2.4'], conditions: { ready: true } },
          { addresses: ['10.200.2.5'], conditions: { ready: false } },
        ]),
      ],
    });
    assert.match(
      rules,
      /dnat ip addr \. port to numgen random mod 2 map \{ 0 : 10\.200\.1\.4 \. 8080, 1 : 10\.200\.2\.4 \. 8080 \}/,
    );
    assert.match(rules, /10\.96\.1\.1 \. tcp \. 80 : goto svc-10-96-1-1-tcp-80/);
    assert.match(rules, /10\.200\.255\.10 \. tcp \. 30080 : goto svc-10-96-1-1-tcp-80-node/);
    assert.match(rules, /\{ 10\.200\.1\.4 \. 10\.200\.1\.4, 10\.200\.2\.4 \. 10\.200\.2\.4 \}/);
    assert.equal(rules.match(/masquerade/g)?.length, 2);
  });

  it('refuses a service without endpoints', () => {
    const rules = buildServiceRules({ ...BASE, services: [WEB], slices: [slice([])] });
    assert.doesNotMatch(rules, /10\.96\.1\.1/);
    assert.match(rules, /ip daddr 10\.96\.0\.0\/16 ip daddr != 10\.96\.0\.10 reject/);
  });

  it('leads the kubernetes service to the relay', () => {
    const rules = buildServiceRules({ ...BASE, services: [KUBERNETES], slices: [] });
    assert.match(rules, /0 : 10\.200\.255\.1 \. 4321/);
  });

  it('uses endpoints that terminate only when there is no ready one', () => {
    const port = { name: 'http', port: 80 };
    const ending = {
      addresses: ['10.1.1.1'],
      conditions: { ready: false, serving: true, terminating: true },
    };
    const address = (list: EndpointSlice[]): string[] =>
      readyBackends(list, port).map((backend) => backend.address);
    assert.deepEqual(address([slice([ending])]), ['10.1.1.1']);
    assert.deepEqual(address([slice([ending, { addresses: ['10.1.1.2'] }])]), ['10.1.1.2']);
  });

  it('has IPv6 addresses in a table of their own', () => {
    const both = { ...WEB.spec, clusterIPs: ['10.96.1.1', 'fd00:10:96::a60:101'] };
    const rules = buildServiceRules({
      family: 'ip6',
      serviceCidr: 'fd00:10:96::/96',
      nodeAddress: 'fd00:a3b:0:ff::a',
      bridgeAddress: 'fd00:a3b:0:ff::1',
      services: [{ ...WEB, spec: both }, KUBERNETES],
      slices: [
        slice([{ addresses: ['10.200.1.4'] }]),
        { ...slice([{ addresses: ['fd00:a3b:0:1::4'] }]), addressType: 'IPv6' },
      ],
    });
    assert.match(rules, /^table ip6 ambient-services/);
    assert.match(rules, /fd00:10:96::a60:101 \. tcp \. 80 : goto svc-fd00-10-96--a60-101-tcp-80/);
    assert.match(rules, /dnat ip6 addr \. port to .*fd00:a3b:0:1::4 \. 8080/);
    assert.doesNotMatch(rules, /10\.\d+\.\d+\.\d+/);
  });
});
