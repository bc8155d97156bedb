// The index against a plain list: whatever is put and dropped, it finds what the list has.
import assert from 'node:assert/strict';
import { describe, it } from 'node:test';
import fc from 'fast-check';
import { ScopedIndex } from '../../../../common/workload/scoped-index.ts';

interface Thing {
  readonly id: string;
  readonly generation: number;
}

describe('ScopedIndex', () => {
  it('has what was put and not dropped, newest of each id, whatever the order', () => {
    const step = fc.record({
      isPut: fc.boolean(),
      scope: fc.constantFrom('', 'net'),
      name: fc.constantFrom('10.0.0.1', '10.0.0.2'),
      id: fc.constantFrom('a', 'b', 'c'),
    });
    fc.assert(
      fc.property(fc.array(step, { maxLength: 40 }), (steps) => {
        const index = new ScopedIndex<Thing>(({ id }) => id);
        const model = new Map<string, Thing>();
        for (const [generation, { isPut, scope, name, id }] of steps.entries()) {
          const thing = { id, generation };
          if (isPut) index.put(scope, name, thing);
          else index.drop(scope, name, thing);
          const key = `${scope}|${name}|${id}`;
          if (isPut) model.set(key, thing);
          else model.delete(key);
        }
        for (const scope of ['', 'net']) {
          for (const name of ['10.0.0.1', '10.0.0.2']) {
            const wanted = [...model].filter(([key]) => key.startsWith(`${scope}|${name}|`));
            const found = [...index.get(scope, name)].map((one) => `${one.id}${one.generation}`);
            const expected = wanted.map(([, one]) => `${one.id}${one.generation}`);
            assert.deepEqual(found.toSorted(), expected.toSorted());
          }
        }
      }),
    );
  });

  it('forgets everything', () => {
    const index = new ScopedIndex<Thing>(({ id }) => id);
    index.put('', 'x', { id: 'a', generation: 1 });
    index.clear();
    assert.deepEqual([...index.get('', 'x')], []);
  });
});
