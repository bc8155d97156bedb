// Addresses to sockaddr and back.
import assert from 'node:assert/strict';
import { describe, it } from 'node:test';
import fc from 'fast-check';
import { readSockaddr, writeSockaddr } from '../../../../engine/reactor/socket-address.ts';

describe('socket addresses', () => {
  it('survive the way through a sockaddr', () => {
    fc.assert(
      fc.property(fc.oneof(fc.ipV4(), fc.ipV6()), fc.nat(65_535), (address, port) => {
        writeSockaddr(address, port);
        const first = readSockaddr();
        writeSockaddr(first.address, first.port);
        assert.deepEqual(readSockaddr(), first);
        assert.equal(first.port, port);
        if (!address.includes(':')) assert.equal(first.address, address);
      }),
    );
  });

  const rows: [text: string, mapped: boolean, result: string][] = [
    ['10.0.0.1', false, '10.0.0.1'],
    ['10.0.0.1', true, '10.0.0.1'],
    ['::ffff:10.0.0.1', false, '10.0.0.1'],
    ['2001:DB8::0:1', false, '2001:db8::1'],
    ['::', false, '::'],
  ];
  for (const [text, mapped, result] of rows) {
    it(`reads ${text}${mapped ? ' (mapped)' : ''} as ${result}`, () => {
      writeSockaddr(text, 80, mapped);
      assert.deepEqual(readSockaddr(), { address: result, port: 80 });
    });
  }

  it('refuses what is not an address', () => {
    for (const text of ['', 'name', '1.2.3', '1.2.3.4.5', ':::', '300.1.1.1']) {
      assert.throws(() => writeSockaddr(text, 1), /not an ip address/);
    }
  });
});
