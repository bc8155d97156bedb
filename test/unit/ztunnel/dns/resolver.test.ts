import assert from 'node:assert/strict';
import { describe, it } from 'node:test';
import { WorkloadStore } from '../../../../common/workload/store.ts';
import { resolveLocally } from '../../../../ztunnel/dns/resolver.ts';
import { makeService, makeWorkload } from '../../../support/mesh-builders.ts';

const store = new WorkloadStore();
const vip = (...ips: string[]) => ips.map((ip) => ({ network: '', ip }));
const external = (hostname: string, ...ips: string[]) =>
  makeService(hostname, '', { hostname, namespace: 'egress', vips: vip(...ips) });

store.upsertService(makeService('web', '10.96.0.1', { isCanonical: true }));
store.upsertService(
  makeService('pay', '10.96.0.2', { namespace: 'shop', hostname: 'pay.shop.svc.cluster.local' }),
);
store.upsertService(makeService('dual', '', { vips: vip('10.96.0.3', 'fd00::3') }));
store.upsertService(
  makeService('four', '', { vips: vip('10.96.0.4', 'fd00::4'), ipFamilies: 'IPV4_ONLY' }),
);
store.upsertService(makeService('headless', ''));
store.upsertService(
  makeService('early', '', {
    loadBalancer: { mode: 'STANDARD', routingPreferences: [], healthPolicy: 'ALLOW_ALL' },
  }),
);
store.upsertService(makeService('empty', ''));
store.upsertService(makeService('far', '', { vips: [{ network: 'other', ip: '10.96.0.5' }] }));
store.upsertService(
  makeService('hidden', '10.96.0.6', {
    visibility: 'NAMESPACE',
    namespace: 'secret',
    hostname: 'hidden.example.com',
  }),
);
store.upsertService(external('api.example.com', '240.240.0.1'));
store.upsertService(external('*.wild.example.com', '240.240.0.2'));
store.upsertService(external('deep.wild.example.com', '240.240.0.3'));
store.upsertService(external('novip.example.com'));
store.upsertService(
  makeService('range', '', {
    hostname: 'range.example.com',
    namespace: 'egress',
    cidrVips: [{ network: '', ip: '10.100.0.0', length: 16 }],
  }),
);
for (const [namespace, ip, isCanonical] of [
  ['one', '240.240.1.1', false],
  ['two', '240.240.1.2', true],
  ['three', '240.240.1.3', false],
] as const) {
  const hostname = 'shared.example.com';
  store.upsertService(makeService('shared', ip, { namespace, hostname, isCanonical }));
}
for (const [namespace, ip] of [
  ['one', '240.240.2.1'],
  ['two', '240.240.2.2'],
] as const) {
  store.upsertService(makeService('plain', ip, { namespace, hostname: 'plain.example.com' }));
}
const membership = (name: string) => ({ [`default/${name}.default.svc.cluster.local`]: [] });
for (const [name, ips, isHealthy] of [
  ['h-0', ['10.1.0.1', 'fd01::1'], true],
  ['h-1', ['10.1.0.2', '10.1.0.9'], true],
  ['h-2', ['10.1.0.3'], false],
] as const) {
  const services = { ...membership('headless'), ...membership('early') };
  store.upsertWorkload(makeWorkload(name, '', { ips, isHealthy, services }));
}

interface Options {
  readonly namespace?: string;
  readonly network?: string;
  readonly isIpv6?: boolean;
  readonly preferredNamespace?: string;
  readonly searchDomains?: readonly string[];
}

/** `forward`, or the records as text. */
function ask(name: string, type = 'A', options: Options = {}): string {
  const { namespace = 'default', network = '', ...rest } = options;
  const settings = {
    domain: 'cluster.local',
    isIpv6: true,
    preferredNamespace: undefined,
    ...rest,
  };
  const question = { name, type, isInternet: true };
  const found = resolveLocally(store, { namespace, network }, question, settings);
  if (found === undefined) return 'forward';
  return found.records.map((record) => `${record.name} ${record.type} ${record.data}`).join('; ');
}

