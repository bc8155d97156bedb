// Route matching as VirtualService and HTTPRoute define it, rewrites, redirects, header operations.
import assert from 'node:assert/strict';
import { describe, it } from 'node:test';
import { fromJson } from '@bufbuild/protobuf';
import {
  HeaderOpsSchema,
  PortRoutesSchema,
  RedirectSchema,
  RewriteSchema,
  RouteMatchSchema,
} from '../../../../common/l7/gen/l7_pb.ts';
import type { WeightedCluster } from '../../../../common/l7/gen/l7_pb.ts';
import {
  applyHeaderOps,
  authorityFromOps,
  redirectLocation,
  rewritePath,
} from '../../../../common/l7/header-ops.ts';
import { normalizePath } from '../../../../common/l7/request.ts';
import type { RequestView } from '../../../../common/l7/request.ts';
import {
  compileRouteTable,
  matchRoute,
  pickWeightedCluster,
} from '../../../../common/l7/route-table.ts';
import type { RouteTable } from '../../../../common/l7/route-table.ts';

type Json = Parameters<typeof fromJson>[1];

function table(...matches: Json[]): RouteTable {
  return compileRouteTable(
    fromJson(PortRoutesSchema, {
      servicePort: 80,
      routes: matches.map((match, at) => ({
        name: `r${at}`,
        matches: match === null ? [] : [match],
        forward: {},
      })),
    }),
  );
}

function request(more: Partial<RequestView> = {}): RequestView {
  return { method: 'GET', scheme: 'http', authority: 'web', path: '/', headers: [], ...more };
}

