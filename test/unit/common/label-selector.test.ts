import assert from 'node:assert/strict';
import { describe, it } from 'node:test';
import { matchesSelector, meetsOperator } from '../../../common/label-selector.ts';

describe('label selector', () => {
  it('meets operators', () => {
    const rows: [string | undefined, string, string[], boolean][] = [
      ['a', 'In', ['a', 'b'], true],
      ['c', 'In', ['a', 'b'], false],
      [undefined, 'In', ['a'], false],
      ['c', 'NotIn', ['a'], true],
      ['a', 'NotIn', ['a'], false],
      [undefined, 'NotIn', ['a'], true],
      ['', 'Exists', [], true],
      [undefined, 'Exists', [], false],
      [undefined, 'DoesNotExist', [], true],
      ['', 'DoesNotExist', [], false],
      ['a', 'Like', ['a'], false],
    ];
    for (const [value, operator, values, expected] of rows) {
      assert.equal(
        meetsOperator(value, operator, values),
        expected,
        `${value ?? 'unset'} ${operator}`,
      );
    }
  });

  it('needs all labels and all expressions, and an empty selector matches everything', () => {
    const selector = {
      matchLabels: { app: 'web' },
      matchExpressions: [{ key: 'old', operator: 'DoesNotExist' }],
    };
    assert.equal(matchesSelector({ app: 'web' }, selector), true);
    assert.equal(matchesSelector({ app: 'web', old: '' }, selector), false);
    assert.equal(matchesSelector({}, selector), false);
    assert.equal(matchesSelector({}, {}), true);
  });

  it('takes no inherited property for a label', () => {
    const selector = { matchExpressions: [{ key: 'constructor', operator: 'Exists' }] };
    assert.equal(matchesSelector({}, selector), false);
  });
});
