// HTTPRoutes with Service parents: matching, precedence, filters, backends and what is said of each parent.
import assert from 'node:assert/strict';
import { describe, it } from 'node:test';
import { compile } from '../../../../common/compile/compile.ts';
import { buildStatus } from '../../../../common/compile/status.ts';
import type { CompileInput } from '../../../../common/compile/types.ts';
import type { Route, RouteAction } from '../../../../common/l7/gen/l7_pb.ts';
import { makeConfig, makeService, meshWithWaypoint } from '../../../support/kube-objects.ts';

const REVIEWS = 'app/reviews.app.svc.cluster.local';
const parent = (extra: object = {}): object => ({
  group: '',
  kind: 'Service',
  name: 'reviews',
  ...extra,
});
const backend = (name: string, extra: object = {}): object => ({ name, port: 80, ...extra });
const route = (...rules: object[]): object => ({ parentRefs: [parent()], rules });
const path = (value: string, type = 'PathPrefix'): object => ({ path: { type, value } });

function inputOf(spec: object, extra: Partial<CompileInput> = {}): CompileInput {
  return meshWithWaypoint({ httpRoutes: [makeConfig('r', spec)], ...extra });
}

function routesOf(spec: object, extra: Partial<CompileInput> = {}): Route[] {
  const { waypoints } = compile(inputOf(spec, extra));
  return waypoints.get('app/waypoint')?.serviceRoutes.get(REVIEWS)?.ports[0]?.routes ?? [];
}

function forwardOf(spec: object): RouteAction {
  const action = routesOf(spec)[0]?.action;
  assert.ok(action?.case === 'forward');
  return action.value;
}

describe('precedence', () => {
  it('is exact, longer prefix, method, headers, query, then rules without match', () => {
    const rules = [
      { name: 'rest' },
      { name: 'regex', matches: [path('/a.*', 'RegularExpression')] },
      { name: 'short', matches: [path('/a')] },
      { name: 'query', matches: [{ ...path('/a'), queryParams: [{ name: 'q', value: '1' }] }] },
      { name: 'header', matches: [{ ...path('/a'), headers: [{ name: 'h', value: '1' }] }] },
      { name: 'method', matches: [{ ...path('/a'), method: 'GET' }] },
      { name: 'long', matches: [path('/a/b')] },
      { name: 'exact', matches: [path('/a', 'Exact')] },
    ];
    assert.deepEqual(
      routesOf(route(...rules)).map(({ name }) => name),
      ['exact', 'long', 'method', 'header', 'query', 'short', 'regex', 'rest'],
    );
  });

  it('splits a rule with several matches', () => {
    const rule = { name: 'x', matches: [path('/a'), path('/a/b/c')] };
    assert.deepEqual(
      routesOf(route(rule)).map(({ matches }) => matches[0]?.path?.kind.value),
      ['/a/b/c', '/a'],
    );
  });

  it('older routes win over newer ones that are as specific', () => {
    const make = (name: string, created: string): ReturnType<typeof makeConfig> =>
      makeConfig(name, route({ name, matches: [path('/a')] }), { creationTimestamp: created });
    const httpRoutes = [make('new', '2026-02-01'), make('old', '2026-01-01')];
    assert.deepEqual(
      routesOf({}, { httpRoutes }).map(({ name }) => name),
      ['old', 'new'],
    );
  });
});

describe('backends', () => {
  it('share by weight; zero is out; one that does not exist keeps its share', () => {
    const rule = {
      backendRefs: [
        backend('reviews', { weight: 9 }),
        backend('ratings', { weight: 0 }),
        backend('nope', { weight: 1 }),
      ],
    };
    assert.deepEqual(
      forwardOf(route(rule)).clusters.map(({ cluster, weight }) => [cluster, weight]),
      [
        ['outbound|80||reviews.app.svc.cluster.local', 9],
        ['', 1],
      ],
    );
  });

  it('none at all, or all of weight zero, answer 500', () => {
    for (const backendRefs of [[], [backend('reviews', { weight: 0 })]]) {
      const [first] = routesOf(route({ backendRefs }));
      assert.ok(first?.action.case === 'directResponse');
      assert.equal(first.action.value.status, 500);
    }
  });
});

