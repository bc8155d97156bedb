// VirtualServices at a waypoint: which requests go where, by compiling and then matching as the waypoint does.
import assert from 'node:assert/strict';
import { describe, it } from 'node:test';
import { compile } from '../../../../common/compile/compile.ts';
import type { CompileInput, ConfigObject, Verdict } from '../../../../common/compile/types.ts';
import {
  PortProtocol,
  type PortRoutes,
  type Route,
  type RouteAction,
} from '../../../../common/l7/gen/l7_pb.ts';
import { compileRouteTable, matchRoute } from '../../../../common/l7/route-table.ts';
import {
  MESH,
  makeConfig,
  makePod,
  makeService,
  makeWaypoint,
  meshWithWaypoint,
} from '../../../support/kube-objects.ts';

const REVIEWS = 'app/reviews.app.svc.cluster.local';
const cluster = (host: string, port = 80, subset = ''): string =>
  `outbound|${port}|${subset}|${host}.app.svc.cluster.local`;
const to = (host: string, extra: object = {}): object => ({ destination: { host, ...extra } });
const http = (...routes: object[]): object => ({ hosts: ['reviews'], http: routes });
const virtual = (...specs: object[]): Partial<CompileInput> => ({
  virtualServices: specs.map((spec, index) => makeConfig(`vs${index}`, spec)),
});
const subsets = (...names: string[]): Partial<CompileInput> => ({
  destinationRules: [
    makeConfig('reviews', {
      host: 'reviews',
      subsets: names.map((name) => ({ name, labels: { version: name } })),
    }),
  ],
});

function portOf(input: CompileInput, key = REVIEWS, waypoint = 'app/waypoint'): PortRoutes {
  const [port] = compile(input).waypoints.get(waypoint)?.serviceRoutes.get(key)?.ports ?? [];
  assert.ok(port);
  return port;
}

function routesOf(extra: Partial<CompileInput>): Route[] {
  return portOf(meshWithWaypoint(extra)).routes;
}

function forwardOf(extra: Partial<CompileInput>, index = 0): RouteAction {
  const action = routesOf(extra)[index]?.action;
  assert.ok(action?.case === 'forward');
  return action.value;
}

function verdictsOf(extra: Partial<CompileInput>, kind = 'VirtualService'): string[] {
  const { verdicts } = compile(meshWithWaypoint(extra));
  return verdicts.filter((verdict) => verdict.kind === kind).map(brief);
}

const brief = (verdict: Verdict): string =>
  `${verdict.field} ${verdict.enforcedAt} ${verdict.reason}`;

interface Sample {
  readonly path?: string;
  readonly method?: string;
  readonly authority?: string;
  readonly headers?: readonly [string, string][];
}

