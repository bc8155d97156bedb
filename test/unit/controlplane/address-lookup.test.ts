// What a client that asks on demand means by a name, and what it is sent unasked.
import assert from 'node:assert/strict';
import { describe, it } from 'node:test';
import { create } from '@bufbuild/protobuf';
import { AddressSchema } from '../../../common/workload/gen/workload_pb.ts';
import type { Address } from '../../../common/workload/gen/workload_pb.ts';
import { parseIp } from '../../../common/workload/ip.ts';
import { addressLookup } from '../../../controlplane/serve/address-lookup.ts';

const bytes = (ip: string): Uint8Array => parseIp(ip) ?? assert.fail(ip);

function workload(uid: string, ip: string, node: string, ...services: string[]): [string, Address] {
  const value = {
    ...{ uid, node, network: 'n', addresses: [bytes(ip)] },
    services: Object.fromEntries(services.map((key) => [key, { ports: [] }])),
  };
  return [uid, create(AddressSchema, { type: { case: 'workload', value } })];
}

function service(name: string, ip: string, length?: number): [string, Address] {
  const address = { network: 'n', address: bytes(ip), ...(length !== undefined && { length }) };
  const value = { name, namespace: 'ns', hostname: name, addresses: [address] };
  return [`ns/${name}`, create(AddressSchema, { type: { case: 'service', value } })];
}

const { lookup, unasked } = addressLookup(
  new Map([
    service('web', '10.96.0.1'),
    service('range', '192.0.2.0', 24),
    service('v6', 'fd00::1:0', 112),
    workload('a', '10.0.0.1', 'one', 'ns/web'),
    workload('b', '10.0.0.2', 'two', 'ns/web', 'ns/range'),
    workload('c', 'fd00::5', ''),
  ]),
);

describe('lookup of addresses on demand', () => {
  for (const [name, expected] of [
    ['n/10.0.0.1', ['a']],
    ['n/fd00::5', ['c']],
    ['n/10.96.0.1', ['ns/web', 'a', 'b']],
    ['ns/web', ['ns/web', 'a', 'b']],
    ['n/192.0.2.9', ['ns/range', 'b']],
    ['n/fd00::1:9', ['ns/v6']],
    ['n/192.0.3.9', []],
    ['other/10.0.0.1', []],
    ['other/192.0.2.9', []],
    ['nothing', []],
  ] as const) {
    it(`${name} is ${expected.join(', ') || 'nothing'}`, () => {
      assert.deepEqual([...lookup(name)].sort(), [...expected].sort());
    });
  }

  it('a node is sent its workloads and their services', () => {
    const of = (metadata: Record<string, unknown>): string[] => [...unasked({ id: '', metadata })];
    assert.deepEqual(of({ NODE_NAME: 'two' }).sort(), ['b', 'ns/range', 'ns/web']);
    assert.deepEqual(of({ NODE_NAME: '' }), []);
    assert.deepEqual(of({}), []);
  });
});
