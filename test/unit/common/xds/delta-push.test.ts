// A push read resource by resource, held against the generated decoder.
import assert from 'node:assert/strict';
import { describe, it } from 'node:test';
import { create, toBinary } from '@bufbuild/protobuf';
import fc from 'fast-check';
import { readDeltaPush } from '../../../../common/xds/delta-push.ts';
import { DeltaDiscoveryResponseSchema } from '../../../../common/xds/gen/discovery_pb.ts';
import { MeshError } from '../../../../common/errors.ts';

const TYPE = 'type.example/T';

function encode(
  resources: readonly { name: string; version: string; value: Uint8Array; type?: string }[],
): Uint8Array {
  return toBinary(
    DeltaDiscoveryResponseSchema,
    create(DeltaDiscoveryResponseSchema, {
      systemVersionInfo: '7',
      typeUrl: TYPE,
      nonce: 'n',
      removedResources: ['gone'],
      resources: resources.map(({ name, version, value, type = TYPE }) => ({
        ...{ name, version, aliases: ['other'], ttl: { seconds: 5n } },
        resource: { typeUrl: type, value },
      })),
    }),
  );
}

describe('readDeltaPush', () => {
  it('finds what the generated encoder wrote, and passes over the rest', () => {
    const part = fc.record(
      { name: fc.string(), version: fc.string(), value: fc.uint8Array({ maxLength: 300 }) },
      { noNullPrototype: true },
    );
    fc.assert(
      fc.property(fc.array(part, { maxLength: 20 }), (resources) => {
        const push = readDeltaPush(encode(resources));
        assert.deepEqual([push.typeUrl, push.nonce, push.removedResources], [TYPE, 'n', ['gone']]);
        const found = resources.map((one) => ({ ...one, aliases: ['other'] }));
        assert.deepEqual([...push.resources], found);
        assert.deepEqual([...push.resources], found, 'readable again');
      }),
    );
  });

  it('says which resources are of another type; one without a type is of the push’s', () => {
    const value = Uint8Array.of(1);
    const types = [TYPE, 'type.example/U', ''];
    const push = readDeltaPush(
      encode(types.map((type) => ({ name: 'a', version: '1', value, type }))),
    );
    const found = [...push.resources].map(({ otherType }) => otherType);
    assert.deepEqual(found, [undefined, 'type.example/U', undefined]);
  });

  it('refuses what it cannot read, with nothing but a MeshError', () => {
    const whole = encode([{ name: 'a', version: '1', value: Uint8Array.of(1, 2, 3) }]);
    fc.assert(
      fc.property(fc.nat(whole.length - 1), fc.nat(255), fc.boolean(), (at, byte, isCut) => {
        const bytes = isCut ? whole.slice(0, at) : whole.with(at, byte);
        try {
          assert.ok([...readDeltaPush(bytes).resources].length <= 3);
        } catch (err) {
          assert.ok(err instanceof MeshError && err.code === 'bad_push', String(err));
        }
      }),
    );
    assert.throws(() => readDeltaPush(whole.slice(0, -1)), { code: 'bad_push' });
  });
});
