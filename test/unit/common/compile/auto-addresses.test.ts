import assert from 'node:assert/strict';
import { describe, it } from 'node:test';
import { allocateAddresses } from '../../../../common/compile/auto-addresses.ts';
import { compile } from '../../../../common/compile/compile.ts';
import type { ConfigObject } from '../../../../common/compile/types.ts';
import { formatIp } from '../../../../common/workload/ip.ts';
import { makeConfig, MESH } from '../../../support/kube-objects.ts';

const SPEC = { ports: [{ number: 443, name: 'tls', protocol: 'TLS' }], resolution: 'DNS' };

function entry(name: string, spec: object = {}, more: object = {}): ConfigObject {
  const made = makeConfig(name, { ...SPEC, hosts: [`${name}.example.com`], ...spec });
  return { ...made, ...more };
}

/** Writes what was allocated into the objects, as the control plane does. */
function settle(objects: readonly ConfigObject[]): ConfigObject[] {
  const updates = allocateAddresses(objects);
  return objects.map((object) => {
    const found = updates.find(({ name }) => name === object.metadata?.name);
    return found === undefined ? object : { ...object, status: { addresses: found.addresses } };
  });
}

function addressesOf(object: ConfigObject | undefined): string[] {
  const { addresses = [] } = (object?.status ?? {}) as { addresses?: { value: string }[] };
  return addresses.map(({ value }) => value);
}

describe('automatic addresses', () => {
  it('gives each host one of each family, once and for all', () => {
    const [settled] = settle([entry('api', { hosts: ['a.example.com', 'b.example.com'] })]);
    const found = addressesOf(settled);
    assert.equal(new Set(found).size, 4);
    assert.ok(found.every((ip, at) => ip.startsWith(at % 2 === 0 ? '240.240.' : '2001:2::')));
    assert.deepEqual(allocateAddresses(settled === undefined ? [] : [settled]), []);
    assert.deepEqual(
      addressesOf(settle([entry('api', { hosts: ['a.example.com', 'b.example.com'] })])[0]),
      found,
    );
  });

  it('gives 3,000 hosts different addresses, and a new one disturbs none', () => {
    const many = settle(Array.from({ length: 3000 }, (_, i) => entry(`h${i}`)));
    assert.equal(new Set(many.flatMap(addressesOf)).size, 6000);
    const updates = allocateAddresses([...many, entry('new')]);
    assert.deepEqual(
      updates.map(({ name }) => name),
      ['new'],
    );
  });

  const without: [string, ConfigObject][] = [
    ['addresses of its own', entry('x', { addresses: ['10.1.1.1'] })],
    ['resolution NONE', entry('x', { resolution: 'NONE' })],
    ['a wildcard host', entry('x', { hosts: ['*.example.com'] })],
    ['no valid spec', entry('x', { hosts: [] })],
    [
      'the label against it',
      entry(
        'x',
        {},
        {
          metadata: {
            name: 'x',
            namespace: 'app',
            labels: { 'networking.istio.io/enable-autoallocate-ip': 'false' },
          },
        },
      ),
    ],
  ];
  for (const [what, object] of without) {
    it(`gives none to an entry with ${what}, and takes back what it had`, () => {
      assert.deepEqual(allocateAddresses([object]), []);
      const status = { addresses: [{ value: '240.240.0.9', host: 'x.example.com' }] };
      assert.deepEqual(allocateAddresses([{ ...object, status }])[0]?.addresses, []);
    });
  }

  it('lets the older keep an address that two hold', () => {
    const status = (name: string) => ({
      addresses: [
        { value: '240.240.0.9', host: `${name}.example.com` },
        { value: '2001:2::9', host: `${name}.example.com` },
      ],
    });
    const at = (name: string, year: number) => ({
      metadata: { name, namespace: 'app', creationTimestamp: `${year}-01-01T00:00:00Z` },
      status: status(name),
    });
    const updates = allocateAddresses([
      entry('young', {}, at('young', 2025)),
      entry('old', {}, at('old', 2024)),
    ]);
    assert.deepEqual(
      updates.map(({ name }) => name),
      ['young'],
    );
    assert.notEqual(updates[0]?.addresses[0]?.value, '240.240.0.9');
  });

  it('survives any status', () => {
    for (const status of [
      null,
      7,
      { addresses: 7 },
      { addresses: [null, { value: 7 }, { value: '240.240.999.1', host: 'x.example.com' }] },
    ]) {
      assert.equal(allocateAddresses([entry('x', {}, { status })]).length, 1);
    }
  });

  it('are what node proxies are told', () => {
    const [settled] = settle([entry('api')]);
    assert.ok(settled);
    const output = compile({ mesh: MESH, serviceEntries: [settled] });
    const type = output.addresses.get('app/api.example.com')?.type;
    const told = type?.case === 'service' ? type.value.addresses : [];
    assert.deepEqual(
      told.map(({ address }) => formatIp(address)),
      addressesOf(settled),
    );
    const before = compile({ mesh: MESH, serviceEntries: [entry('api')] });
    assert.ok(before.addresses.has('app/api.example.com'));
    assert.deepEqual(
      before.verdicts.filter(({ enforcedAt }) => enforcedAt === 'nowhere'),
      [],
    );
  });
});
