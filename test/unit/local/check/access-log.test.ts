import assert from 'node:assert/strict';
import { describe, it } from 'node:test';
import { hasLine } from '../../../../local/check/access-log.ts';

const FIELDS = { direction: 'inbound', 'src.identity': 'spiffe://td/ns/a/sa/b' };

describe('reading an access log', () => {
  it('finds fields in text and in JSON', () => {
    const text =
      'x\tinfo\taccess\tconnection complete\tsrc.addr=1:2 src.identity="spiffe://td/ns/a/sa/b" direction="inbound"';
    const json = `{"src.identity":"spiffe://td/ns/a/sa/b","direction":"inbound"}`;
    for (const line of [text, json]) assert.ok(hasLine(`other\n${line}\n`, FIELDS), line);
  });

  it('wants all fields in one line, with the whole value', () => {
    assert.equal(
      hasLine('{"direction":"inbound"}\n{"src.identity":"spiffe://td/ns/a/sa/b"}', FIELDS),
      false,
    );
    assert.equal(
      hasLine('{"direction":"inbound","src.identity":"spiffe://td/ns/a/sa/bc"}', FIELDS),
      false,
    );
  });
});
