import assert from 'node:assert/strict';
import { describe, it } from 'node:test';
import { decode, encode } from 'dns-packet';
import { decodeQuestion, encodeAnswer } from '../../../../common/dns/codec.ts';

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

  it('flags an answer that does not fit and drops its records', () => {
    const question = decodeQuestion(query('web.shop.svc.cluster.local'));
    const whole = { code: 'NOERROR', records: records(40), ttlSec: 5 } as const;
    const cut = decode(encodeAnswer(question, whole, 512));
    assert.equal(cut.flag_tc, true);
    assert.equal(cut.answers?.length, 0);
    const full = decode(encodeAnswer(question, whole, 65_535));
    assert.equal(full.flag_tc, false);
    assert.equal(full.answers?.length, 40);
  });

  for (const bytes of [Buffer.alloc(0), Buffer.from('nonsense'), Buffer.alloc(600, 0xc0)]) {
    it(`refuses ${bytes.length} bytes that are no query`, () => {
      assert.throws(() => decodeQuestion(bytes), { code: 'bad_dns' });
    });
  }
});
