import assert from 'node:assert/strict';
import { describe, it } from 'node:test';
import { duration } from '../../../../local/apiserver/print/age.ts';
import { evaluatePath } from '../../../../local/apiserver/print/json-path.ts';

describe('printer columns', () => {
  const object = {
    metadata: { name: 'a', annotations: { 'example.com/x': 'y' } },
    status: {
      conditions: [
        { type: 'Ready', status: 'True' },
        { type: 'Accepted', status: 'False' },
      ],
      addresses: [{ value: '1.1.1.1' }, { value: '2.2.2.2' }],
    },
  };
  const rows: [string, unknown[]][] = [
    ['.metadata.name', ['a']],
    ['.status.conditions[?(@.type=="Ready")].status', ['True']],
    [".status.conditions[?(@.type=='Accepted')].status", ['False']],
    ['.status.addresses[*].value', ['1.1.1.1', '2.2.2.2']],
    ['.status.addresses[1].value', ['2.2.2.2']],
    [".metadata.annotations['example.com/x']", ['y']],
    ['.metadata.annotations.example\\.com/x', ['y']],
    ['.spec.missing', []],
    ['..not understood', []],
  ];
  for (const [path, expected] of rows) {
    it(path, () => assert.deepEqual(evaluatePath(path, object), expected));
  }
});

describe('ages', () => {
  const rows: [number, string][] = [
    [-5, '0s'],
    [119, '119s'],
    [120, '2m'],
    [192, '3m12s'],
    [3600, '60m'],
    [11_000, '3h3m'],
    [90_000, '25h'],
    [200_000, '2d7h'],
    [8_640_000, '100d'],
  ];
  for (const [seconds, expected] of rows) {
    it(`${seconds} s is ${expected}`, () => assert.equal(duration(seconds * 1000), expected));
  }
});
