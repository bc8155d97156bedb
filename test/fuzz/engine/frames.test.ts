// The splitting of an HTTP/2 session's input against a model: frames in order and out of order, cut anywhere, give the same parts
// as the model says; noise never throws, never reads beyond its end, and is given to nghttp2 where it is not ours. Seeded.
import assert from 'node:assert/strict';
import { describe, it } from 'node:test';
import { FrameReader, type FrameUser } from '../../../engine/http2/frame-reader.ts';
import type { OwnedStream } from '../../../engine/http2/http2-stream.ts';
import { free, malloc } from '../../../engine/native/libc.ts';
import {
  WINDOW_BYTES,
  copyBytes,
  copyOut,
  releaseBlock,
  takeBlock,
} from '../../../engine/native/memory.ts';
import {
  CONTINUATION,
  DATA,
  END_HEADERS,
  END_STREAM,
  HEADERS,
  PADDED,
  PING,
  WINDOW_UPDATE,
  frame,
  paddedData,
  uint32,
  windowUpdate,
} from '../../support/http2-frames.ts';
import { seededRandom } from '../../support/seeded-random.ts';

const ROUNDS = Number(process.env['FUZZ_ROUNDS'] ?? 1500);
const SEED = Number(process.env['FUZZ_SEED'] ?? 20_261_123);
const MAX_FRAME_BYTES = 2000;
const TUNNELS = 5;

const random = seededRandom(SEED);

/** What became of the input, in order; neighbours of one kind are joined. */
class Parts implements FrameUser {
  readonly list: string[] = [];
  isClosed = false;
  readonly #streams = new Map(
    Array.from({ length: TUNNELS }, (_, i) => {
      const id = 2 * i + 1;
      return [id, { id } as unknown as OwnedStream];
    }),
  );

  add(kind: string, text: string): void {
    const last = this.list.at(-1);
    if (text === '') return;
    if (last?.startsWith(`${kind} `) === true) this.list[this.list.length - 1] = last + text;
    else this.list.push(`${kind} ${text}`);
  }

  control(address: number, length: number): void {
    assert.ok(length > 0);
    this.add('control', copyBytes(address, length).toString('hex'));
  }

  tunnelOf(streamId: number): OwnedStream | undefined {
    return this.#streams.get(streamId);
  }

  begin(stream: OwnedStream, length: number): void {
    this.list.push(`begin ${stream.id} ${length}`);
  }

  data(stream: OwnedStream, address: number, length: number): void {
    this.add(`data ${stream.id}`, copyBytes(address, length).toString('hex'));
  }

  padding(stream: OwnedStream, length: number): void {
    this.list.push(`padding ${stream.id} ${length}`);
  }

  opened(streamId: number, increment: number): boolean {
    if (increment === 0 || streamId > 2 * TUNNELS) return false;
    this.list.push(`opened ${streamId} ${increment}`);
    return true;
  }

  malformed(): void {
    this.list.push('malformed');
    this.isClosed = true;
  }
}

function payload(): Buffer {
  return Buffer.alloc(random(random(4) === 0 ? 600 : 12), random(256));
}

/** One frame, what the model says of it, and whether it opens or ends a header block. */
function pick(parts: Parts, isBlockOpen: boolean): { bytes: Buffer; isBlockOpen: boolean } {
  const id = 2 * random(TUNNELS + 2) + 1;
  const isTunnel = !isBlockOpen && id < 2 * TUNNELS;
  const body = payload();
  const toNghttp2 = (
    bytes: Buffer,
    open = isBlockOpen,
  ): { bytes: Buffer; isBlockOpen: boolean } => {
    parts.add('control', bytes.toString('hex'));
    return { bytes, isBlockOpen: open };
  };
  const carry = (bytes: Buffer, padding: number | undefined, flags: number): Buffer => {
    parts.list.push(`begin ${id} ${bytes.length - 9}`);
    if (padding !== undefined) parts.list.push(`padding ${id} ${padding + 1}`);
    parts.add(`data ${id}`, body.toString('hex'));
    if ((flags & END_STREAM) !== 0)
      parts.add('control', frame(DATA, END_STREAM, id).toString('hex'));
    return bytes;
  };
  switch (random(8)) {
    case 0: {
      const flags = random(2) * END_HEADERS;
      return toNghttp2(frame(HEADERS, flags, id, body), flags === 0);
    }
    case 1: {
      const flags = random(2) * END_HEADERS;
      return toNghttp2(frame(CONTINUATION, flags, id, body), flags === 0);
    }
    case 2:
      return toNghttp2(frame(PING, 0, 0, body));
    case 3: {
      const increment = random(3) === 0 ? 0 : 1 + random(0x7fff_fffe);
      const stream = random(3) === 0 ? 0 : id;
      const bytes = windowUpdate(stream, increment);
      if (isBlockOpen || increment === 0 || stream > 2 * TUNNELS) return toNghttp2(bytes);
      parts.list.push(`opened ${stream} ${increment}`);
      return { bytes, isBlockOpen };
    }
    case 4:
      return toNghttp2(frame(WINDOW_UPDATE, 0, id, Buffer.concat([uint32(1), Buffer.alloc(1)])));
    case 5: {
      const padding = random(256);
      const bytes = paddedData(id, body, padding);
      return isTunnel ? { bytes: carry(bytes, padding, 0), isBlockOpen } : toNghttp2(bytes);
    }
    case 6:
      return toNghttp2(frame(DATA, 0, id, Buffer.alloc(MAX_FRAME_BYTES + 1)));
    default: {
      const flags = random(4) === 0 ? END_STREAM : 0;
      const bytes = frame(DATA, flags, id, body);
      return isTunnel ? { bytes: carry(bytes, undefined, flags), isBlockOpen } : toNghttp2(bytes);
    }
  }
}

