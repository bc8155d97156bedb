// The PROXY v2 header, byte by byte.
import assert from 'node:assert/strict';
import { describe, it } from 'node:test';
import { encodeProxyHeader } from '../../../../common/hbone/proxy-protocol.ts';

const SIGNATURE = '0d0a0d0a000d0a515549540a';
const identity = 'spiffe://td/ns/a/sa/b';
const TLV = `d00015${Buffer.from(identity).toString('hex')}`;

describe('encodeProxyHeader', () => {
  const rows = [
    {
      name: 'ipv4 without identity',
      source: '10.0.0.1',
      destination: '10.0.0.2',
      identity: undefined,
      wanted: `2111000c0a0000010a00000203e80050`,
    },
    {
      name: 'ipv4 with identity',
      source: '10.0.0.1',
      destination: '10.0.0.2',
      identity,
      wanted: `211100240a0000010a00000203e80050${TLV}`,
    },
    {
      name: 'ipv6',
      source: 'fd00::1',
      destination: 'fd00::2',
      identity,
      wanted: `2121003cfd000000000000000000000000000001fd00000000000000000000000000000203e80050${TLV}`,
    },
    {
      name: 'mixed families are written as ipv6',
      source: '10.0.0.1',
      destination: 'fd00::2',
      identity: undefined,
      wanted: `2121002400000000000000000000ffff0a000001fd00000000000000000000000000000203e80050`,
    },
  ];
  for (const { name, source, destination, wanted, ...row } of rows) {
    it(name, () => {
      const from = { ip: source, port: 1000 };
      const header = encodeProxyHeader(from, { ip: destination, port: 80 }, row.identity);
      assert.equal(header.toString('hex'), SIGNATURE + wanted);
    });
  }
});
