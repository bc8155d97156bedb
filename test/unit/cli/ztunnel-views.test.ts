// Tables of `ambientctl ztunnel-config`, from dumps as Istio's ztunnel writes them.
import assert from 'node:assert/strict';
import { describe, it } from 'node:test';
import { DUMP_VIEWS, type ZtunnelDump } from '../../../cli/ztunnel-views.ts';

const DUMP: ZtunnelDump = {
  workloads: [
    {
      ...{ name: 'b', namespace: 'shop', workloadIps: ['10.0.0.2'], node: 'n1', protocol: 'HBONE' },
      waypoint: { destination: '/10.96.0.9' },
    },
    { name: 'a', namespace: 'shop', workloadIps: [], hostname: 'a.example', protocol: 'TCP' },
    { name: 'c', namespace: 'bank', workloadIps: ['10.0.0.3', 'fd00::3'], protocol: 'TCP' },
  ],
  services: [
    {
      ...{ name: 'web', namespace: 'shop', hostname: 'web.shop.svc.cluster.local' },
      vips: ['/10.96.0.8', '/fd00::8'],
      endpoints: { x: { status: 'Healthy' }, y: { status: 'Unhealthy' }, z: {} },
      waypoint: { destination: 'shop/wp.shop.svc.cluster.local' },
    },
    {
      ...{ name: 'wp', namespace: 'shop', hostname: 'wp.shop.svc.cluster.local' },
      vips: ['/10.96.0.9'],
    },
  ],
  policies: [{ name: 'p', namespace: 'shop', action: 'Deny', scope: 'Namespace' }],
  certificates: [
    {
      ...{ identity: 'spiffe://t/ns/shop/sa/x', state: 'Available' },
      certChain: [
        {
          ...{ serialNumber: '255', validFrom: '2026-01-01T00:00:00Z' },
          expirationTime: '2026-01-02T00:00:00Z',
        },
      ],
    },
    { identity: 'spiffe://t/ns/shop/sa/y', state: 'Unavailable: no CA' },
  ],
  workloadState: {
    u: {
      info: { name: 'b', namespace: 'shop' },
      connections: {
        inbound: [{ src: '10.0.0.3:40000', actualDst: '10.0.0.2:80', protocol: 'HBONE' }],
        outbound: [
          {
            ...{ src: '10.0.0.2:40001', originalDst: '10.96.0.8:80' },
            ...{ actualDst: '[fd00::3]:15008', protocol: 'HBONE' },
          },
        ],
      },
    },
  },
};

function rows(
  view: string,
  options: { namespace?: string; isRaw?: boolean; now?: string } = {},
): string[][] {
  const { namespace, isRaw = false, now = '2026-01-01T12:00:00Z' } = options;
  return DUMP_VIEWS[view]?.rows(DUMP, { namespace, isRaw, nowMs: Date.parse(now) }) ?? [];
}

describe('ztunnel-config', () => {
  it('sorts workloads and names their waypoints, by address or host name', () => {
    assert.deepEqual(rows('workloads'), [
      ['bank', 'c', '10.0.0.3,fd00::3', '', 'None', 'TCP'],
      ['shop', 'a', 'a.example', '', 'None', 'TCP'],
      ['shop', 'b', '10.0.0.2', 'n1', 'wp', 'HBONE'],
    ]);
    assert.deepEqual(
      rows('workloads', { namespace: 'bank' }).map(([, name]) => name),
      ['c'],
    );
  });

  it('counts healthy endpoints of services', () => {
    assert.deepEqual(rows('services'), [
      ['shop', 'web', '10.96.0.8,fd00::8', 'wp', '2/3'],
      ['shop', 'wp', '10.96.0.9', 'None', '0/0'],
    ]);
  });

  it('lists policies', () => {
    assert.deepEqual(rows('policies'), [['shop', 'p', 'Deny', 'Namespace']]);
  });

  it('tells certificates that are valid, expired or missing', () => {
    const [valid, missing] = rows('certificates');
    assert.deepEqual(valid?.slice(1, 5), ['Leaf', 'Available', 'true', 'ff']);
    assert.deepEqual(missing?.slice(1, 5), ['NA', 'Unavailable', 'false', 'NA']);
    assert.equal(rows('certificates', { now: '2026-01-03T00:00:00Z' })[0]?.[3], 'false');
  });

  it('shows connections with names, or addresses with --raw', () => {
    assert.deepEqual(rows('connections'), [
      ['b.shop', 'Inbound', 'b.shop:80', 'c.bank:40000', '', 'HBONE'],
      [
        ...['b.shop', 'Outbound', 'b.shop:40001', 'c.bank:15008'],
        ...['web.shop.svc.cluster.local:80', 'HBONE'],
      ],
    ]);
    assert.equal(rows('connections', { isRaw: true })[1]?.[3], '[fd00::3]:15008');
  });
});
