import assert from 'node:assert/strict';
import { describe, it } from 'node:test';
import { builtinSchema } from '../../../../local/apiserver/schema/builtin.ts';
import { decodeProtobuf } from '../../../../local/apiserver/schema/protobuf.ts';
import { applyDefaults, findMistyped, prune } from '../../../../local/apiserver/schema/schema.ts';
import type { Schema } from '../../../../local/apiserver/schema/schema.ts';
import { validateValue } from '../../../../local/apiserver/schema/validator.ts';

const schema: Schema = {
  type: 'object',
  properties: {
    spec: {
      type: 'object',
      required: ['host'],
      properties: {
        host: { type: 'string' },
        port: { type: 'integer', default: 80 },
        items: { type: 'array', items: { type: 'object', properties: { a: { type: 'string' } } } },
        free: { type: 'object', 'x-kubernetes-preserve-unknown-fields': true },
        map: { type: 'object', additionalProperties: { type: 'string' } },
        either: { 'x-kubernetes-int-or-string': true },
      },
    },
  },
};

describe('structural schemas', () => {
  it('prune unknown fields and name them', () => {
    const object = {
      kind: 'A',
      metadata: { name: 'x', any: 1 },
      spec: { host: 'h', hosst: 1, items: [{ a: 'b', c: 1 }], free: { x: 1 }, map: { k: 'v' } },
      other: 1,
    };
    const { value, unknown } = prune(schema, object);
    assert.deepEqual(unknown, ['spec.hosst', 'spec.items[0].c', 'other']);
    assert.deepEqual(value, {
      kind: 'A',
      metadata: { name: 'x', any: 1 },
      spec: { host: 'h', items: [{ a: 'b' }], free: { x: 1 }, map: { k: 'v' } },
    });
  });

  it('apply defaults where a field is absent', () => {
    const object = { spec: { host: 'h' } };
    applyDefaults(schema, object);
    assert.deepEqual(object, { spec: { host: 'h', port: 80 } });
  });

  it('report every bad value with its path in Kubernetes’ words', () => {
    const problems = validateValue(schema, {
      spec: { port: 'x', items: [{ a: 1 }], either: true },
    });
    assert.deepEqual(problems.map(({ field, reason }) => `${field} ${reason}`).sort(), [
      'spec.either FieldValueInvalid',
      'spec.host FieldValueRequired',
      'spec.items[0].a FieldValueInvalid',
      'spec.port FieldValueInvalid',
    ]);
    assert.deepEqual(validateValue(schema, { spec: { host: 'a', either: 5 } }), []);
  });
});

describe('schemas of built-in kinds', () => {
  const pod = builtinSchema('v1', 'Pod') ?? {};

  it('know the fields of pods, inlined ones too', () => {
    const object = {
      spec: {
        containers: [{ name: 'a', livenessProbe: { httpGet: { port: 80 } }, imagee: 'x' }],
        volumes: [{ name: 'v', configMap: { name: 'c', defaultMode: 420 } }],
      },
    };
    assert.deepEqual(prune(pod, object).unknown, ['spec.containers[0].imagee']);
  });

  it('find a value of the wrong type', () => {
    const object = { spec: { containers: [{ name: true }] } };
    assert.equal(findMistyped(pod, object), 'spec.containers[0].name: string');
    assert.equal(
      findMistyped(pod, { spec: { containers: [{ name: 'a', image: null }] } }),
      undefined,
    );
  });
});

/** A length-delimited protobuf field. */
function bytes(number: number, value: Buffer | string): Buffer {
  const body = Buffer.from(value);
  return Buffer.concat([Buffer.from([(number << 3) | 2, body.length]), body]);
}

const int = (number: number, value: number): Buffer => Buffer.from([number << 3, value]);

function envelope(apiVersion: string, kind: string, raw: Buffer): Buffer {
  const type = Buffer.concat([bytes(1, apiVersion), bytes(2, kind)]);
  return Buffer.concat([Buffer.from('k8s\0'), bytes(1, type), bytes(2, raw)]);
}

describe('protobuf bodies', () => {
  it('decode to the JSON they stand for', () => {
    const metadata = Buffer.concat([
      bytes(1, 'a'),
      bytes(3, ''),
      bytes(11, Buffer.concat([bytes(1, 'app'), bytes(2, 'web')])),
    ]);
    const entry = Buffer.concat([bytes(1, 'k'), bytes(2, 'v')]);
    const raw = Buffer.concat([bytes(1, metadata), bytes(2, entry)]);
    assert.deepEqual(decodeProtobuf(envelope('v1', 'ConfigMap', raw)), {
      apiVersion: 'v1',
      kind: 'ConfigMap',
      metadata: { name: 'a', labels: { app: 'web' } },
      data: { k: 'v' },
    });
  });

  it('keep a zero that means something', () => {
    const raw = bytes(2, Buffer.concat([int(1, 0), int(5, 0)]));
    assert.deepEqual(decodeProtobuf(envelope('apps/v1', 'Deployment', raw))['spec'], {
      replicas: 0,
    });
  });

  it('never fail other than by refusing', () => {
    const good = envelope('v1', 'ConfigMap', bytes(1, bytes(1, 'a')));
    let seed = 7;
    const random = (below: number): number => {
      seed = (seed * 1_103_515_245 + 12_345) % 2 ** 31;
      return seed % below;
    };
    for (let round = 0; round < 3000; round += 1) {
      const mutated = Buffer.from(good.subarray(0, 1 + random(good.length)));
      mutated[random(mutated.length)] = random(256);
      try {
        decodeProtobuf(mutated);
      } catch (err) {
        assert.equal(
          (err as { name?: string }).name,
          'MeshError',
          `seed 7, round ${round}: ${String(err)}`,
        );
      }
    }
  });
});