describe('resolver', () => {
  const full = 'web.default.svc.cluster.local';
  const cases: [string, string, string, string, Options?][] = [
    ['a full name', full, 'A', `${full} A 10.96.0.1`],
    ['a short name', 'web', 'A', 'web A 10.96.0.1'],
    ['name and namespace', 'pay.shop', 'A', 'pay.shop A 10.96.0.2'],
    ['name, namespace, svc', 'pay.shop.svc', 'A', 'pay.shop.svc A 10.96.0.2'],
    ['a short name from another namespace', 'web', 'A', 'forward', { namespace: 'shop' }],
    ['other types', full, 'MX', 'forward'],
    ['a service record', `_http._tcp.${full}`, 'SRV', 'forward'],
    ['no IPv6 address: the name exists', full, 'AAAA', ''],
    ['both families, A', 'dual', 'A', 'dual A 10.96.0.3'],
    ['both families, AAAA', 'dual', 'AAAA', 'dual AAAA fd00::3'],
    ['IPv6 turned off', 'dual', 'AAAA', '', { isIpv6: false }],
    ['a family the service has not', 'four', 'AAAA', ''],
    [
      'headless: first address of each healthy endpoint',
      'headless',
      'A',
      'headless A 10.1.0.1; headless A 10.1.0.2',
    ],
    ['headless, AAAA', 'headless', 'AAAA', 'headless AAAA fd01::1'],
    [
      'headless with unready endpoints published',
      'early',
      'A',
      'early A 10.1.0.1; early A 10.1.0.2; early A 10.1.0.3',
    ],
    ['headless without endpoints: exists', 'empty', 'A', ''],
    ['a pod of a headless service', 'h-0.headless.default.svc.cluster.local', 'A', 'forward'],
    ['a pod by address', '10-1-0-1.default.pod.cluster.local', 'A', 'forward'],
    ['addresses in another network only', 'far', 'A', ''],
    ['addresses in the asker’s network', 'far', 'A', 'far A 10.96.0.5', { network: 'other' }],
    ['a service entry', 'api.example.com', 'A', 'api.example.com A 240.240.0.1'],
    ['a service entry without address', 'novip.example.com', 'A', 'forward'],
    ['a service entry with a range of addresses only', 'range.example.com', 'A', 'forward'],
    ['a wildcard', 'x.wild.example.com', 'A', 'x.wild.example.com A 240.240.0.2'],
    [
      'a wildcard two labels down',
      'y.x.wild.example.com',
      'A',
      'y.x.wild.example.com A 240.240.0.2',
    ],
    ['exact before wildcard', 'deep.wild.example.com', 'A', 'deep.wild.example.com A 240.240.0.3'],
    ['the wildcard’s own base', 'wild.example.com', 'A', 'forward'],
    ['an unknown name', 'nothing.example.com', 'A', 'forward'],
    ['a search domain of the pod’s own', 'web.corp.example', 'A', 'forward'],
    ['hidden elsewhere', 'hidden.example.com', 'A', 'forward'],
    [
      'visible at home',
      'hidden.example.com',
      'A',
      'hidden.example.com A 10.96.0.6',
      { namespace: 'secret' },
    ],
    [
      'own namespace first',
      'shared.example.com',
      'A',
      'shared.example.com A 240.240.1.3',
      { namespace: 'three' },
    ],
    [
      'then canonical',
      'shared.example.com',
      'A',
      'shared.example.com A 240.240.1.2',
      { preferredNamespace: 'one' },
    ],
    [
      'then preferred',
      'plain.example.com',
      'A',
      'plain.example.com A 240.240.2.2',
      { preferredNamespace: 'two' },
    ],
    ['then the first', 'plain.example.com', 'A', 'plain.example.com A 240.240.2.1'],
  ];
  for (const [what, name, type, expected, options] of cases) {
    it(`${what}: ${name} ${type}`, () => assert.equal(ask(name, type, options), expected));
  }

  it('says by CNAME that a search domain was taken off', () => {
    const asked = 'api.example.com.default.svc.cluster.local';
    const expected = `${asked} CNAME api.example.com; api.example.com A 240.240.0.1`;
    assert.equal(ask(asked), expected);
    assert.equal(ask(asked, 'AAAA'), '');
  });

  it('answers a wildcard found under a search domain with the asked name', () => {
    const asked = 'x.wild.example.com.svc.cluster.local';
    assert.equal(ask(asked), `${asked} A 240.240.0.2`);
  });

  it('takes off the search domains of a dedicated proxy’s pod', () => {
    const searchDomains = ['corp.example'];
    const expected = 'web.corp.example CNAME web; web A 10.96.0.1';
    assert.equal(ask('web.corp.example', 'A', { searchDomains }), expected);
  });

  it('forwards classes other than internet', () => {
    const question = { name: 'web', type: 'A', isInternet: false };
    const settings = { domain: 'cluster.local', isIpv6: true, preferredNamespace: undefined };
    const client = { namespace: 'default', network: '' };
    assert.equal(resolveLocally(store, client, question, settings), undefined);
  });
});
