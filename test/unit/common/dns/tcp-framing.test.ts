import assert from 'node:assert/strict';
import { describe, it } from 'node:test';
import { frameMessage, MessageReader } from '../../../../common/dns/tcp-framing.ts';

describe('dns over tcp', () => {
  const messages = ['', 'a', 'bc', 'x'.repeat(65_535)].map((text) => Buffer.from(text));
  const stream = Buffer.concat(messages.map(frameMessage));
  for (const step of [1, 2, 3, 7, 4096, stream.length]) {
    it(`cuts messages out of pieces of ${step} bytes`, () => {
      const reader = new MessageReader();
      const found: string[] = [];
      const wanted = step < 7 ? stream.subarray(0, 9) : stream;
      for (let at = 0; at < wanted.length; at += step) {
        found.push(...reader.push(wanted.subarray(at, at + step)).map(String));
      }
      const expected = step < 7 ? messages.slice(0, 3) : messages;
      assert.deepEqual(found, expected.map(String));
    });
  }

  it('does not copy a chunk for each message in it', () => {
    const chunk = Buffer.alloc(65_536);
    const found = new MessageReader().push(chunk);
    assert.equal(found.length, chunk.length / 2);
    assert.ok(found.every((message) => message.buffer === chunk.buffer));
  });
});