describe('requests', () => {
  const spec = (match: object): Partial<CompileInput> =>
    virtual(http({ match: [match], route: [to('ratings')] }, { route: [to('reviews')] }));
  const rows: readonly (readonly [string, object, Sample, boolean])[] = [
    ['an exact path', { uri: { exact: '/a' } }, { path: '/a?x=1' }, true],
    ['an exact path is not a prefix', { uri: { exact: '/a' } }, { path: '/ab' }, false],
    ['a prefix', { uri: { prefix: '/a' } }, { path: '/ab' }, true],
    ['a regex matches all of the path', { uri: { regex: '/a+' } }, { path: '/aab' }, false],
    ['ignoring case', { uri: { prefix: '/A' }, ignoreUriCase: true }, { path: '/ab' }, true],
    ['a method', { method: { exact: 'POST' } }, { method: 'POST' }, true],
    ['another method', { method: { exact: 'POST' } }, { method: 'GET' }, false],
    ['an authority', { authority: { prefix: 'x' } }, { authority: 'x.y' }, true],
    [
      'a header',
      { headers: { 'End-User': { exact: 'j' } } },
      { headers: [['end-user', 'j']] },
      true,
    ],
    ['another header value', { headers: { a: { exact: 'j' } } }, { headers: [['a', 'k']] }, false],
    ['a header that is there', { headers: { a: {} } }, { headers: [['a', '']] }, true],
    ['a header that is not there', { headers: { a: { regex: '*' } } }, {}, false],
    ['without a header', { withoutHeaders: { a: {} } }, {}, true],
    [
      'without a header value',
      { withoutHeaders: { a: { exact: 'x' } } },
      { headers: [['a', 'x']] },
      false,
    ],
    ['a query parameter', { queryParams: { v: { exact: '1' } } }, { path: '/?v=1' }, true],
    ['another query parameter', { queryParams: { v: { exact: '1' } } }, { path: '/?w=1' }, false],
    ['all conditions are needed', { uri: { prefix: '/' }, method: { exact: 'PUT' } }, {}, false],
    ['this port', { port: 80 }, {}, true],
    ['another port', { port: 81 }, {}, false],
    ['another gateway', { gateways: ['ingress'] }, {}, false],
    ['the mesh gateway', { gateways: ['ingress', 'mesh'] }, {}, true],
    ["the waypoint's namespace", { sourceNamespace: 'app' }, {}, true],
    ['another namespace', { sourceNamespace: 'other' }, {}, false],
    ['source labels never match', { sourceLabels: { app: 'x' } }, {}, false],
  ];
  for (const [name, match, sample, expected] of rows) {
    it(`${name}: ${expected ? 'matched' : 'not matched'}`, () => {
      const table = compileRouteTable(portOf(meshWithWaypoint(spec(match))));
      const choice = matchRoute(table, {
        method: sample.method ?? 'GET',
        path: sample.path ?? '/',
        authority: sample.authority ?? 'reviews',
        scheme: 'http',
        headers: sample.headers ?? [],
      });
      const action = choice?.route.action;
      const chosen = action?.case === 'forward' ? action.value.clusters[0]?.cluster : undefined;
      assert.equal(chosen, cluster(expected ? 'ratings' : 'reviews'));
    });
  }
});

