import assert from 'node:assert/strict';
import { describe, it } from 'node:test';
import { countRedirected, decodeAddress } from '../../../../cni/agent/redirected-connections.ts';

const HEADER = '  sl  local_address rem_address   st tx_queue rx_queue\n';
const OWN = new Set(['10.200.1.4', '127.0.0.1', '0.0.0.0']);
// 0401C80A is 10.200.1.4, 0402C80A is 10.200.2.4; 3A99 is 15001, 3A9E 15006, 3AA0 15008, 1F90 8080.
const ROWS: readonly (readonly [string, string, number])[] = [
  ['an outbound connection at the proxy', '0401C80A:3A99 0401C80A:9C40 01', 1],
  ['an inbound plaintext connection at the proxy', '0401C80A:3A9E 0402C80A:9C40 01', 1],
  ['the connection from the proxy to the application', '0402C80A:9C40 0401C80A:1F90 01', 1],
  ['one that is being closed', '0401C80A:3A99 0401C80A:9C40 08', 1],
  ['a listener', '00000000:3A99 00000000:0000 0A', 0],
  ['the remains of a closed one', '0401C80A:3A99 0401C80A:9C40 06', 0],
  ['a pooled tunnel', '0401C80A:3AA0 0402C80A:9C40 01', 0],
  ['a connection of the application itself', '0401C80A:1F90 0402C80A:9C40 01', 0],
];

describe('redirected connections', () => {
  for (const [name, line, count] of ROWS) {
    it(`counts ${count} for ${name}`, () => {
      assert.equal(countRedirected(`${HEADER}   0: ${line} 00000000:00000000`, OWN), count);
    });
  }

  it('reads mapped addresses of dual-stack sockets', () => {
    assert.equal(decodeAddress('0000000000000000FFFF00000401C80A'), '10.200.1.4');
    assert.equal(decodeAddress('000080FE00000000FF12006E0FB3A8FE').length, 32);
  });
});