/** Feeds `bytes` in pieces, each at a place of its own in native memory. */
function feed(reader: FrameReader, bytes: Buffer, nextLength: () => number): void {
  const block = takeBlock();
  try {
    for (let at = 0; at < bytes.length;) {
      const piece = bytes.subarray(at, at + nextLength());
      const place = block.address + random(1000);
      copyOut(piece, place);
      reader.read(place, piece.length);
      at += piece.length;
    }
  } finally {
    releaseBlock();
  }
}

const WAYS = {
  'byte by byte': () => 1,
  'in small pieces': () => 1 + random(30),
  'in large pieces': () => 1 + random(20_000),
};

describe('the parts of a session’s input', () => {
  for (const [way, nextLength] of Object.entries(WAYS)) {
    it(`are those of the model, ${way} (seed ${SEED})`, () => {
      for (let round = 0; round < ROUNDS / 5; round++) {
        const expected = new Parts();
        const frames: Buffer[] = [];
        for (let i = 0, isBlockOpen = false; i < 12; i++) {
          const picked = pick(expected, isBlockOpen);
          frames.push(picked.bytes);
          ({ isBlockOpen } = picked);
        }
        const parts = new Parts();
        feed(new FrameReader(parts, false, MAX_FRAME_BYTES), Buffer.concat(frames), nextLength);
        assert.deepEqual(parts.list, expected.list);
      }
    });
  }

  it('the preface of a server’s peer is for nghttp2', () => {
    const parts = new Parts();
    const bytes = Buffer.concat([Buffer.alloc(24, 0), frame(DATA, 0, 1, Buffer.from('x'))]);
    feed(new FrameReader(parts, true, MAX_FRAME_BYTES), bytes, () => 1 + random(8));
    assert.deepEqual(parts.list, [`control ${'00'.repeat(24)}`, 'begin 1 1', 'data 1 78']);
  });

  it(`noise never throws, and pieces of it do not matter (seed ${SEED})`, () => {
    for (let round = 0; round < ROUNDS; round++) {
      const bytes = Buffer.alloc(random(200));
      for (let i = 0; i < bytes.length; i++) bytes[i] = random(3) === 0 ? random(256) : random(10);
      const whole = new Parts();
      feed(new FrameReader(whole, false, MAX_FRAME_BYTES), bytes, () => bytes.length);
      const pieces = new Parts();
      feed(new FrameReader(pieces, false, MAX_FRAME_BYTES), bytes, () => 1 + random(9));
      // What is not a whole header yet waits; with pieces nothing else may differ.
      assert.deepEqual(pieces.list, whole.list);
    }
  });

  it('a header may lie across two windows of native memory', () => {
    const memory = malloc(2 * WINDOW_BYTES);
    const boundary = Math.ceil(memory / WINDOW_BYTES) * WINDOW_BYTES;
    const bytes = Buffer.concat([windowUpdate(1, 7), frame(DATA, END_STREAM, 1, Buffer.from('x'))]);
    for (let before = 0; before <= bytes.length; before++) {
      // Never before the memory itself.
      const place = Math.max(memory, boundary - before);
      copyOut(bytes, place);
      const parts = new Parts();
      new FrameReader(parts, false, MAX_FRAME_BYTES).read(place, bytes.length);
      const end = frame(DATA, END_STREAM, 1).toString('hex');
      assert.deepEqual(parts.list, ['opened 1 7', 'begin 1 1', 'data 1 78', `control ${end}`]);
    }
    free(memory);
  });

  it('padding that fills or overfills its frame', () => {
    for (const [body, expected] of [
      [Buffer.from([2, 0, 0]), ['begin 1 3', 'padding 1 3']],
      [Buffer.from([3, 0, 0]), ['begin 1 3', 'malformed']],
      [Buffer.alloc(0), ['begin 1 0', 'malformed']],
    ] as const) {
      const parts = new Parts();
      feed(new FrameReader(parts, false, MAX_FRAME_BYTES), frame(DATA, PADDED, 1, body), () => 1);
      assert.deepEqual(parts.list, expected);
    }
  });
});
