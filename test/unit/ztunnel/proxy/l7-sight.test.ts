// Which connections are observed, for whom, and what their series look like.
import assert from 'node:assert/strict';
import { describe, it } from 'node:test';
import { renderSeries } from '../../../../common/telemetry/exposition.ts';
import { serviceKey } from '../../../../common/workload/model.ts';
import type { Service, Workload } from '../../../../common/workload/model.ts';
import {
  SeriesReader,
  SeriesTable,
  renderLabels,
} from '../../../../common/telemetry/series-table.ts';
import { addressOfBuffer } from '../../../../engine/native/llhttp.ts';
import type { HttpExchange } from '../../../../engine/observe/types.ts';
import type { RelayObserver } from '../../../../engine/reactor/duplex.ts';
import {
  L7Series,
  L7_SIGHT_FAMILIES,
  exchangeLabels,
} from '../../../../ztunnel/proxy/l7-series.ts';
import { L7Sight, isDeclaredOpaque, isReported } from '../../../../ztunnel/proxy/l7-sight.ts';
import type { ConnectionParties } from '../../../../ztunnel/proxy/traffic-labels.ts';
import { makeService, makeWorkload } from '../../../support/mesh-builders.ts';

type Reporter = Parameters<typeof isReported>[0];

function partiesOf(
  direction: 'inbound' | 'outbound',
  seen: readonly ('source' | 'destination')[] = ['source', 'destination'],
  percents = { source: 100, destination: 100 },
): ConnectionParties {
  const l7Percent = (side: 'source' | 'destination'): number =>
    seen.includes(side) ? percents[side] : 0;
  return {
    direction,
    source: makeWorkload('client', '10.0.0.1', { l7Percent: l7Percent('source') }),
    sourceBaggage: undefined,
    sourceIdentity: 'spiffe://cluster.local/ns/default/sa/client',
    destination: makeWorkload('server', '10.0.0.2', { l7Percent: l7Percent('destination') }),
    destinationIdentity: 'spiffe://cluster.local/ns/default/sa/server',
    service: undefined,
  };
}

const outbound = partiesOf('outbound');
const inbound = partiesOf('inbound');
const EVERYTHING = { reporter: 'both', percent: 100, maxConnections: 10 } as const;

function setUp(config: Partial<ConstructorParameters<typeof L7Sight>[1]> = {}): {
  sight: L7Sight;
  lines: (...words: string[]) => string[];
} {
  const reader = new SeriesReader();
  const table = new SeriesTable(L7_SIGHT_FAMILIES, (message) => reader.apply(message));
  const sight = new L7Sight(
    table,
    { ...EVERYTHING, ...config },
    () => 0,
    () => 0.5,
  );
  return {
    sight,
    lines: (...words) =>
      renderSeries([reader])
        .split('\n')
        .filter((line) => /^[a-z]/.test(line) && words.every((word) => line.includes(word))),
  };
}

/** Bytes that are never collected: observers are given addresses. */
function native(text: string): Buffer {
  const bytes = Buffer.allocUnsafeSlow(text.length);
  bytes.write(text, 'latin1');
  return bytes;
}

const REQUEST = native('GET / HTTP/1.1\r\nHost: a\r\n\r\n');
const ANSWER = native('HTTP/1.1 204 No Content\r\n\r\n');

function exchange(observer: RelayObserver | undefined): void {
  assert.ok(observer);
  observer.sawForward(addressOfBuffer(REQUEST), REQUEST.length);
  observer.sawBackward(addressOfBuffer(ANSWER), ANSWER.length);
}

describe('an end of a connection reports', () => {
  const ROWS: readonly (readonly [Reporter, ConnectionParties, boolean])[] = [
    ['both', outbound, true],
    ['both', inbound, true],
    ['source', outbound, true],
    ['source', inbound, false],
    ['destination', outbound, false],
    ['destination', inbound, true],
    ['off', outbound, false],
    ['off', inbound, false],
    ['both', partiesOf('outbound', ['destination']), false],
    ['both', partiesOf('outbound', ['source']), true],
    ['both', partiesOf('inbound', ['source']), false],
    ['both', partiesOf('inbound', ['destination']), true],
    ['both', { ...outbound, source: undefined }, false],
    ['both', { ...inbound, source: undefined }, true],
  ];
  for (const [reporter, parties, isExpected] of ROWS) {
    const who = [
      parties.source?.l7Percent === 100 ? 'source' : '',
      parties.destination?.l7Percent === 100 ? 'destination' : '',
    ].join(' ');
    it(`${reporter}, ${parties.direction}, asked by ${who}: ${isExpected}`, () => {
      assert.equal(isReported(reporter, parties), isExpected);
    });
  }
});