describe('matchRoute', () => {
  const rows: [name: string, match: Json, request: Partial<RequestView>, expected: boolean][] = [
    ['no match at all matches everything', null, {}, true],
    ['an exact path', { path: { exact: '/a' } }, { path: '/a' }, true],
    ['an exact path without the query', { path: { exact: '/a' } }, { path: '/a?b=c' }, true],
    ['not a longer path', { path: { exact: '/a' } }, { path: '/a/b' }, false],
    ['a plain prefix inside a segment', { path: { prefix: '/foo' } }, { path: '/foobar' }, true],
    [
      'a segment prefix itself',
      { path: { prefix: '/foo', pathSegments: true } },
      { path: '/foo' },
      true,
    ],
    [
      'a segment prefix with more',
      { path: { prefix: '/foo/', pathSegments: true } },
      { path: '/foo/x' },
      true,
    ],
    [
      'a segment prefix with a slash, asked without',
      { path: { prefix: '/foo/', pathSegments: true } },
      { path: '/foo' },
      true,
    ],
    [
      'not a segment prefix inside a segment',
      { path: { prefix: '/foo', pathSegments: true } },
      { path: '/foobar' },
      false,
    ],
    [
      'the root as segment prefix',
      { path: { prefix: '/', pathSegments: true } },
      { path: '/x' },
      true,
    ],
    ['a regex as a whole', { path: { regex: '/v[12]' } }, { path: '/v1' }, true],
    ['not a regex in part', { path: { regex: '/v[12]' } }, { path: '/v1/x' }, false],
    ['ignoring case', { path: { exact: '/ABC', ignoreCase: true } }, { path: '/abc' }, true],
    ['a method', { method: { exact: 'POST' } }, { method: 'POST' }, true],
    ['not another method', { method: { exact: 'POST' } }, {}, false],
    [
      'an authority suffix',
      { authority: { suffix: '.example' } },
      { authority: 'a.example' },
      true,
    ],
    [
      'a header',
      { headers: [{ name: 'x', value: { exact: '1' } }] },
      { headers: [['x', '1']] },
      true,
    ],
    [
      'a header that comes twice, joined',
      { headers: [{ name: 'x', value: { exact: '1,2' } }] },
      {
        headers: [
          ['x', '1'],
          ['x', '2'],
        ],
      },
      true,
    ],
    ['not an absent header', { headers: [{ name: 'x', value: { regex: '.*' } }] }, {}, false],
    [
      'presence, also when empty',
      { headers: [{ name: 'x', value: { present: true } }] },
      { headers: [['x', '']] },
      true,
    ],
    ['not presence when absent', { headers: [{ name: 'x', value: { present: true } }] }, {}, false],
    [
      'without a header',
      { headers: [{ name: 'x', value: { present: true }, invert: true }] },
      {},
      true,
    ],
    [
      'without a value, absent counts as empty',
      { headers: [{ name: 'x', value: { exact: '1' }, invert: true }] },
      {},
      true,
    ],
    [
      'not without a value that is there',
      { headers: [{ name: 'x', value: { exact: '1' }, invert: true }] },
      { headers: [['x', '1']] },
      false,
    ],
    [
      'a query parameter',
      { query: [{ name: 'a', value: { exact: 'b c' } }] },
      { path: '/?x=1&a=b%20c' },
      true,
    ],
    [
      'not a missing parameter',
      { query: [{ name: 'a', value: { present: true } }] },
      { path: '/?b' },
      false,
    ],
    [
      'a parameter without value',
      { query: [{ name: 'b', value: { present: true } }] },
      { path: '/?b' },
      true,
    ],
    [
      'all parts together',
      {
        path: { prefix: '/' },
        method: { exact: 'GET' },
        headers: [{ name: 'x', value: { exact: '1' } }],
      },
      { headers: [['x', '1']] },
      true,
    ],
    ['not when one part fails', { path: { prefix: '/' }, method: { exact: 'PUT' } }, {}, false],
  ];
  for (const [name, match, view, expected] of rows) {
    it(name, () => {
      assert.equal(matchRoute(table(match), request(view)) !== undefined, expected);
    });
  }

  it('takes the first of several that match', () => {
    const routes = table({ path: { exact: '/a' } }, { path: { prefix: '/' } }, null);
    assert.equal(matchRoute(routes, request({ path: '/a' }))?.route.name, 'r0');
    assert.equal(matchRoute(routes, request({ path: '/b' }))?.route.name, 'r1');
  });

  it('refuses bad resources with the field named', () => {
    assert.throws(
      () => table({ path: { regex: '(' } }),
      /routes\[0\]\.matches\[0\]: path: invalid regex/,
    );
    const broken = fromJson(PortRoutesSchema, { routes: [{ name: 'x' }] });
    assert.throws(() => compileRouteTable(broken), /routes\[0\]: has no action/);
    const redirect = fromJson(PortRoutesSchema, { routes: [{ redirect: { code: 299 } }] });
    assert.throws(() => compileRouteTable(redirect), /routes\[0\]\.redirect\.code: 299/);
    const header = fromJson(PortRoutesSchema, {
      routes: [{ forward: {}, requestHeaders: { set: [{ name: 'x', value: 'a\r\nb: c' }] } }],
    });
    assert.throws(() => compileRouteTable(header), /routes\[0\]: "x" is not a valid header/);
  });

  it('is linear on patterns that make backtracking engines hang', () => {
    const routes = table({ path: { regex: '/(a+)+$' } });
    const start = performance.now();
    assert.equal(matchRoute(routes, request({ path: `/${'a'.repeat(5000)}!` })), undefined);
    assert.ok(performance.now() - start < 500);
  });
});

describe('pickWeightedCluster', () => {
  const cluster = (name: string, weight: number): WeightedCluster =>
    ({ cluster: name, weight }) as WeightedCluster;

  it('follows the weights', () => {
    const clusters = [cluster('a', 90), cluster('b', 10)];
    assert.equal(pickWeightedCluster(clusters, () => 0.89)?.cluster, 'a');
    assert.equal(pickWeightedCluster(clusters, () => 0.91)?.cluster, 'b');
  });

  it('skips weight 0 among several, takes it alone', () => {
    assert.equal(pickWeightedCluster([cluster('a', 0), cluster('b', 5)], () => 0)?.cluster, 'b');
    assert.equal(pickWeightedCluster([cluster('a', 0)], () => 0)?.cluster, 'a');
    assert.equal(
      pickWeightedCluster([cluster('a', 0), cluster('b', 0)], () => 0),
      undefined,
    );
  });
});

