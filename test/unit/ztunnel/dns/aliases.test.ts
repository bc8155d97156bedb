import assert from 'node:assert/strict';
import { describe, it } from 'node:test';
import { aliasesOf, podSearchDomains, wildcardsOf } from '../../../../ztunnel/dns/aliases.ts';

const search = podSearchDomains('shop', 'cluster.local');

function names(asked: string): string[] {
  return aliasesOf(asked, 'shop', 'cluster.local', search).map(({ name, stripped }) =>
    stripped === undefined ? name : `${name} (${stripped})`,
  );
}

describe('aliases', () => {
  const cases: [string, string[]][] = [
    ['web', ['web', 'web.shop.svc.cluster.local']],
    ['web.pay', ['web.pay', 'web.pay.svc.cluster.local', 'web.pay.shop.svc.cluster.local']],
    ['web.pay.svc', ['web.pay.svc', 'web.pay.svc.cluster.local', 'web.pay.svc.svc.cluster.local']],
    ['a.example.com', ['a.example.com', 'a.example.com.svc.cluster.local']],
    ['db-0.db.pay.svc', ['db-0.db.pay.svc', 'db-0.db.pay.svc.cluster.local']],
    ['x.y.example.com', ['x.y.example.com']],
    [
      'example.com.shop.svc.cluster.local',
      [
        'example.com.shop.svc.cluster.local',
        'example.com (example.com)',
        'example.com.svc.cluster.local (example.com)',
      ],
    ],
    [
      'svc.cluster.local',
      [
        'svc.cluster.local',
        'svc.cluster.local.svc.cluster.local',
        'svc (svc)',
        'svc.shop.svc.cluster.local (svc)',
      ],
    ],
    [
      'cluster.local',
      ['cluster.local', 'cluster.local.svc.cluster.local', 'cluster.local.shop.svc.cluster.local'],
    ],
  ];
  for (const [asked, expected] of cases) {
    it(`${asked} may mean ${expected.length} names, the literal one first`, () => {
      const found = names(asked);
      assert.deepEqual(found.slice(0, expected.length), expected);
      assert.equal(new Set(found).size, found.length);
    });
  }

  it('takes off only whole labels of a search domain', () => {
    assert.deepEqual(
      names('examplecluster.local').filter((one) => one.includes('(')),
      [],
    );
  });

  it('uses the search domains it is given', () => {
    const found = aliasesOf('api.corp.example', 'shop', 'cluster.local', ['corp.example']);
    assert.ok(found.some(({ name, stripped }) => name === 'api' && stripped === 'api'));
  });

  it('offers the wildcards that match a name', () => {
    assert.deepEqual(wildcardsOf('a.b.c'), ['*.b.c', '*.c']);
    assert.deepEqual(wildcardsOf('a'), []);
  });
});
