// The HTTP/1 parser: any cut of the input gives the same messages; what node:http refuses is refused; no input but
// makes it answer.
import assert from 'node:assert/strict';
import { describe, it } from 'node:test';
import fc from 'fast-check';
import { requestHead } from '../../../../engine/http1/heads.ts';
import { Http1Parser } from '../../../../engine/http1/parser.ts';
import type { Http1Head } from '../../../../engine/http1/parser.ts';
import { addressOfBuffer } from '../../../../engine/native/llhttp.ts';
import { copyBytes } from '../../../../engine/reactor/bytes.ts';

interface Message {
  head: Omit<Http1Head, 'isComplete'>;
  body: string;
  trailers: unknown;
}

interface Parsed {
  messages: Message[];
  end: string;
}

/** Parses text cut at the given places. */
function parse(
  text: string,
  cuts: readonly number[] = [],
  kind: 'request' | 'response' = 'request',
): Parsed {
  const messages: Message[] = [];
  let current: Partial<Message> = {};
  const parser = new Http1Parser(
    kind,
    { maxHeadBytes: 60 * 1024, maxHeaders: 100 },
    {
      onHead: ({ isComplete: _, ...head }) => {
        current = { head, body: '' };
      },
      onBody: (address, length) => {
        current.body = `${current.body ?? ''}${copyBytes(address, length).toString('latin1')}`;
      },
      onComplete: (trailers) => {
        messages.push({ ...current, trailers } as Message);
      },
    },
  );
  const bytes = Buffer.allocUnsafeSlow(Math.max(1, text.length));
  bytes.write(text, 'latin1');
  const base = addressOfBuffer(bytes);
  const stops = [...new Set([...cuts.map((cut) => cut % (text.length + 1)), text.length])].sort(
    (a, b) => a - b,
  );
  let at = 0;
  let end = 'more';
  for (const stop of stops) {
    while (at < stop && end === 'more') {
      const outcome = parser.feed(base + at, stop - at);
      at += outcome.consumed;
      if (outcome.kind === 'paused') parser.next();
      else if (outcome.kind !== 'more') end = outcome.kind;
    }
  }
  parser.close();
  return { messages, end };
}

const TEXT =
  'POST /a?b=c HTTP/1.1\r\nHost: web\r\nEmpty:\r\nX-Long: a b  c\r\nTransfer-Encoding: chunked\r\n\r\n5;ext=1\r\nhello\r\n3\r\n yo\r\n0\r\nX-Sum: 1\r\n\r\n' +
  'PUT /x HTTP/1.1\r\nhost: b\r\ncontent-length: 4\r\n\r\nbody' +
  'GET / HTTP/1.0\r\n\r\n';

