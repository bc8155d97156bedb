// What is told of a conversation does not depend on how it is cut; what is no HTTP, or too much, ends the looking with a word.
import assert from 'node:assert/strict';
import { after, before, describe, it } from 'node:test';
import fc from 'fast-check';
import { mirrorSessionCount } from '../../../../engine/observe/mirror-session.ts';
import { ObserveBudget } from '../../../../engine/observe/observe-budget.ts';
import type { ObserveEnd } from '../../../../engine/observe/types.ts';
import { nativeQueueCount } from '../../../../engine/reactor/bytes.ts';
import {
  observeConversation,
  recordHttp1,
  recordHttp2,
  type Conversation,
} from '../../../support/http-recording.ts';

const recorded: Record<'http1' | 'http2', Conversation> = { http1: [], http2: [] };
const EXPECTED = {
  http1: ['http1 POST 201 -', 'http1 HEAD 404 -', 'http1 GET 200 -', 'http1 PUT 500 -'],
  http2: [
    ...[200, 201, 404, 503, 200].map((code) => `http2 POST ${code} 5`),
    'http2 POST 0 -', // reset
  ],
} as const;

before(async () => {
  recorded.http1 = await recordHttp1();
  recorded.http2 = await recordHttp2();
});

after(() => {
  assert.equal(mirrorSessionCount(), 0);
  assert.equal(nativeQueueCount(), 0);
});

const client = (text: string): Conversation => [{ isForward: true, bytes: Buffer.from(text) }];
const server = (text: string): Conversation => [{ isForward: false, bytes: Buffer.from(text) }];
const PREFACE = 'PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n';
const HEAD = 'GET / HTTP/1.1\r\nHost: a\r\n';

const ENDS: readonly (readonly [string, ObserveEnd, Conversation])[] = [
  ['nothing at all', 'ended', []],
  ['one letter', 'ended', client('G')],
  ['a TLS client', 'not_http', client('\u0016\u0003\u0001')],
  ['a word that is no method', 'not_http', client('hello world')],
  ['a server that talks', 'server_first', server('x'.repeat(257))],
  ['a server that greets, and HTTP/1 after it', 'parse_error', [...server('hi'), ...client(HEAD)]],
  ['a method, then no HTTP', 'parse_error', client('GET / HTTX/1.1\r\n\r\n')],
  ['a head without end', 'limit', client(`${HEAD}X: ${'y'.repeat(70_000)}`)],
  ['fields without end', 'limit', client(HEAD + 'a: b\r\n'.repeat(20_000))],
  ['requests without end', 'limit', client(`${HEAD}\r\n`.repeat(1002))],
  [
    'an answer that nobody asked for',
    'parse_error',
    [
      ...client(`${HEAD}\r\n`),
      ...server('HTTP/1.1 204 No Content\r\n\r\nHTTP/1.1 204 No Content\r\n\r\n'),
    ],
  ],
  ['an HTTP/2 preface, then nothing', 'ended', client(PREFACE)],
  ['an HTTP/2 preface, then no frames', 'parse_error', client(`${PREFACE}\0\0\x04\x01garbage`)],
  [
    'an HPACK table of 1 GB',
    'limit',
    [...client(PREFACE), ...server('\0\0\x06\x04\0\0\0\0\0\0\x01\x40\0\0\0')],
  ],
];

describe('http observer', () => {
  for (const protocol of ['http1', 'http2'] as const) {
    it(`tells every request of ${protocol}`, () => {
      const told = observeConversation(recorded[protocol]);
      assert.equal(told.end, 'ended');
      assert.deepEqual(told.exchanges.toSorted(), [...EXPECTED[protocol]].sort());
    });

    it(`tells the same of ${protocol} in single bytes, and in any pieces`, () => {
      const whole = observeConversation(recorded[protocol]);
      assert.deepEqual(
        observeConversation(recorded[protocol], () => 1),
        whole,
      );
      fc.assert(
        fc.property(fc.array(fc.integer({ min: 1, max: 3000 }), { minLength: 1 }), (cuts) => {
          let at = 0;
          const cut = (): number => cuts[at++ % cuts.length] ?? 1;
          assert.deepEqual(observeConversation(recorded[protocol], cut), whole);
        }),
        { numRuns: 40 },
      );
    });
  }

  for (const [name, end, conversation] of ENDS) {
    it(`${name}: ${end}`, () => {
      assert.equal(observeConversation(conversation).end, end);
      assert.equal(observeConversation(conversation, () => 1).end, end);
    });
  }
});

describe('the budget of looking', () => {
  it('lets a share of the time be spent, and a burst', () => {
    const budget = new ObserveBudget(0.1, 50, 0);
    assert.equal(budget.spend(50, 0), true);
    assert.equal(budget.spend(1, 0), false);
    assert.equal(budget.spend(9, 100), true);
    assert.equal(budget.spend(50, 100_000), true);
    assert.equal(budget.spend(1, 100_000), false);
  });
});