describe('actions', () => {
  it('without a VirtualService everything goes to the service, retried twice', () => {
    const [route] = routesOf({});
    assert.equal(route?.name, 'default');
    const { clusters, retry } = forwardOf({});
    assert.deepEqual(
      clusters.map((entry) => entry.cluster),
      [cluster('reviews')],
    );
    assert.equal(retry?.attempts, 2);
    assert.deepEqual(retry.retryOn, [
      'connect-failure',
      'refused-stream',
      'unavailable',
      'cancelled',
    ]);
  });

  it('weights choose among subsets', () => {
    const route = [
      { ...to('reviews', { subset: 'v1' }), weight: 90 },
      { ...to('reviews', { subset: 'v2' }), weight: 10 },
      { ...to('ratings'), weight: 0 },
    ];
    const extra = { ...virtual(http({ route })), ...subsets('v1', 'v2') };
    assert.deepEqual(
      forwardOf(extra).clusters.map((entry) => [entry.cluster, entry.weight]),
      [
        [cluster('reviews', 80, 'v1'), 90],
        [cluster('reviews', 80, 'v2'), 10],
      ],
    );
    const config = compile(meshWithWaypoint(extra)).waypoints.get('app/waypoint');
    assert.deepEqual(config?.subsetMembers.get(cluster('reviews', 80, 'v2'))?.workloadUids, [
      'Kubernetes//Pod/app/reviews-v2',
    ]);
    assert.equal(config.clusters.get(cluster('reviews', 80, 'v2'))?.hasMembers, true);
  });

  it('a single destination takes all, whatever its weight', () => {
    const { clusters } = forwardOf(virtual(http({ route: [{ ...to('reviews'), weight: 0 }] })));
    assert.equal(clusters[0]?.weight, 1);
  });

  it('a destination not bound to the waypoint has a cluster as well', () => {
    const services = [makeService('reviews'), makeService('far', { namespace: 'other' })];
    const extra = {
      ...virtual(http({ route: [to('far.other.svc.cluster.local')] })),
      services,
    };
    const config = compile(meshWithWaypoint(extra)).waypoints.get('app/waypoint');
    const name = 'outbound|80||far.other.svc.cluster.local';
    assert.equal(config?.clusters.get(name)?.namespace, 'other');
  });

  it('timeouts, retries, faults and header operations are carried over', () => {
    const route = {
      route: [{ ...to('reviews'), headers: { request: { set: { A: '1' } } } }],
      timeout: '1.5s',
      retries: { attempts: 3, perTryTimeout: '200ms', retryOn: '5xx,503', backoff: '50ms' },
      fault: {
        delay: { fixedDelay: '2s', percentage: { value: 10 } },
        abort: { httpStatus: 503 },
      },
      headers: {
        request: { add: { 'X-A': 'a' }, remove: ['X-B'] },
        response: { set: { server: 'me' } },
      },
    };
    const [first] = routesOf(virtual(http(route)));
    const action = forwardOf(virtual(http(route)));
    assert.equal(action.timeoutMs, 1500);
    assert.equal(action.retry?.attempts, 3);
    assert.equal(action.retry.perTryTimeoutMs, 200);
    assert.equal(action.retry.backoffBaseMs, 50);
    assert.deepEqual(action.retry.retryOn, ['5xx', 'retriable-status-codes']);
    assert.deepEqual(action.retry.statusCodes, [503]);
    assert.equal(first?.fault?.delayMs, 2000);
    assert.equal(first.fault.delayPercent, 10);
    assert.equal(first.fault.abortPercent, 100);
    assert.equal(first.requestHeaders?.add[0]?.name, 'x-a');
    assert.deepEqual(first.requestHeaders.remove, ['x-b']);
    assert.equal(first.responseHeaders?.set[0]?.value, 'me');
    assert.equal(action.clusters[0]?.requestHeaders?.set[0]?.name, 'a');
    assert.equal(first.source, 'VirtualService/app/vs0');
  });

  it('zero attempts turn retries off', () => {
    const route = { route: [to('reviews')], retries: { attempts: 0 } };
    assert.equal(forwardOf(virtual(http(route))).retry?.attempts, 0);
  });

  it('rewrites the prefix, the authority, or by expression', () => {
    const rewriteOf = (extra: object): RouteAction['rewrite'] =>
      forwardOf(virtual(http({ route: [to('reviews')], ...extra }))).rewrite;
    assert.equal(rewriteOf({ rewrite: { uri: '/x' } })?.pathPrefix, '/x');
    assert.equal(rewriteOf({ rewrite: { authority: 'h' } })?.authority, 'h');
    assert.equal(rewriteOf({ headers: { request: { set: { Host: 'h' } } } })?.authority, 'h');
    const regex = rewriteOf({ rewrite: { uriRegexRewrite: { match: '/(.)', rewrite: '/\\1' } } });
    assert.equal(regex?.regex, '/(.)');
    assert.equal(regex.substitution, '/\\1');
  });

  it('redirects and answers directly', () => {
    const [redirect] = routesOf(
      virtual(http({ redirect: { uri: '/x', derivePort: 'FROM_REQUEST_PORT' } })),
    );
    assert.ok(redirect?.action.case === 'redirect');
    assert.deepEqual(
      [redirect.action.value.code, redirect.action.value.pathFull, redirect.action.value.port],
      [301, '/x', 80],
    );
    const [direct] = routesOf(
      virtual(http({ directResponse: { status: 418, body: { string: 't' } } })),
    );
    assert.ok(direct?.action.case === 'directResponse');
    assert.equal(direct.action.value.status, 418);
    assert.deepEqual(direct.action.value.body, new TextEncoder().encode('t'));
  });

  it('mirrors a share of the traffic', () => {
    const route = {
      route: [to('reviews')],
      mirror: { host: 'ratings' },
      mirrorPercentage: { value: 5 },
    };
    assert.deepEqual(
      forwardOf(virtual(http(route))).mirrors.map((mirror) => [mirror.cluster, mirror.percent]),
      [[cluster('ratings'), 5]],
    );
  });
});

