import assert from 'node:assert/strict';
import { describe, it } from 'node:test';
import fc from 'fast-check';
import { MeshError } from '../../../../common/errors.ts';
import {
  REPORT_PODS,
  decodeMessage,
  decodeRequest,
  encodePacket,
  type HolderMessage,
  type HolderRequest,
} from '../../../../ztunnel/holder/messages.ts';
import { MAX_SEQPACKET_BYTES } from '../../../../engine/reactor/seqpacket.ts';

const POD = { name: 'web', namespace: 'default', serviceAccount: 'web' };
const REQUESTS: readonly HolderRequest[] = [
  { kind: 'list', after: '' },
  { kind: 'take', uid: 'a' },
  { kind: 'keep', held: { uid: 'a', netnsId: '4:1', pod: POD, names: ['netns'] } },
  { kind: 'release', uid: 'a' },
  { kind: 'ready' },
  { kind: 'report', pods: [{ name: 'a', namespace: 'b', connections: 2 }], isLast: true },
  { kind: 'replace' },
  { kind: 'quit' },
];
const MESSAGES: readonly HolderMessage[] = [
  { kind: 'welcome', isReplacement: false, crashes: 0 },
  { kind: 'answer' },
  { kind: 'answer', error: 'no', uids: ['a'] },
  { kind: 'drain', isReplaced: true },
  { kind: 'gone', uid: 'a' },
  { kind: 'draining', process: 7, pods: [], isLast: true },
];

describe('holder messages', () => {
  it('come back as they were sent', () => {
    for (const request of REQUESTS) assert.deepEqual(decodeRequest(encodePacket(request)), request);
    for (const one of MESSAGES) assert.deepEqual(decodeMessage(encodePacket(one)), one);
  });

  it('of another form are refused with one error', () => {
    const bad = [
      'nonsense',
      '{}',
      'null',
      '[]',
      '{"kind":"toString"}',
      '{"kind":"take"}',
      '{"kind":"take","uid":1}',
      '{"kind":"keep","held":{"uid":"a","netnsId":"4:1","pod":{},"names":[]}}',
      '{"kind":"report","pods":[{"name":"a","namespace":"b","connections":-1}],"isLast":true}',
    ];
    for (const text of bad) {
      assert.throws(() => decodeRequest(Buffer.from(text)), { code: 'holder_protocol' }, text);
    }
  });

  it('any bytes are refused or decoded, never another error', () => {
    fc.assert(
      fc.property(
        fc.oneof(
          fc.uint8Array(),
          fc.json().map((text) => Buffer.from(text)),
        ),
        (bytes) => {
          try {
            decodeRequest(bytes);
            decodeMessage(bytes);
          } catch (err) {
            assert.ok(err instanceof MeshError);
          }
        },
      ),
      { seed: 7 },
    );
  });

  it('the longest report fits in a packet', () => {
    const pods = Array.from({ length: REPORT_PODS }, () => ({
      name: 'n'.repeat(253),
      namespace: 's'.repeat(63),
      connections: Number.MAX_SAFE_INTEGER,
    }));
    const packet = encodePacket({ kind: 'draining', process: 4_194_304, pods, isLast: false });
    assert.ok(packet.length < MAX_SEQPACKET_BYTES, `${packet.length} bytes`);
  });
});
