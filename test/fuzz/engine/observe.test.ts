// Conversations with flipped, dropped, repeated and swapped bytes, cut anywhere, and plain noise: an observer never throws, ends
// once, never changes what it is shown, and gives everything back. Seeded.
import assert from 'node:assert/strict';
import { after, before, describe, it } from 'node:test';
import { mirrorSessionCount } from '../../../engine/observe/mirror-session.ts';
import { nativeQueueCount } from '../../../engine/reactor/bytes.ts';
import {
  observeConversation,
  recordHttp1,
  recordHttp2,
  type Conversation,
} from '../../support/http-recording.ts';
import { seededRandom } from '../../support/seeded-random.ts';

const ROUNDS = Number(process.env['FUZZ_ROUNDS'] ?? 1500);
const SEED = Number(process.env['FUZZ_SEED'] ?? 20_261_123);

const random = seededRandom(SEED);

function mutateBytes(sample: Buffer): Buffer {
  const bytes = Buffer.from(sample);
  const at = random(bytes.length + 1);
  const length = 1 + random(40);
  switch (random(5)) {
    case 0:
      return Buffer.concat([bytes.subarray(0, at), bytes.subarray(at + length)]);
    case 1:
      return Buffer.concat([bytes.subarray(0, at + length), bytes.subarray(at)]);
    case 2:
      return bytes.subarray(0, at);
    default:
      for (let i = 0; i < length && at + i < bytes.length; i += 1 + random(20)) {
        bytes[at + i] = random(256);
      }
      return bytes;
  }
}

function mutate(sample: Conversation): Conversation {
  const pieces = [...sample];
  for (let i = random(4); i >= 0; i--) {
    const at = random(pieces.length);
    const piece = pieces[at];
    if (piece === undefined) continue;
    if (random(6) === 0) {
      // Out of order, or of the other side.
      pieces.splice(at, 1);
      pieces.splice(random(pieces.length + 1), 0, { ...piece, isForward: random(4) !== 0 });
    } else {
      pieces[at] = { ...piece, bytes: mutateBytes(piece.bytes) };
    }
  }
  return pieces;
}

const noise = (): Conversation =>
  Array.from({ length: 1 + random(5) }, () => ({
    isForward: random(2) === 0,
    bytes: Buffer.from(Array.from({ length: random(200) }, () => random(256))),
  }));

describe('an observer of broken conversations', () => {
  const samples: Conversation[] = [];
  const ends = new Map<string, number>();

  before(async () => {
    samples.push(await recordHttp1(), await recordHttp2());
  });

  after(() => {
    assert.equal(mirrorSessionCount(), 0);
    assert.equal(nativeQueueCount(), 0);
  });

  it(`survives ${ROUNDS} of them`, () => {
    for (let round = 0; round < ROUNDS; round++) {
      const sample = samples[round % 2] ?? [];
      const broken = round % 10 === 0 ? noise() : mutate(sample);
      const step = 1 + random(4000);
      const { end = '' } = observeConversation(broken, () => 1 + random(step));
      ends.set(end, (ends.get(end) ?? 0) + 1);
    }
    assert.equal(ends.get('failed'), undefined);
    // Both that which breaks and that which does not.
    assert.ok((ends.get('parse_error') ?? 0) > ROUNDS / 20, JSON.stringify([...ends]));
    assert.ok((ends.get('ended') ?? 0) > ROUNDS / 20, JSON.stringify([...ends]));
  });
});
