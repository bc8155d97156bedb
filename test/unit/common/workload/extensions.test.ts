// The rate of L7 sight on the wire: an extension that proxies without it skip.
import assert from 'node:assert/strict';
import { describe, it } from 'node:test';
import { create } from '@bufbuild/protobuf';
import { ExtensionSchema } from '../../../../common/workload/gen/workload_pb.ts';
import {
  L7_SIGHT_EXTENSION,
  l7SightExtension,
  nodeLocalExtension,
  readL7Percent,
} from '../../../../common/workload/extensions.ts';

const config = (typeUrl: string, ...value: number[]): { typeUrl: string; value: Uint8Array } => ({
  typeUrl,
  value: Uint8Array.from(value),
});
const DOUBLE = 'type.googleapis.com/google.protobuf.DoubleValue';

describe('the rate of L7 sight', () => {
  for (const percent of [0.001, 1, 33.3, 100]) {
    it(`${percent} is read as it was written`, () => {
      assert.equal(readL7Percent([nodeLocalExtension(), l7SightExtension(percent)]), percent);
    });
  }

  it('all is said without a config', () => {
    assert.equal(l7SightExtension(100).config, undefined);
  });

  for (const [what, unreadable] of [
    ['another type', config('type.googleapis.com/google.protobuf.Struct')],
    ['bytes cut off', config(DOUBLE, 9, 0, 0)],
    // 128.0 and NaN.
    ['more than all', config(DOUBLE, 9, 0, 0, 0, 0, 0, 0, 0x60, 0x40)],
    ['no number', config(DOUBLE, 9, 0, 0, 0, 0, 0, 0, 0xf8, 0x7f)],
  ] as const) {
    it(`nothing is observed, and nothing else is lost, with ${what}`, () => {
      const extension = create(ExtensionSchema, { name: L7_SIGHT_EXTENSION, config: unreadable });
      assert.equal(readL7Percent([extension]), 0);
    });
  }

  it('without the extension there is none', () => {
    assert.equal(readL7Percent([nodeLocalExtension()]), 0);
  });
});
