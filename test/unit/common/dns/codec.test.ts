import assert from 'node:assert/strict';
import { describe, it } from 'node:test';
import { decode, encode } from 'dns-packet';
import {
  decodeQuestion,
  encodeAnswer,
  encodeFailure,
  readHeader,
} from '../../../../common/dns/codec.ts';

function query(name: string, udpPayloadSize?: number): Buffer {
  return encode({
    type: 'query',
    id: 77,
    questions: [{ type: 'A', name }],
    ...(udpPayloadSize === undefined
      ? {}
      : {
          additionals: [
            {
              type: 'OPT' as const,
              name: '.',
              udpPayloadSize,
              extendedRcode: 0,
              ednsVersion: 0,
              flags: 0,
              flag_do: false,
              options: [],
            },
          ],
        }),
  });
}

const records = (count: number) =>
  Array.from({ length: count }, (_, i) => ({
    type: 'A' as const,
    name: 'web.shop.svc.cluster.local',
    data: `10.0.${i >> 8}.${i & 255}`,
  }));

describe('dns codec', () => {
  it('reads a question in lower case, with the size the asker takes', () => {
    const question = decodeQuestion(query('WEB.Shop.svc', 1232));
    assert.equal(question.name, 'web.shop.svc');
    assert.equal(question.type, 'A');
    assert.equal(question.udpBytes, 1232);
    assert.equal(decodeQuestion(query('a')).udpBytes, 512);
    assert.equal(decodeQuestion(query('a', 65_000)).udpBytes, 4096);
  });

  it('answers with the id, the question and the code', () => {
    const question = decodeQuestion(query('web'));
    const answer = decode(
      encodeAnswer(question, { code: 'NXDOMAIN', records: [], ttlSec: 5 }, 512),
    );
    assert.equal(answer.id, 77);
    assert.equal(answer.questions?.[0]?.name, 'web');
    assert.equal((answer as { rcode?: string }).rcode, 'NXDOMAIN');
  });

  it('is authoritative for what it answers, and offers recursion', () => {
    const question = decodeQuestion(query('web'));
    const answer = decode(encodeAnswer(question, { code: 'NOERROR', records: [], ttlSec: 5 }, 512));
    assert.deepEqual([answer.flag_qr, answer.flag_aa, answer.flag_ra], [true, true, true]);
  });

  it('keeps what fits and flags that there is more', () => {
    const question = decodeQuestion(query('web.shop.svc.cluster.local'));
    const whole = { code: 'NOERROR', records: records(40), ttlSec: 5 } as const;
    const bytes = encodeAnswer(question, whole, 512);
    const cut = decode(bytes);
    assert.equal(cut.flag_tc, true);
    assert.ok(bytes.length <= 512);
    // 16 bytes a record, as names are compressed.
    assert.equal(cut.answers?.length, Math.floor((512 - 12 - 32) / 16));
    const full = decode(encodeAnswer(question, whole, 65_535));
    assert.equal(full.flag_tc, false);
    assert.equal(full.answers?.length, 40);
  });

  it('repeats the question in the asker’s spelling and answers under it', () => {
    const question = decodeQuestion(query('wEb.Shop.svc.CLUSTER.local'));
    const answer = {
      code: 'NOERROR',
      records: [{ type: 'A', name: question.name, data: '10.0.0.1' }],
      ttlSec: 5,
    } as const;
    const decoded = decode(encodeAnswer(question, answer, 512));
    assert.equal(decoded.questions?.[0]?.name, 'wEb.Shop.svc.CLUSTER.local');
    assert.equal(decoded.answers?.[0]?.name, 'wEb.Shop.svc.CLUSTER.local');
  });

  it('speaks EDNS to those who do, with the size it keeps to', () => {
    const empty = { code: 'NOERROR', records: [], ttlSec: 5 } as const;
    const sizeFor = (bytes?: number): unknown =>
      decode(encodeAnswer(decodeQuestion(query('web', bytes)), empty, 512)).additionals?.map(
        (record) => record.type === 'OPT' && record.udpPayloadSize,
      );
    assert.deepEqual(sizeFor(), []);
    assert.deepEqual(sizeFor(100), [512]);
    assert.deepEqual(sizeFor(1232), [1232]);
    assert.deepEqual(sizeFor(65_000), [4096]);
  });

  it('encodes every kind of record so that another decoder reads it', () => {
    const question = decodeQuestion(query('alias.example.com'));
    const given = [
      { type: 'CNAME', name: 'alias.example.com', data: 'web.example.com' },
      { type: 'A', name: 'web.example.com', data: '10.0.0.1' },
      { type: 'AAAA', name: 'web.example.com', data: 'fd00::1' },
      {
        type: 'SRV',
        name: '_http._tcp.example.com',
        data: { target: 'web.example.com', port: 80 },
      },
    ] as const;
    const answer = decode(
      encodeAnswer(question, { code: 'NOERROR', records: given, ttlSec: 30 }, 512),
    );
    const read = answer.answers?.map((record) => ({
      type: record.type,
      name: record.name,
      data: 'data' in record ? record.data : undefined,
    }));
    assert.deepEqual(read, [
      ...given.slice(0, 3),
      { ...given[3], data: { target: 'web.example.com', port: 80, priority: 0, weight: 0 } },
    ]);
    assert.ok(answer.answers?.every((record) => 'ttl' in record && record.ttl === 30));
  });

  it('fails a query with its id, question and code, also of other opcodes', () => {
    const failed = decode(encodeFailure(query('web.shop'), 'SERVFAIL'));
    assert.equal(failed.id, 77);
    assert.equal(failed.questions?.[0]?.name, 'web.shop');
    assert.equal((failed as { rcode?: string }).rcode, 'SERVFAIL');
    const update = query('shop');
    update.writeUInt16BE(5 << 11, 2);
    const answer = encodeFailure(update, 'NOTIMP');
    assert.equal(readHeader(answer)?.opcode, 5);
    assert.equal(readHeader(answer)?.isResponse, true);
  });

  for (const bytes of [Buffer.alloc(0), Buffer.from('nonsense'), Buffer.alloc(600, 0xc0)]) {
    it(`refuses ${bytes.length} bytes that are no query`, () => {
      assert.throws(() => decodeQuestion(bytes), { code: 'bad_dns' });
    });
  }
});
