// Which peers a principal means where the trust domain has aliases, as Istio's control plane expands it.
import assert from 'node:assert/strict';
import { describe, it } from 'node:test';
import { expandPrincipal } from '../../../../common/resources/trust-domain.ts';

const SA = 'ns/foo/sa/bar';

describe('principals and trust domain aliases', () => {
  const rows: readonly (readonly [string, string, readonly string[], readonly string[]])[] = [
    ['no aliases', `td/${SA}`, ['td'], [`td/${SA}`]],
    ['the own one', `td/${SA}`, ['td', 'old'], [`td/${SA}`, `old/${SA}`]],
    ['an alias', `old/${SA}`, ['td', 'old'], [`td/${SA}`, `old/${SA}`]],
    ['cluster.local', `cluster.local/${SA}`, ['td', 'old'], [`td/${SA}`, `old/${SA}`]],
    ['another', `elsewhere/${SA}`, ['td', 'old'], [`elsewhere/${SA}`]],
    ['any', '*', ['td', 'old'], ['*']],
    ['any, with a path', `*/${SA}`, ['td', 'old'], [`*/${SA}`]],
    ['a suffix', '*/sa/bar', ['td', 'old'], ['*/sa/bar']],
    ['a prefix', 'td/ns/foo/*', ['td', 'old'], ['td/ns/foo/*', 'old/ns/foo/*']],
    ['a part of both', `*-td/${SA}`, ['new-td', 'old-td'], [`*-td/${SA}`]],
    ['a part of one', `*-td/${SA}`, ['new-td', 'old'], [`*-td/${SA}`, `old/${SA}`]],
    ['a part of none', `*-xy/${SA}`, ['new-td', 'old'], [`*-xy/${SA}`]],
    ['no path', 'td', ['td', 'old'], ['td']],
  ];
  for (const [name, principal, domains, expected] of rows) {
    it(`${name}: ${principal} in ${domains.join(', ')}`, () => {
      assert.deepEqual(expandPrincipal(principal, domains), expected);
    });
  }
});