describe('a port that is declared to be no HTTP', () => {
  const http = { servicePort: 80, targetPort: 8080 };
  const mysql = { servicePort: 3306, targetPort: 3306, isOpaque: true } as const;
  const tcp = { servicePort: 90, targetPort: 8080, isOpaque: true } as const;
  const db = makeService('db', '10.96.0.9');
  const key = serviceKey(db);
  const withServices = (services: Workload['services'], service?: Service): ConnectionParties => ({
    ...inbound,
    destination: makeWorkload('server', '10.0.0.2', { services }),
    service,
  });
  const ROWS: readonly (readonly [string, boolean, ConnectionParties, number | string])[] = [
    ['declared', true, withServices({ [key]: [http, mysql] }), 3306],
    ['declared, by the authority', true, withServices({ [key]: [http, mysql] }), '10.0.0.2:3306'],
    ['declared, at IPv6', true, withServices({ [key]: [http, mysql] }), '[fd00::2]:3306'],
    ['another port', false, withServices({ [key]: [http, mysql] }), 8080],
    ['a port of no service', false, withServices({ [key]: [mysql] }), 9999],
    ['no service at all', false, withServices({}), 3306],
    ['two services that differ', false, withServices({ 'a/b': [http], 'a/c': [tcp] }), 8080],
    [
      'two that differ, and the one that was addressed says so',
      true,
      withServices({ 'a/b': [http], [key]: [tcp] }, db),
      8080,
    ],
    [
      'two that differ, and the other was addressed',
      false,
      withServices({ 'a/b': [tcp], [key]: [http] }, db),
      8080,
    ],
    ['an unknown destination', false, { ...outbound, destination: undefined }, 3306],
  ];
  for (const [name, isExpected, parties, port] of ROWS) {
    it(`${name}: ${isExpected}`, () => assert.equal(isDeclaredOpaque(parties, port), isExpected));
  }

  it('is not looked at, and counted', () => {
    const { sight, lines } = setUp();
    const parties = withServices({ [key]: [mysql, http] });
    const asked = { ...parties.destination, l7Percent: 100 } as Workload;
    assert.equal(sight.watch({ ...parties, destination: asked }, 3306), undefined);
    assert.equal(lines('connections_total', '"opaque"', '} 1').length, 1);
    assert.ok(sight.watch({ ...parties, destination: asked }, 8080));
  });
});

describe('label values', () => {
  const plain: HttpExchange = {
    protocol: 'http2',
    method: 'GET',
    status: 200,
    isGrpc: false,
    grpcStatus: undefined,
    durationMs: 1,
  };
  const ROWS: readonly (readonly [Partial<HttpExchange>, string])[] = [
    [{}, 'http GET 2xx '],
    [{ method: 'BREW' }, 'http other 2xx '],
    [{ method: 'get' }, 'http other 2xx '],
    [{ status: 0 }, 'http GET none '],
    [{ status: 101 }, 'http GET 1xx '],
    [{ status: 599 }, 'http GET 5xx '],
    [{ status: 700 }, 'http GET other '],
    [{ grpcStatus: '5' }, 'http GET 2xx '],
    [{ isGrpc: true, grpcStatus: '16' }, 'grpc GET 2xx 16'],
    [{ isGrpc: true, grpcStatus: '17' }, 'grpc GET 2xx other'],
    [{ isGrpc: true, grpcStatus: '00' }, 'grpc GET 2xx other'],
    [{ isGrpc: true }, 'grpc GET 2xx none'],
  ];
  for (const [more, expected] of ROWS) {
    it(`of ${JSON.stringify(more)}`, () => {
      const labels = exchangeLabels({ ...plain, ...more });
      assert.equal(labels.map(([, value]) => value).join(' '), expected);
    });
  }
});

describe('the series of requests', () => {
  it('are apart where their labels are, and only there', () => {
    const reader = new SeriesReader();
    const table = new SeriesTable(L7_SIGHT_FAMILIES, (message) => reader.apply(message));
    const group = new L7Series(table).open(inbound);
    const seen = new Map<string, number>();
    const methods = ['GET', 'HEAD', 'PATCH', 'CONNECT', 'BREW', 'get'];
    const statuses = [0, 99, 100, 101, 200, 299, 304, 404, 500, 599, 600, 700];
    const grpc = [undefined, '0', '1', '16', '17', 'x'];
    for (const method of methods) {
      for (const status of statuses) {
        for (const isGrpc of [false, true]) {
          for (const grpcStatus of grpc) {
            const one = {
              protocol: 'http2',
              method,
              status,
              isGrpc,
              grpcStatus,
              durationMs: 1,
            } as const;
            group.count(one);
            const labels = renderLabels(exchangeLabels(one));
            seen.set(labels, (seen.get(labels) ?? 0) + 1);
          }
        }
      }
    }
    const counted = renderSeries([reader])
      .split('\n')
      .filter((line) => line.startsWith('ambient_mesh_l7_requests_total'));
    assert.equal(counted.length, seen.size);
    for (const [labels, count] of seen) {
      assert.ok(
        counted.some((line) => line.endsWith(`,${labels}} ${count}`)),
        labels,
      );
    }
  });
});

