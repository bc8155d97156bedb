import assert from 'node:assert/strict';
import { isIPv6 } from 'node:net';
import { describe, it } from 'node:test';
import { bridgeIpv6, embeddedIpv4, nodeIpv6, podIpv6, serviceIpv6 } from '../../../local/ipv6.ts';

describe('IPv6 of the local cluster', () => {
  it('gives each node, its pods and the bridge addresses of their own', () => {
    const [a, b] = [nodeIpv6(1, 0), nodeIpv6(1, 1)];
    const all = [a, b].flatMap((node) => [
      node.address,
      node.gateway,
      podIpv6(node, '10.201.1.4'),
      podIpv6(node, '10.201.1.200'),
    ]);
    all.push(bridgeIpv6(1));
    assert.ok(all.every(isIPv6), all.join(' '));
    assert.equal(new Set(all).size, all.length);
    assert.equal(podIpv6(a, '10.201.1.200'), 'fd00:a3b:1:1::c8');
  });

  it('embeds a service’s IPv4 address', () => {
    assert.equal(serviceIpv6('10.96.0.20'), 'fd00:10:96::a60:14');
    for (const address of ['10.96.0.20', '10.96.255.1', '10.96.16.0']) {
      assert.equal(embeddedIpv4(serviceIpv6(address)), address);
    }
  });

  it('knows no other addresses', () => {
    for (const address of ['fd00::1', 'fd00:10:96::1', 'fd00:10:96::a60:014', 'None', '']) {
      assert.equal(embeddedIpv4(address), undefined, address);
    }
  });
});
