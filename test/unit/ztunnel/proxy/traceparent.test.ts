// The id of a connection: what a peer sent is kept if it is one.
import assert from 'node:assert/strict';
import { describe, it } from 'node:test';
import {
  newTraceparent,
  readTraceparent,
  traceIdOf,
} from '../../../../ztunnel/proxy/traceparent.ts';

const TRACE = '0af7651916cd43dd8448eb211c80319c';
const SENT = `00-${TRACE}-b7ad6b7169203331-01`;

describe('traceparent', () => {
  it('a new one is never sampled, and no two are the same', () => {
    const made = Array.from({ length: 1000 }, newTraceparent);
    for (const one of made) assert.match(one, /^00-[0-9a-f]{32}-[0-9a-f]{16}-00$/);
    assert.equal(new Set(made.map(traceIdOf)).size, made.length);
  });

  it('is taken as it was sent', () => {
    assert.equal(
      readTraceparent([
        ['baggage', 'x'],
        ['traceparent', SENT],
      ]),
      SENT,
    );
    assert.equal(traceIdOf(SENT), TRACE);
    assert.equal(traceIdOf(SENT.toUpperCase()), TRACE);
  });

  for (const [what, sent] of [
    ['none', undefined],
    ['an empty one', ''],
    ['one that is too short', SENT.slice(1)],
    ['one that is too long', `${SENT}0`],
    ['one with more after it, of the right form', `${SENT}-00`],
    ['one with another letter', SENT.replace('a', 'g')],
    ['one with hyphens elsewhere', `0-0${SENT.slice(3)}`],
    ['one that would forge a line', `00-${TRACE.slice(2)}\r\n-b7ad6b7169203331-01`],
  ] as const) {
    it(`a new one is made for ${what}`, () => {
      const read = readTraceparent(sent === undefined ? [] : [['traceparent', sent]]);
      assert.match(read, /^00-[0-9a-f]{32}-[0-9a-f]{16}-00$/);
      assert.ok(!read.includes(TRACE.slice(2)));
    });
  }
});
