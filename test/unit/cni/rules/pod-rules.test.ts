import assert from 'node:assert/strict';
import { readFileSync } from 'node:fs';
import { join } from 'node:path';
import { describe, it } from 'node:test';
import { buildHostRules } from '../../../../cni/rules/host-rules.ts';
import {
  buildLeavingRules,
  buildPodRules,
  buildRemovalRules,
  capturesDns,
  DEFAULT_POD_RULES,
  policyRouting,
} from '../../../../cni/rules/pod-rules.ts';

function golden(name: string): string {
  return readFileSync(join(import.meta.dirname, '../../../fixtures/cni', `${name}.nft`), 'utf8');
}

const ROWS: readonly (readonly [string, string])[] = [
  ['pod', buildPodRules(DEFAULT_POD_RULES)],
  ['pod-ipv4', buildPodRules({ ...DEFAULT_POD_RULES, ipv6: false })],
  ['pod-dns', buildPodRules({ ...DEFAULT_POD_RULES, dnsCapture: true })],
  [
    'pod-virtual-machine',
    buildPodRules({ ...DEFAULT_POD_RULES, bypassInbound: true, virtualInterfaces: ['tap0'] }),
  ],
  ['leaving', buildLeavingRules()],
  ['removal', buildRemovalRules()],
  [
    'host',
    buildHostRules([
      { ip: '10.1.1.4', uid: 'uid-1' },
      { ip: 'fd00::4', uid: 'uid-1' },
    ]),
  ],
];

describe('in-pod rules', () => {
  for (const [name, rules] of ROWS) {
    it(`${name} is as recorded`, () => assert.equal(rules, golden(name)));
  }

  it('never redirects what the node proxy sends, nor HBONE, nor loopback', () => {
    const redirects = buildPodRules({ ...DEFAULT_POD_RULES, dnsCapture: true })
      .split('\n')
      .filter((line) => line.includes('redirect to'));
    assert.equal(redirects.length, 7);
    for (const line of redirects) assert.match(line, /meta mark & 0xfff != 0x539/);
    for (const line of redirects.filter((text) => text.includes(':15006'))) {
      assert.match(line, /tcp dport != 15008/);
      assert.match(line, /daddr != (127\.0\.0\.1|::1)/);
    }
  });

  it('a pod may have its DNS captured or not, whatever the node agent does', () => {
    const own = (value: string) => ({ 'ambient.istio.io/dns-capture': value });
    assert.equal(capturesDns({}, true), true);
    assert.equal(capturesDns({}, false), false);
    assert.equal(capturesDns(own('false'), true), false);
    assert.equal(capturesDns(own('TRUE'), false), true);
    assert.equal(capturesDns(own('perhaps'), false), false);
  });

  it('routes replies to spoofed sources back to the proxy', () => {
    assert.deepEqual(policyRouting('add').v4, [
      'rule add fwmark 0x111/0xfff lookup 100 pref 32764',
      'route replace local 0.0.0.0/0 dev lo table 100',
    ]);
  });
});