describe('Http1Parser', () => {
  it('reads pipelined messages with chunks, trailers and lengths', () => {
    const { messages, end } = parse(TEXT);
    assert.equal(end, 'more');
    assert.deepEqual(
      messages.map(({ head, body, trailers }) => [
        head.method,
        head.target,
        head.minorVersion,
        head.keepsAlive,
        body,
        trailers,
      ]),
      [
        ['POST', '/a?b=c', 1, true, 'hello yo', [['x-sum', '1']]],
        ['PUT', '/x', 1, true, 'body', []],
        ['GET', '/', 0, false, '', []],
      ],
    );
    assert.deepEqual(messages[0]?.head.headers, [
      ['host', 'web'],
      ['empty', ''],
      ['x-long', 'a b  c'],
      ['transfer-encoding', 'chunked'],
    ]);
  });

  it('does not care where the input is cut', () => {
    const whole = parse(TEXT);
    fc.assert(
      fc.property(fc.array(fc.nat(TEXT.length), { maxLength: 40 }), (cuts) => {
        assert.deepEqual(parse(TEXT, cuts), whole);
      }),
      { seed: 7, numRuns: 200 },
    );
  });

  it('answers any mutation of valid input without throwing', () => {
    fc.assert(
      fc.property(
        fc.nat(TEXT.length - 1),
        fc.integer({ min: 0, max: 255 }),
        fc.array(fc.nat(TEXT.length), { maxLength: 5 }),
        (at, byte, cuts) => {
          const mutated = TEXT.slice(0, at) + String.fromCharCode(byte) + TEXT.slice(at + 1);
          const { end } = parse(mutated, cuts);
          assert.ok(['more', 'invalid', 'limit', 'upgraded', 'paused'].includes(end));
        },
      ),
      { seed: 11, numRuns: 1500 },
    );
  });

  it('answers any bytes without throwing', () => {
    fc.assert(
      fc.property(fc.uint8Array({ maxLength: 300 }), (bytes) => {
        parse(Buffer.from(bytes).toString('latin1'));
      }),
      { seed: 13, numRuns: 500 },
    );
  });

  const refused: [name: string, text: string, end: string][] = [
    [
      'length and chunks',
      'GET / HTTP/1.1\r\ncontent-length: 1\r\ntransfer-encoding: chunked\r\n\r\n',
      'invalid',
    ],
    ['two lengths', 'GET / HTTP/1.1\r\ncontent-length: 1\r\ncontent-length: 2\r\n\r\n', 'invalid'],
    ['a negative length', 'GET / HTTP/1.1\r\ncontent-length: -1\r\n\r\n', 'invalid'],
    [
      'chunked that is not last',
      'POST / HTTP/1.1\r\ntransfer-encoding: chunked, gzip\r\n\r\n',
      'invalid',
    ],
    ['a folded header', 'GET / HTTP/1.1\r\nx: a\r\n b\r\n\r\n', 'invalid'],
    ['a null byte', 'GET / HTTP/1.1\r\nx: a\u0000b\r\n\r\n', 'invalid'],
    ['a bare line feed', 'GET / HTTP/1.1\nx: a\n\n', 'invalid'],
    ['another version', 'GET / HTTP/3.0\r\n\r\n', 'invalid'],
    ['too many header bytes', `GET / HTTP/1.1\r\nx: ${'a'.repeat(62_000)}\r\n\r\n`, 'limit'],
    ['too many headers', `GET / HTTP/1.1\r\n${'a: b\r\n'.repeat(101)}\r\n`, 'limit'],
    ['a target without end', `GET /${'a'.repeat(70_000)}`, 'limit'],
    [
      'endless chunk extensions',
      `POST / HTTP/1.1\r\ntransfer-encoding: chunked\r\n\r\n1;${'a'.repeat(20_000)}\r\n`,
      'limit',
    ],
  ];
  for (const [name, text, end] of refused) {
    it(`refuses ${name}`, () => {
      assert.equal(parse(text).end, end);
    });
  }

  it('ends a response at an upgrade and leaves the rest', () => {
    const { messages, end } = parse(
      'HTTP/1.1 101 Switching Protocols\r\nupgrade: x\r\nconnection: upgrade\r\n\r\nrest',
      [],
      'response',
    );
    assert.equal(messages[0]?.head.status, 101);
    assert.equal(end, 'upgraded');
  });
});

describe('requestHead', () => {
  const head = (
    target: string,
    headers: [string, string][],
    method = 'GET',
  ): ReturnType<typeof requestHead> =>
    requestHead({
      method,
      target,
      status: 0,
      minorVersion: 1,
      headers,
      keepsAlive: true,
      isFramed: false,
      isComplete: true,
    });

  it('drops hop-by-hop headers and those that Connection names', () => {
    const result = head('/x', [
      ['host', 'h'],
      ['connection', 'keep-alive, X-Own'],
      ['x-own', '1'],
      ['te', 'trailers'],
      ['a', 'b'],
    ]);
    assert.ok('headers' in result);
    assert.deepEqual(result.headers, [
      [':method', 'GET'],
      [':scheme', 'http'],
      [':authority', 'h'],
      [':path', '/x'],
      ['a', 'b'],
    ]);
  });

  it('prefers the authority of an absolute target', () => {
    const result = head('http://other:81/p?q', [['host', 'h']]);
    assert.ok('headers' in result);
    assert.deepEqual(result.headers.slice(2), [
      [':authority', 'other:81'],
      [':path', '/p?q'],
    ]);
  });

  it('keeps an upgrade but not h2c', () => {
    const websocket = head('/', [
      ['host', 'h'],
      ['connection', 'Upgrade'],
      ['upgrade', 'websocket'],
    ]);
    assert.ok('headers' in websocket);
    assert.equal(websocket.isUpgrade, true);
    const h2c = head('/', [
      ['host', 'h'],
      ['connection', 'Upgrade, HTTP2-Settings'],
      ['upgrade', 'h2c'],
      ['http2-settings', 'x'],
    ]);
    assert.ok('headers' in h2c);
    assert.equal(h2c.isUpgrade, false);
    assert.equal(h2c.headers.length, 4);
  });

  const bad: [name: string, target: string, headers: [string, string][], method: string][] = [
    ['no host', '/', [], 'GET'],
    [
      'two hosts',
      '/',
      [
        ['host', 'a'],
        ['host', 'b'],
      ],
      'GET',
    ],
    ['a relative target', 'x', [['host', 'a']], 'GET'],
    ['connect', 'a:80', [['host', 'a']], 'CONNECT'],
  ];
  for (const [name, target, headers, method] of bad) {
    it(`refuses ${name}`, () => {
      assert.ok('problem' in head(target, headers, method));
    });
  }
});
