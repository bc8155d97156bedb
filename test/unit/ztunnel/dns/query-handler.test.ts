// What becomes of a query before and after the resolver: limits, waiting, errors, counts, the log.
import assert from 'node:assert/strict';
import { beforeEach, describe, it } from 'node:test';
import { decode, encode } from 'dns-packet';
import { MeshError } from '../../../../common/errors.ts';
import { SeriesReader, SeriesTable } from '../../../../common/telemetry/series-table.ts';
import { WorkloadStore } from '../../../../common/workload/store.ts';
import { DNS_FAMILIES, DnsMetrics, dnsLabels } from '../../../../ztunnel/dns/dns-metrics.ts';
import { QueryHandler } from '../../../../ztunnel/dns/query-handler.ts';
import { FakeClock } from '../../../support/fake-clock.ts';
import { makeService, makeWorkload } from '../../../support/mesh-builders.ts';
import { quietLogger } from '../../../support/quiet-logger.ts';

const CLIENT = { name: 'client', namespace: 'default', serviceAccount: 'client' };
let clock: FakeClock;
let store: WorkloadStore;
let series: SeriesReader;
let handler: QueryHandler;
let forward: (query: Buffer) => Promise<Buffer>;
let logger: ReturnType<typeof quietLogger>;
let random = (): number => 0;

beforeEach(() => {
  random = () => 0;
  clock = new FakeClock();
  store = new WorkloadStore();
  store.upsertService(makeService('web', '10.96.0.1'));
  store.upsertService(makeService('api', '240.0.0.1', { hostname: 'api.example.com' }));
  store.upsertWorkload(makeWorkload('client', '10.1.0.1'));
  series = new SeriesReader();
  forward = () => Promise.reject(new MeshError('dns_no_upstream', 'none'));
  logger = { ...quietLogger(), isLevelEnabled: () => true };
  handler = new QueryHandler(
    {
      settings: { domain: 'cluster.local', isIpv6: true, preferredNamespace: undefined },
      store,
      forwarder: { forward: (query) => forward(query) },
      metrics: new DnsMetrics(new SeriesTable(DNS_FAMILIES, (message) => series.apply(message))),
      clock,
      logger,
      random: () => random(),
    },
    CLIENT,
    { netns: undefined, mark: undefined },
  );
});

function query(name: string, type: 'A' | 'AXFR' = 'A'): Buffer {
  return encode({ type: 'query', id: 5, questions: [{ type, name }] });
}

function codeOf(answer: Buffer | undefined): number | undefined {
  return answer && answer.readUInt16BE(2) & 0xf;
}

function counted(family: string): number {
  const cells = [...(series.series.get(family)?.values() ?? [])];
  return cells.reduce((sum, cell) => sum + series.value(cell), 0);
}