describe('order', () => {
  const named = (name: string, created: string, spec: object): ConfigObject =>
    makeConfig(name, spec, { creationTimestamp: `${created}T00:00:00Z` });
  const only = (path: string, extra: object = {}): object => ({
    ...http({ name: path, match: [{ uri: { exact: path } }], route: [to('reviews')] }),
    ...extra,
  });
  const namesOf = (...virtualServices: ConfigObject[]): string[] =>
    routesOf({ virtualServices }).map((route) => route.name);

  it('is by age, then private before public', () => {
    assert.deepEqual(
      namesOf(named('b', '2026-02-01', only('/b')), named('a', '2026-01-01', only('/a'))),
      ['/a', '/b'],
    );
    assert.deepEqual(
      namesOf(
        named('a', '2026-01-01', only('/a')),
        named('b', '2026-02-01', only('/b', { exportTo: ['.'] })),
      ),
      ['/b', '/a'],
    );
  });

  it('nothing follows a route that takes everything, and that is said', () => {
    const extra = virtual(http({ name: 'all', route: [to('reviews')] }), only('/never'));
    assert.deepEqual(
      routesOf(extra).map((route) => route.name),
      ['all'],
    );
    assert.ok(verdictsOf(extra).includes('spec.http[0] nowhere Shadowed'));
  });

  it('a prefix of / takes everything too', () => {
    const all = http({ match: [{ uri: { prefix: '/' } }], route: [to('reviews')] });
    assert.equal(routesOf(virtual(all, only('/never'))).length, 1);
  });
});

describe('what has no effect', () => {
  const plain = { hosts: ['reviews'], http: [{ route: [to('reviews')] }] };
  const bare = (extra: Partial<CompileInput>): Partial<CompileInput> => ({
    namespaces: [{ metadata: { name: 'app' } }],
    ...virtual(plain),
    ...extra,
  });
  const rows: readonly (readonly [string, Partial<CompileInput>, string])[] = [
    ['executed', virtual(plain), 'spec.hosts[0] waypoint Accepted'],
    ['a service without waypoint', bare({}), 'spec.hosts[0] nowhere NoWaypoint'],
    ['an unknown host', virtual({ ...plain, hosts: ['x'] }), 'spec.hosts[0] nowhere HostNotFound'],
    [
      'an ingress gateway',
      virtual({ ...plain, gateways: ['gw'] }),
      'spec.gateways[0] nowhere GatewayNotServed',
    ],
    [
      'another namespace',
      {
        virtualServices: [
          makeConfig(
            'v',
            { ...plain, hosts: ['reviews.app.svc.cluster.local'] },
            { namespace: 'other' },
          ),
        ],
      },
      'spec.hosts[0] nowhere ForeignNamespace',
    ],
    [
      'not exported to the waypoint',
      virtual({ ...plain, exportTo: ['elsewhere'] }),
      'spec.hosts[0] nowhere ForeignNamespace',
    ],
    [
      'an unknown destination',
      virtual(http({ route: [to('nope')] })),
      'spec.http[0].route[0].destination.host nowhere HostNotFound',
    ],
    [
      'an unknown port',
      virtual(http({ route: [to('reviews', { port: { number: 81 } })] })),
      'spec.http[0].route[0].destination.port nowhere PortNotFound',
    ],
    [
      'an unknown subset',
      virtual(http({ route: [to('reviews', { subset: 'v9' })] })),
      'spec.http[0].route[0].destination.subset nowhere SubsetNotFound',
    ],
    [
      'an unknown field',
      virtual({ ...plain, http: [{ route: [to('reviews')], retriess: {} }] }),
      'spec.http[0].retriess nowhere UnknownField',
    ],
    ['a bad value', virtual({ ...plain, http: [{}] }), 'spec.http[0] nowhere Invalid'],
    [
      'http routes for a TCP service',
      {
        ...virtual(plain),
        services: [makeService('reviews', { ports: [{ port: 80, name: 'tcp' }] })],
      },
      'spec.http nowhere UnsupportedValue',
    ],
  ];
  for (const [name, extra, expected] of rows) {
    it(`${name}: ${expected}`, () => {
      assert.ok(verdictsOf(extra).includes(expected), verdictsOf(extra).join('\n'));
    });
  }

  it('the share of a destination that does not exist is kept, and answered with 500', () => {
    const route = [
      { ...to('reviews'), weight: 1 },
      { ...to('nope'), weight: 1 },
    ];
    assert.deepEqual(
      forwardOf(virtual(http({ route }))).clusters.map((entry) => entry.cluster),
      [cluster('reviews'), ''],
    );
  });

  it('a malformed VirtualService does not remove another', () => {
    const names = routesOf({
      virtualServices: [
        makeConfig('bad', { hosts: ['reviews'], http: [{ route: 7 }] }),
        makeConfig('good', http({ name: 'good', route: [to('reviews')] })),
      ],
    }).map((route) => route.name);
    assert.deepEqual(names, ['good']);
  });
});

