import assert from 'node:assert/strict';
import { describe, it } from 'node:test';
import { countListeners } from '../../../../ztunnel/inpod/other-instance.ts';

const HEAD =
  '  sl  local_address rem_address   st tx_queue rx_queue tr tm->when retrnsmt   uid  timeout inode\n';
const REST = '00000000:00000000 00:00000000 00000000     0        0 1 1 0 100 0 0 10 0\n';

describe('who listens in a pod', () => {
  const cases: readonly (readonly [string, string, number])[] = [
    ['an empty table', HEAD, 0],
    ['no table at all', '', 0],
    ['one proxy', `${HEAD}   0: 00000000:3A99 00000000:0000 0A ${REST}`, 1],
    [
      'two proxies',
      `${HEAD}   0: 00000000:3A99 00000000:0000 0A ${REST}   1: 00000000:3A99 00000000:0000 0A ${REST}`,
      2,
    ],
    ['IPv6', `${HEAD}   0: ${'0'.repeat(32)}:3A99 ${'0'.repeat(32)}:0000 0A ${REST}`, 1],
    ['other ports', `${HEAD}   0: 00000000:3AA0 00000000:0000 0A ${REST}`, 0],
    ['a redirected connection', `${HEAD}   0: 0100007F:3A99 0100007F:A001 01 ${REST}`, 0],
    ['a connection from that port', `${HEAD}   0: 0100007F:A001 0100007F:3A99 01 ${REST}`, 0],
  ];
  for (const [name, table, count] of cases) {
    it(name, () => assert.equal(countListeners(table), count));
  }
});