describe('query handler', () => {
  it('answers from the mesh at once, the link before the addresses, and says so in the log', async () => {
    const answer = await handler.answer(query('api.example.com.default.svc.cluster.local'), 'udp');
    const records = answer && decode(answer).answers;
    assert.deepEqual(
      records?.map(({ type }) => type),
      ['CNAME', 'A'],
    );
    const line = logger.lines.find(({ message }) => message === 'dns query');
    assert.deepEqual(line?.fields, {
      'src.workload': 'client',
      'src.namespace': 'default',
      query: 'A',
      domain: 'api.example.com.default.svc.cluster.local',
      result: 'api.example.com',
      endpoints: '240.0.0.1',
    });
  });

  it('gives the addresses in any order, each as often as another', async () => {
    store.upsertService(
      makeService('many', '10.96.1.1', {
        vips: ['10.96.1.1', '10.96.1.2', '10.96.1.3'].map((ip) => ({ network: '', ip })),
      }),
    );
    const orders = new Map<string, number>();
    const steps = [0, 0.4, 0.8];
    for (const first of steps) {
      for (const second of [0, 0.6]) {
        const draws = [first, second];
        random = () => draws.shift() ?? 0;
        const answer = await handler.answer(query('many'), 'udp');
        const order = (answer ? (decode(answer).answers ?? []) : [])
          .map((record) => (record.type === 'A' ? record.data.at(-1) : ''))
          .join('');
        orders.set(order, (orders.get(order) ?? 0) + 1);
      }
    }
    assert.deepEqual([...orders.keys()].sort(), ['123', '132', '213', '231', '312', '321']);
  });

  it('waits for a pod that the control plane has not told of, then answers', async () => {
    store.remove('Kubernetes//Pod/default/client');
    const answer = handler.answer(query('web'), 'udp');
    await clock.advance(1000);
    store.upsertWorkload(makeWorkload('client', '10.1.0.1'));
    await clock.advance(200);
    assert.equal(codeOf(await answer), 0);
    assert.equal(counted('istio_dns_requests'), 1);
  });

  it('says SERVFAIL for a pod that nobody knows after five seconds', async () => {
    store.remove('Kubernetes//Pod/default/client');
    const answer = handler.answer(query('web'), 'udp');
    for (let i = 0; i < 60; i++) await clock.advance(100);
    assert.equal(codeOf(await answer), 2);
  });

  it('says SERVFAIL when forwarding fails, and counts it', async () => {
    assert.equal(codeOf(await handler.answer(query('www.example.org'), 'tcp')), 2);
    assert.equal(counted('istio_dns_upstream_failures'), 1);
    assert.equal(counted('istio_dns_requests'), 1);
  });

  it('refuses zone transfers', async () => {
    assert.equal(codeOf(await handler.answer(query('example.org', 'AXFR'), 'tcp')), 5);
  });

  it('lets 200 queries wait, no more', async () => {
    const release: (() => void)[] = [];
    forward = (bytes) => new Promise((resolve) => release.push(() => resolve(bytes)));
    const waiting = Array.from({ length: 200 }, () =>
      handler.answer(query('a.example.org'), 'udp'),
    );
    assert.equal(codeOf(await handler.answer(query('b.example.org'), 'udp')), 2);
    assert.equal(counted('ambient_dns_refused'), 1);
    assert.equal(codeOf(await handler.answer(query('web'), 'udp')), 0);
    let isIdle = false;
    const idle = handler.whenIdle().then(() => (isIdle = true));
    assert.equal(isIdle, false);
    for (const one of release) one();
    await Promise.all(waiting);
    await idle;
  });

  it('drops what comes faster than a pod may ask, and recovers', async () => {
    let dropped = 0;
    for (let i = 0; i < 10_050; i++) {
      if ((await handler.answer(query('web'), 'udp')) === undefined) dropped++;
    }
    assert.equal(dropped, 50);
    assert.equal(counted('ambient_dns_refused'), 50);
    clock.jump(3_600_000);
    assert.equal(await handler.answer(query('web'), 'udp'), undefined, 'a clock that is set');
    clock.jump(-7_200_000);
    await clock.advance(100);
    assert.equal(codeOf(await handler.answer(query('web'), 'udp')), 0);
  });
});

describe('dns metrics', () => {
  it('name few types, whatever is asked for', () => {
    assert.match(dnsLabels('AAAA', 'udp', undefined), /request_query_type="aaaa"/);
    assert.match(dnsLabels('UNKNOWN_4711', 'udp', undefined), /request_query_type="other"/);
  });

  it('forget the label sets that were not used for longest', () => {
    const reader = new SeriesReader();
    const metrics = new DnsMetrics(new SeriesTable(DNS_FAMILIES, (one) => reader.apply(one)));
    for (let i = 0; i < 2500; i++) {
      metrics.countRequest('kept="yes"');
      metrics.countUpstream(`service="${i}"`, 0.1, true);
    }
    assert.equal(reader.series.get('istio_dns_upstream_requests')?.size, 1999);
    const kept = reader.series.get('istio_dns_requests')?.get('kept="yes"');
    assert.equal(reader.value(kept ?? 0), 2500);
  });
});
