// On-demand names of the node proxy against a real name server.
import assert from 'node:assert/strict';
import { after, before, describe, it } from 'node:test';
import { candidatesOf, HostLookup } from '../../../ztunnel/dns/host-lookup.ts';
import { parseResolvConf } from '../../../ztunnel/dns/upstream-servers.ts';
import { openDnsUpstream } from '../../support/dns-upstream.ts';
import type { DnsUpstream } from '../../support/dns-upstream.ts';
import { FakeClock } from '../../support/fake-clock.ts';

const clock = new FakeClock();
let upstream: DnsUpstream;
let isReachable = true;

before(async () => {
  upstream = await openDnsUpstream();
});

after(() => upstream.close());

function makeLookup(): HostLookup {
  return new HostLookup({
    resolvConf: () => ({
      servers: isReachable ? [{ address: '127.0.0.1', port: upstream.port }] : [],
      search: ['corp.example'],
      ndots: 1,
    }),
    isIpv6: true,
    clock,
  });
}

describe('on-demand names', () => {
  it('are asked once for all who wait, and again when their time is over', async () => {
    const lookup = makeLookup();
    upstream.seen.length = 0;
    const answers = await Promise.all([1, 2, 3].map(() => lookup.lookup('API.example.com')));
    for (const answer of answers)
      assert.deepEqual(answer, { addresses: ['192.0.2.1'], ttlMs: 7000 });
    assert.equal(upstream.seen.length, 2); // A and AAAA
    await clock.advance(5000);
    assert.deepEqual(await lookup.lookup('api.example.com'), {
      addresses: ['192.0.2.1'],
      ttlMs: 2000,
    });
    assert.equal(upstream.seen.length, 2);
    await clock.advance(2000);
    await lookup.lookup('api.example.com');
    assert.equal(upstream.seen.length, 4);
  });

  it('have no addresses when they do not exist, under no search domain either', async () => {
    upstream.seen.length = 0;
    const { addresses, ttlMs } = await makeLookup().lookup('nx.example.com');
    assert.deepEqual(addresses, []);
    assert.ok(ttlMs > 0);
    assert.ok(upstream.seen.some(({ name }) => name === 'nx.example.com.corp.example'));
  });

  it('keep their addresses while no name server answers, but not for ever', async () => {
    const lookup = makeLookup();
    await lookup.lookup('api.example.com');
    isReachable = false;
    try {
      await clock.advance(10_000);
      assert.deepEqual((await lookup.lookup('api.example.com')).addresses, ['192.0.2.1']);
      await clock.advance(4_000_000);
      assert.deepEqual((await lookup.lookup('api.example.com')).addresses, []);
    } finally {
      isReachable = true;
    }
    await clock.advance(10_000);
    assert.deepEqual((await lookup.lookup('api.example.com')).addresses, ['192.0.2.1']);
  });

  it('are asked again when their time is over, also when the clock was set back or forward', async () => {
    for (const jumpMs of [-3_600_000, 3_600_000]) {
      const lookup = makeLookup();
      await lookup.lookup('api.example.com');
      clock.jump(jumpMs);
      upstream.seen.length = 0;
      assert.equal((await lookup.lookup('api.example.com')).ttlMs, 7000);
      assert.equal(upstream.seen.length, 0, 'its time is not over');
      await clock.advance(7000);
      await lookup.lookup('api.example.com');
      assert.equal(upstream.seen.length, 2, `after a jump of ${jumpMs} ms`);
    }
  });

  const rows: [string, string, string[]][] = [
    ['search a b\noptions ndots:2', 'x.y', ['x.y.a', 'x.y.b', 'x.y']],
    ['search a b\noptions ndots:2', 'x.y.z', ['x.y.z', 'x.y.z.a', 'x.y.z.b']],
    ['search a', 'x.', ['x']],
    ['domain a', 'x', ['x.a', 'x']],
    ['', '10.0.0.1', []],
  ];
  for (const [text, name, expected] of rows) {
    it(`${name} with ${JSON.stringify(text)} is looked for as ${expected.join(', ')}`, () => {
      const { search, ndots } = parseResolvConf(text);
      assert.deepEqual(candidatesOf(name, search, ndots), expected);
    });
  }
});