describe('L7 sight', () => {
  it('counts a request for both ends of a connection within the node, from one look', () => {
    const { sight, lines } = setUp();
    const observer = sight.watch(outbound, 80, inbound);
    exchange(observer);
    observer?.ended();
    for (const reporter of ['source', 'destination']) {
      const [line = ''] = lines('ambient_mesh_l7_requests_total', `reporter="${reporter}"`);
      assert.match(line, /source_workload="client".*destination_workload="server".* 1$/);
      assert.equal(lines('_connections_total', `"${reporter}"`, '"ended"').length, 1);
      assert.match(lines('milliseconds_count', `"${reporter}"`)[0] ?? '', / 1$/);
    }
  });

  it('reports only for the end that asked', () => {
    const { sight, lines } = setUp();
    exchange(
      sight.watch(
        partiesOf('outbound', ['destination']),
        80,
        partiesOf('inbound', ['destination']),
      ),
    );
    assert.equal(lines('requests_total', '"source"').length, 0);
    assert.equal(lines('requests_total', '"destination"').length, 1);
  });

  it('does not look where nobody asked, and counts nothing of it', () => {
    const { sight, lines } = setUp();
    assert.equal(sight.watch(partiesOf('outbound', []), 80, partiesOf('inbound', [])), undefined);
    assert.deepEqual(lines(), []);
  });

  it('looks at a share of the connections, and at so many at once', () => {
    for (const [config, outcome] of [
      [{ percent: 50 }, 'not_sampled'],
      [{ percent: 0 }, 'not_sampled'],
      [{ maxConnections: 1 }, 'full'],
    ] as const) {
      const { sight, lines } = setUp(config);
      const first = sight.watch(outbound, 80);
      if (outcome === 'full') assert.equal(sight.watch(outbound, 80), undefined);
      else assert.equal(first, undefined);
      assert.equal(lines('connections_total', `"${outcome}"`, '} 1').length, 1);
      first?.ended();
      if (outcome === 'full') assert.ok(sight.watch(outbound, 80));
    }
    assert.ok(setUp({ percent: 51 }).sight.watch(outbound, 80));
  });

  it('looks at the share that the namespace asks for, of no more than the node allows', () => {
    // The draw is 0.5.
    for (const [node, namespace, isSeen] of [
      [100, 50.1, true],
      [100, 50, false],
      [100, 0.5, false],
      [50, 100, false],
      [51, 51, true],
    ] as const) {
      const { sight, lines } = setUp({ percent: node });
      const parties = partiesOf('inbound', ['destination'], { source: 0, destination: namespace });
      assert.equal(sight.watch(parties, 80) !== undefined, isSeen, `${node}, ${namespace}`);
      assert.equal(lines('connections_total', '"not_sampled"').length, isSeen ? 0 : 1);
    }
  });

  it('within the node, each end has the share it asks for', () => {
    const { sight, lines } = setUp();
    const percents = { source: 10, destination: 60 };
    const both = ['source', 'destination'] as const;
    exchange(
      sight.watch(partiesOf('outbound', both, percents), 80, partiesOf('inbound', both, percents)),
    );
    assert.equal(lines('requests_total', '"source"').length, 0);
    assert.equal(lines('connections_total', '"source"', '"not_sampled"').length, 1);
    assert.equal(lines('requests_total', '"destination"').length, 1);
    assert.equal(lines('connections_total', '"destination"', '"not_sampled"').length, 0);
  });

  it('stops when the workload asks no more, not when another changes', () => {
    const { sight, lines } = setUp();
    const observer = sight.watch(inbound, 80);
    const { destination, source } = partiesOf('inbound', []);
    assert.ok(destination && source);
    sight.recordsChanged([source]);
    exchange(observer);
    sight.recordsChanged([destination]);
    exchange(observer);
    assert.match(lines('requests_total')[0] ?? '', / 1$/);
    assert.equal(lines('connections_total', '"stopped"').length, 1);
    observer?.ended();
    assert.equal(lines('connections_total').length, 1);
  });

  it('forgets the series of a workload that went, once nothing is open and it was scraped', () => {
    const { sight, lines } = setUp();
    const observer = sight.watch(outbound, 80);
    exchange(observer);
    sight.markStale([outbound.destination?.uid ?? '']);
    sight.sweep();
    assert.equal(lines('requests_total').length, 1);
    observer?.ended();
    sight.sweep();
    assert.deepEqual([lines('requests_total'), lines('milliseconds')], [[], []]);
  });

  it('names no more peers when there are too many', () => {
    const { sight, lines } = setUp({ maxConnections: 10_000 });
    for (let at = 0; at < 2100; at++) {
      const source = makeWorkload(`client-${at}`, '10.0.0.1');
      exchange(sight.watch({ ...inbound, source }, 80));
    }
    const named = lines('requests_total');
    assert.equal(named.length, 2001);
    assert.equal(named.filter((line) => line.includes('source_workload="unknown"')).length, 1);
    assert.match(lines('requests_total', 'source_workload="unknown"')[0] ?? '', / 100$/);
  });
});