describe('filters', () => {
  const withFilter = (filter: object): object =>
    route({ filters: [filter], backendRefs: [backend('reviews')] });

  it('change headers', () => {
    const requestHeaderModifier = { set: [{ name: 'A', value: '1' }], remove: ['B'] };
    const [first] = routesOf(withFilter({ type: 'RequestHeaderModifier', requestHeaderModifier }));
    assert.equal(first?.requestHeaders?.set[0]?.name, 'a');
    assert.deepEqual(first.requestHeaders.remove, ['b']);
  });

  it('redirect', () => {
    const requestRedirect = {
      hostname: 'h',
      scheme: 'https',
      statusCode: 301,
      path: { type: 'ReplacePrefixMatch', replacePrefixMatch: '/x' },
    };
    const [first] = routesOf(route({ filters: [{ type: 'RequestRedirect', requestRedirect }] }));
    assert.ok(first?.action.case === 'redirect');
    const { code, authority, scheme, pathPrefix, port } = first.action.value;
    assert.deepEqual(
      [code, authority, scheme, pathPrefix, port],
      [301, 'h', 'https', '/x', undefined],
    );
  });

  it('rewrite and mirror', () => {
    const urlRewrite = { path: { type: 'ReplaceFullPath', replaceFullPath: '/y' } };
    assert.equal(forwardOf(withFilter({ type: 'URLRewrite', urlRewrite })).rewrite?.pathFull, '/y');
    const requestMirror = {
      backendRef: backend('ratings'),
      fraction: { numerator: 1, denominator: 4 },
    };
    const { mirrors } = forwardOf(withFilter({ type: 'RequestMirror', requestMirror }));
    assert.deepEqual(
      mirrors.map(({ cluster, percent }) => [cluster, percent]),
      [['outbound|80||ratings.app.svc.cluster.local', 25]],
    );
  });

  it('that are not served answer 500, and say so', () => {
    const spec = withFilter({ type: 'ExtensionRef', extensionRef: { name: 'x' } });
    const [first] = routesOf(spec);
    assert.equal(first?.action.case, 'directResponse');
    const { verdicts } = compile(inputOf(spec));
    assert.ok(
      verdicts.some(
        ({ field, reason }) =>
          field === 'spec.rules[0].filters[0]' && reason === 'UnsupportedValue',
      ),
    );
  });
});

describe('timeouts and retries', () => {
  it('limit the request, and each try when there are several', () => {
    const backendRefs = [backend('reviews')];
    const timeouts = { request: '10s', backendRequest: '2s' };
    const { timeoutMs, retry } = forwardOf(route({ backendRefs, timeouts }));
    assert.deepEqual([timeoutMs, retry?.perTryTimeoutMs, retry?.attempts], [10_000, 2000, 2]);
    const once = forwardOf(route({ backendRefs, timeouts, retry: { attempts: 0 } }));
    assert.deepEqual([once.timeoutMs, once.retry?.attempts], [2000, 0]);
    const coded = forwardOf(route({ backendRefs, retry: { codes: [500], attempts: 1 } }));
    assert.deepEqual(coded.retry?.statusCodes, [500]);
    assert.ok(coded.retry.retryOn.includes('retriable-status-codes'));
  });
});

describe('parents', () => {
  const status = (spec: object, extra: Partial<CompileInput> = {}): string[] => {
    const input = inputOf(spec, extra);
    const update = buildStatus(input, compile(input)).find(({ kind }) => kind === 'HTTPRoute');
    return (update?.parents ?? []).flatMap(({ conditions }) =>
      conditions.map((entry) => [entry.type, entry.status, entry.reason].join(' ')),
    );
  };
  const plain = { backendRefs: [backend('reviews')] };
  const bare = { namespaces: [{ metadata: { name: 'app' } }] };
  const resolved = 'ResolvedRefs True ResolvedRefs';
  const rows: readonly (readonly [string, object, Partial<CompileInput>, string[]])[] = [
    ['bound', route(plain), {}, ['Accepted True Accepted', resolved]],
    ['no waypoint', route(plain), bare, ['Accepted False NoWaypoint', resolved]],
    [
      'unknown service',
      { parentRefs: [parent({ name: 'x' })], rules: [plain] },
      {},
      ['Accepted False NoMatchingParent', resolved],
    ],
    [
      'unknown port',
      { parentRefs: [parent({ port: 99 })], rules: [plain] },
      {},
      ['Accepted False NoMatchingParent', resolved],
    ],
    [
      'unknown backend',
      route({ backendRefs: [backend('x')] }),
      {},
      ['Accepted True Accepted', 'ResolvedRefs False BackendNotFound'],
    ],
    [
      'backend of another kind',
      route({ backendRefs: [backend('x', { kind: 'Bucket', group: 'g' })] }),
      {},
      ['Accepted True Accepted', 'ResolvedRefs False InvalidKind'],
    ],
    [
      'bad value',
      route({ matches: [path('x')] }),
      {},
      ['Accepted False UnsupportedValue', resolved],
    ],
    ['a gateway parent is left to its controller', { parentRefs: [{ name: 'gw' }] }, {}, []],
  ];
  for (const [name, spec, extra, expected] of rows) {
    it(name, () => assert.deepEqual(status(spec, extra), expected));
  }

  it('a parent port limits the route to it', () => {
    const services = [
      makeService('reviews', {
        ports: [
          { name: 'http', port: 80 },
          { name: 'http-alt', port: 81 },
        ],
      }),
    ];
    const spec = { parentRefs: [parent({ port: 81 })], rules: [{ name: 'x', ...plain }] };
    const { waypoints } = compile(inputOf(spec, { services }));
    const ports = waypoints.get('app/waypoint')?.serviceRoutes.get(REVIEWS)?.ports ?? [];
    assert.deepEqual(
      ports.map(({ routes }) => routes[0]?.name),
      ['default', 'x'],
    );
  });
});