describe('rewritePath', () => {
  const rows: [name: string, path: string, rewrite: Json, match: Json, expected: string][] = [
    [
      'a plain prefix',
      '/v1/a?q=1',
      { pathPrefix: '/v2/' },
      { path: { prefix: '/v1/' } },
      '/v2/a?q=1',
    ],
    [
      'the whole path for an exact match',
      '/a?q',
      { pathPrefix: '/b' },
      { path: { exact: '/a' } },
      '/b?q',
    ],
    [
      'a segment prefix to the root',
      '/foo/bar',
      { pathPrefix: '/' },
      { path: { prefix: '/foo', pathSegments: true } },
      '/bar',
    ],
    [
      'a segment prefix that is the whole path',
      '/foo',
      { pathPrefix: '/' },
      { path: { prefix: '/foo', pathSegments: true } },
      '/',
    ],
    [
      'a segment prefix to another',
      '/foo/bar',
      { pathPrefix: '/x/' },
      { path: { prefix: '/foo', pathSegments: true } },
      '/x/bar',
    ],
    ['the full path', '/foo?q=1', { pathFull: '/y' }, {}, '/y?q=1'],
    [
      'a regex with groups',
      '/svc/12/x',
      { regex: '/svc/(\\d+)/', substitution: '/s\\1$/' },
      {},
      '/s12$/x',
    ],
  ];
  for (const [name, path, rewrite, match, expected] of rows) {
    it(`replaces ${name}`, () => {
      const result = rewritePath(
        path,
        fromJson(RewriteSchema, rewrite),
        fromJson(RouteMatchSchema, match),
      );
      assert.equal(result, expected);
    });
  }
});

describe('redirectLocation', () => {
  const view = { scheme: 'http', authority: 'web:8080', path: '/a?q=1' };
  const rows: [redirect: Json, expected: string][] = [
    [{ code: 301 }, 'http://web:8080/a?q=1'],
    [{ code: 301, authority: 'other' }, 'http://other/a?q=1'],
    [{ code: 301, scheme: 'https' }, 'https://web/a?q=1'],
    [{ code: 301, scheme: 'https', port: 8443 }, 'https://web:8443/a?q=1'],
    [{ code: 301, port: 80 }, 'http://web/a?q=1'],
    [{ code: 301, pathFull: '/b' }, 'http://web:8080/b?q=1'],
  ];
  for (const [redirect, expected] of rows) {
    it(`leads to ${expected}`, () => {
      assert.equal(redirectLocation(fromJson(RedirectSchema, redirect), view, undefined), expected);
    });
  }
});

describe('header operations', () => {
  const ops = (json: Json): ReturnType<typeof fromJson<typeof HeaderOpsSchema>> =>
    fromJson(HeaderOpsSchema, json);

  it('removes, sets and adds, whatever the case', () => {
    const result = applyHeaderOps(
      [
        ['a', '1'],
        ['b', '2'],
        ['b', '3'],
        ['c', '4'],
      ],
      ops({ remove: ['A'], set: [{ name: 'B', value: 'x' }], add: [{ name: 'c', value: 'y' }] }),
    );
    assert.deepEqual(result, [
      ['c', '4'],
      ['b', 'x'],
      ['c', 'y'],
    ]);
  });

  it('never touches framing', () => {
    const set = [
      { name: 'Content-Length', value: '0' },
      { name: 'transfer-encoding', value: 'x' },
    ];
    assert.deepEqual(applyHeaderOps([], ops({ set })), []);
  });

  it('takes a set host as the authority', () => {
    assert.equal(authorityFromOps(ops({ set: [{ name: 'Host', value: 'h' }] })), 'h');
  });
});

describe('normalizePath', () => {
  const rows: [path: string, expected: string | undefined][] = [
    ['/a/b?x=../', '/a/b?x=../'],
    ['/a/./b', '/a/b'],
    ['/a/../b', '/b'],
    ['/a/..', '/'],
    ['/a/.', '/a/'],
    ['/../a', undefined],
    ['/%61dmin', '/admin'],
    ['/a%2fb', '/a%2Fb'],
    ['/a\\b', '/a/b'],
    ['/%2e%2e/x', undefined],
    ['/a%00', undefined],
    ['*', '*'],
    ['a', undefined],
    ['/..a/b', '/..a/b'],
  ];
  for (const [path, expected] of rows) {
    it(`${path} becomes ${String(expected)}`, () => {
      assert.equal(normalizePath(path), expected);
    });
  }
});
