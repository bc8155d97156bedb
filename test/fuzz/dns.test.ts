// What a pod may send to its DNS port: mutated and random messages. Nothing throws, every answer is a valid message
// with the query's id, no larger than the asker takes, and what goes upstream is what came. Seeded.
import assert from 'node:assert/strict';
import { describe, it } from 'node:test';
import { decode, encode } from 'dns-packet';
import { systemClock } from '../../common/clock.ts';
import { decodeQuestion, readHeader } from '../../common/dns/codec.ts';
import { MeshError } from '../../common/errors.ts';
import { SeriesTable } from '../../common/telemetry/series-table.ts';
import { WorkloadStore } from '../../common/workload/store.ts';
import { DNS_FAMILIES, DnsMetrics } from '../../ztunnel/dns/dns-metrics.ts';
import { QueryHandler } from '../../ztunnel/dns/query-handler.ts';
import { parseResolvConf } from '../../ztunnel/dns/upstream-servers.ts';
import { makeService, makeWorkload } from '../support/mesh-builders.ts';
import { quietLogger } from '../support/quiet-logger.ts';
import { generator } from '../support/seeded-random.ts';

const ROUNDS = 8000;
const MAX_UDP_BYTES = 4096;

const NAMES = [
  'web',
  'web.default.svc.cluster.local',
  'crowd.default.svc.cluster.local',
  'example.com.default.svc.cluster.local',
  'x'.repeat(63),
  `${'a.'.repeat(120)}cluster.local`,
];

function seeds(): Buffer[] {
  const opt = {
    type: 'OPT' as const,
    name: '.',
    udpPayloadSize: 1232,
    extendedRcode: 0,
    ednsVersion: 0,
    flags: 0,
    flag_do: false,
    options: [],
  };
  return NAMES.flatMap((name) =>
    (['A', 'AAAA', 'SRV', 'AXFR'] as const).flatMap((type) => [
      encode({ type: 'query', id: 1, questions: [{ type, name }] }),
      encode({ type: 'query', id: 2, questions: [{ type, name }], additionals: [opt] }),
    ]),
  );
}

function mutate(seed: Buffer, random: () => number): Buffer {
  const bytes = Buffer.from(seed);
  const changes = 1 + Math.floor(random() * 4);
  for (let i = 0; i < changes; i++) {
    bytes[Math.floor(random() * bytes.length)] = Math.floor(random() * 256);
  }
  if (random() < 0.2) return bytes.subarray(0, Math.floor(random() * bytes.length));
  if (random() < 0.1) return Buffer.concat([bytes, Buffer.from(seed)]);
  return bytes;
}

describe('dns input', () => {
  const store = new WorkloadStore();
  store.upsertWorkload(makeWorkload('client', '10.1.0.1'));
  store.upsertService(makeService('web', '10.96.0.1'));
  store.upsertService(makeService('crowd', ''));
  for (let i = 0; i < 400; i++) {
    const services = { 'default/crowd.default.svc.cluster.local': [] };
    store.upsertWorkload(makeWorkload(`c-${i}`, `10.2.${i >> 8}.${i & 255}`, { services }));
  }

  it(`survives ${ROUNDS} mutated queries and answers none with more than it may`, async () => {
    const random = generator(15_053);
    const forwarded: Buffer[] = [];
    const clock = { ...systemClock, elapsed: () => (nowMs += 1000) };
    let nowMs = 0;
    const handler = new QueryHandler(
      {
        settings: { domain: 'cluster.local', isIpv6: true, preferredNamespace: undefined },
        store,
        forwarder: {
          forward: (query) => {
            forwarded.push(query);
            return Promise.reject(new MeshError('dns_no_upstream', 'none'));
          },
        },
        metrics: new DnsMetrics(new SeriesTable(DNS_FAMILIES, () => undefined)),
        clock,
        logger: quietLogger(),
        random,
      },
      { name: 'client', namespace: 'default', serviceAccount: 'client' },
      { netns: undefined, mark: undefined },
    );
    const queries = seeds();
    let answered = 0;
    for (let round = 0; round < ROUNDS; round++) {
      const seed = queries[round % queries.length] ?? Buffer.alloc(0);
      const query = mutate(seed, random);
      const copy = Buffer.from(query);
      forwarded.length = 0;
      const answer = await handler.answer(query, 'udp');
      assert.deepEqual(query, copy);
      for (const one of forwarded) assert.deepEqual(one, copy);
      const header = readHeader(query);
      if (answer === undefined) {
        assert.ok(header === undefined || header.isResponse);
        continue;
      }
      answered++;
      assert.equal(answer.readUInt16BE(0), header?.id);
      assert.equal(readHeader(answer)?.isResponse, true);
      assert.ok(answer.length <= MAX_UDP_BYTES);
      decode(answer);
    }
    assert.ok(answered > ROUNDS / 4, `${answered} were answered`);
  });

  it('reads or refuses random bytes', () => {
    const random = generator(53);
    for (let round = 0; round < ROUNDS; round++) {
      const bytes = Buffer.from(
        Array.from({ length: Math.floor(random() * 80) }, () => Math.floor(random() * 256)),
      );
      try {
        decodeQuestion(bytes);
      } catch (err) {
        assert.ok(err instanceof MeshError && err.code === 'bad_dns');
      }
    }
  });

  it('reads any resolv.conf', () => {
    const random = generator(7);
    const words = [
      'nameserver',
      'search',
      'options',
      'ndots:5',
      '10.0.0.1',
      'fd00::1%eth0',
      '#',
      ';',
      '\n',
      '\0',
      '.',
      '..',
    ];
    for (let round = 0; round < 2000; round++) {
      const text = Array.from({ length: 12 }, () => words[Math.floor(random() * words.length)]);
      const { servers, ndots } = parseResolvConf(text.join(' '));
      assert.ok(servers.length <= 3 && ndots <= 15);
    }
  });
});