describe('ports', () => {
  const portFor = (name: string, extra: Partial<CompileInput> = {}): PortRoutes =>
    portOf(
      meshWithWaypoint({
        services: [makeService('reviews', { ports: [{ port: 80, name }] }), makeService('ratings')],
        ...extra,
      }),
    );

  it('TCP ports have clusters and no routes; unknown ones have both', () => {
    assert.equal(portFor('tcp').protocol, PortProtocol.TCP);
    assert.deepEqual(portFor('tcp').routes, []);
    assert.equal(portFor('tcp').tcpClusters[0]?.cluster, cluster('reviews'));
    assert.equal(portFor('other').protocol, PortProtocol.AUTO);
    assert.equal(portFor('other').routes.length, 1);
    assert.equal(portFor('other').tcpClusters.length, 1);
    assert.equal(portFor('grpc').protocol, PortProtocol.GRPC);
  });

  it('tcp routes send connections by weight', () => {
    const tcp = [
      { match: [{ port: 81 }], route: [to('reviews')] },
      {
        route: [
          { ...to('reviews'), weight: 1 },
          { ...to('ratings'), weight: 3 },
        ],
      },
    ];
    assert.deepEqual(
      portFor('tcp', virtual({ hosts: ['reviews'], tcp })).tcpClusters.map((entry) => [
        entry.cluster,
        entry.weight,
      ]),
      [
        [cluster('reviews'), 1],
        [cluster('ratings'), 3],
      ],
    );
  });

  it('gRPC and HTTP/2 ports speak HTTP/2 to the endpoints', () => {
    const clusters = (name: string): boolean | undefined =>
      compile(
        meshWithWaypoint({
          services: [makeService('reviews', { ports: [{ port: 80, name }] })],
        }),
      )
        .waypoints.get('app/waypoint')
        ?.clusters.get(cluster('reviews'))?.http2;
    assert.deepEqual(['grpc', 'http2', 'http', 'tcp'].map(clusters), [true, true, false, false]);
  });
});

describe('a waypoint of another namespace', () => {
  it('applies the VirtualServices of its own and of the service', () => {
    const listener = { allowedRoutes: { namespaces: { from: 'All' } } };
    const of = (name: string, namespace: string): ConfigObject =>
      makeConfig(
        name,
        {
          hosts: ['reviews.app.svc.cluster.local'],
          http: [
            {
              name,
              match: [{ uri: { exact: '/' } }],
              route: [to('reviews.app.svc.cluster.local')],
            },
          ],
        },
        { namespace },
      );
    const port = portOf(
      {
        mesh: MESH,
        gateways: [makeWaypoint('shared', { namespace: 'infra', listener })],
        services: [
          makeService('reviews', {
            labels: {
              'istio.io/use-waypoint': 'shared',
              'istio.io/use-waypoint-namespace': 'infra',
            },
          }),
        ],
        pods: [makePod('a', { labels: { app: 'reviews' } })],
        virtualServices: [of('a', 'app'), of('b', 'infra'), of('c', 'other')],
      },
      REVIEWS,
      'infra/shared',
    );
    assert.deepEqual(
      port.routes.map((route) => route.name),
      ['a', 'b'],
    );
  });
});
