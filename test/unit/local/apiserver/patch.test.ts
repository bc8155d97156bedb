import assert from 'node:assert/strict';
import { describe, it } from 'node:test';
import { applyJsonPatch } from '../../../../local/apiserver/patch/json-patch.ts';
import {
  applyMergePatch,
  applyStrategicPatch,
} from '../../../../local/apiserver/patch/merge-patch.ts';
import { builtinShape } from '../../../../local/apiserver/patch/shape.ts';
import { StatusError } from '../../../../local/apiserver/status-error.ts';

const deployment = builtinShape('Deployment');
const service = builtinShape('Service');

describe('JSON patch', () => {
  const rows: [string, unknown, unknown, unknown][] = [
    ['adds a member', { a: 1 }, [{ op: 'add', path: '/b', value: 2 }], { a: 1, b: 2 }],
    ['appends to a list', { a: [1] }, [{ op: 'add', path: '/a/-', value: 2 }], { a: [1, 2] }],
    [
      'inserts into a list',
      { a: [1, 3] },
      [{ op: 'add', path: '/a/1', value: 2 }],
      { a: [1, 2, 3] },
    ],
    ['removes', { a: 1, b: 2 }, [{ op: 'remove', path: '/a' }], { b: 2 }],
    [
      'replaces',
      { a: { 'b/c': 1 } },
      [{ op: 'replace', path: '/a/b~1c', value: 2 }],
      { a: { 'b/c': 2 } },
    ],
    ['moves', { a: 1 }, [{ op: 'move', from: '/a', path: '/b' }], { b: 1 }],
    ['copies', { a: 1 }, [{ op: 'copy', from: '/a', path: '/b' }], { a: 1, b: 1 }],
    ['tests', { a: [1] }, [{ op: 'test', path: '/a', value: [1] }], { a: [1] }],
    ['replaces the root', { a: 1 }, [{ op: 'replace', path: '', value: 2 }], 2],
  ];
  for (const [name, target, patch, expected] of rows) {
    it(name, () => assert.deepEqual(applyJsonPatch(target, patch), expected));
  }

  for (const [name, patch] of [
    ['a failing test', [{ op: 'test', path: '/a', value: 2 }]],
    ['a missing path', [{ op: 'remove', path: '/b/c' }]],
    ['an index out of range', [{ op: 'add', path: '/l/5', value: 1 }]],
    ['an unknown operation', [{ op: 'sort', path: '/l' }]],
    ['a patch that is no list', { op: 'add' }],
  ] as const) {
    it(`refuses ${name}`, () => {
      assert.throws(() => applyJsonPatch({ a: 1, l: [] }, patch), StatusError);
    });
  }

  it('leaves the target as it was, and prototypes alone', () => {
    const target = { a: { b: 1 } };
    const result = applyJsonPatch(target, [
      { op: 'add', path: '/a/b', value: 2 },
      { op: 'add', path: '/__proto__', value: { polluted: true } },
    ]);
    assert.deepEqual(target, { a: { b: 1 } });
    assert.equal(({} as { polluted?: boolean }).polluted, undefined);
    assert.ok(Object.hasOwn(result as object, '__proto__'));
  });
});

describe('merge patch', () => {
  it('merges objects, replaces lists, removes by null', () => {
    const target = { a: { b: 1, c: 2 }, l: [1, 2], d: 1 };
    const patch = { a: { b: null, e: 3 }, l: [3], d: null };
    assert.deepEqual(applyMergePatch(target, patch), { a: { c: 2, e: 3 }, l: [3] });
  });
});

describe('strategic merge patch', () => {
  const target = {
    spec: {
      template: {
        spec: {
          containers: [
            {
              name: 'a',
              image: 'x:1',
              env: [{ name: 'K', value: '1' }],
              ports: [{ containerPort: 80 }],
            },
            { name: 'b', image: 'y:1' },
          ],
          tolerations: [{ key: 'one' }],
        },
      },
    },
  };
  const patched = (containers: unknown[], rest: object = {}): unknown =>
    applyStrategicPatch(
      target,
      { spec: { template: { spec: { containers, ...rest } } } },
      deployment,
    );
  const podSpec = (of: unknown): { containers: Record<string, unknown>[] } =>
    (of as { spec: { template: { spec: { containers: Record<string, unknown>[] } } } }).spec
      .template.spec;

  it('merges containers by name, and lists inside them by their keys', () => {
    const { containers } = podSpec(
      patched([
        {
          name: 'a',
          env: [{ name: 'L', value: '2' }],
          ports: [{ containerPort: 80, name: 'http' }],
        },
      ]),
    );
    assert.deepEqual(containers[0], {
      name: 'a',
      image: 'x:1',
      env: [
        { name: 'K', value: '1' },
        { name: 'L', value: '2' },
      ],
      ports: [{ containerPort: 80, name: 'http' }],
    });
    assert.equal(containers.length, 2);
  });

  it('deletes an item by its directive', () => {
    const { containers } = podSpec(patched([{ name: 'b', $patch: 'delete' }]));
    assert.deepEqual(
      containers.map(({ name }) => name),
      ['a'],
    );
  });

  it('replaces a list by its directive', () => {
    const { containers } = podSpec(patched([{ $patch: 'replace' }, { name: 'c' }]));
    assert.deepEqual(containers, [{ name: 'c' }]);
  });

  it('orders items as asked', () => {
    const order = { '$setElementOrder/containers': [{ name: 'b' }, { name: 'a' }] };
    const { containers } = podSpec(patched([{ name: 'a', image: 'x:2' }], order));
    assert.deepEqual(
      containers.map(({ name }) => name),
      ['b', 'a'],
    );
  });

  it('replaces lists without a key', () => {
    const result = patched([], { tolerations: [{ key: 'two' }] });
    assert.deepEqual((podSpec(result) as { tolerations?: unknown }).tolerations, [{ key: 'two' }]);
  });

  it('merges service ports by port, and retains only the keys listed', () => {
    const result = applyStrategicPatch(
      {
        spec: { ports: [{ port: 80, name: 'http', nodePort: 30_000 }], type: 'NodePort', extra: 1 },
      },
      {
        spec: {
          $retainKeys: ['ports', 'type'],
          ports: [{ port: 80, targetPort: 8080 }],
          type: 'ClusterIP',
        },
      },
      service,
    );
    assert.deepEqual(result, {
      spec: {
        ports: [{ port: 80, name: 'http', nodePort: 30_000, targetPort: 8080 }],
        type: 'ClusterIP',
      },
    });
  });

  it('removes from lists of primitives', () => {
    const result = applyStrategicPatch(
      { metadata: { finalizers: ['a', 'b'] } },
      { metadata: { '$deleteFromPrimitiveList/finalizers': ['a'] } },
      deployment,
    );
    assert.deepEqual(result, { metadata: { finalizers: ['b'] } });
  });
});
