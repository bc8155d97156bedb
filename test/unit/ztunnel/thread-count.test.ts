// The number of data threads: Istio's variables and syntax, our default.
import assert from 'node:assert/strict';
import { describe, it } from 'node:test';
import { coresOf, dataThreadCount } from '../../../ztunnel/thread-count.ts';

const UNSET = { wanted: undefined, limit: undefined, request: undefined };

describe('number of data threads', () => {
  for (const [cores, count] of [
    [1, 1],
    [2, 1],
    [3, 1],
    [4, 2],
    [7, 3],
    [8, 4],
    [16, 8],
    [128, 8],
  ] as const) {
    it(`is ${count} on ${cores} cores`, () => {
      assert.equal(dataThreadCount({ ...UNSET, cores }), count);
    });
  }

  for (const [limit, request, count] of [
    ['500m', undefined, 1],
    ['4', undefined, 2],
    ['3500m', undefined, 2],
    ['2', '200m', 1],
    [undefined, '200m', 4],
    ['6', '4', 4],
    [undefined, '32', 8],
  ] as const) {
    it(`is ${count} with limit ${limit}, request ${request}, on eight cores`, () => {
      assert.equal(dataThreadCount({ wanted: undefined, limit, request, cores: 8 }), count);
    });
  }

  for (const [wanted, limit, count] of [
    ['3', undefined, 3],
    ['0', undefined, 8],
    ['0', '2', 2],
    ['50%', undefined, 4],
    ['50%', '2500m', 2],
    ['1%', undefined, 1],
    ['100%', undefined, 8],
    ['999', undefined, 64],
    ['0%', undefined, undefined],
    ['101%', undefined, undefined],
    ['-1', undefined, undefined],
    ['1.5', undefined, undefined],
    ['many', undefined, undefined],
    [undefined, '0', undefined],
    [undefined, 'x', undefined],
    ['2', '1Gi', undefined],
  ] as const) {
    it(`is ${count} when ${wanted} are wanted with limit ${limit} on eight cores`, () => {
      assert.equal(dataThreadCount({ wanted, limit, request: undefined, cores: 8 }), count);
    });
  }

  it('reads quantities as Kubernetes writes them, rounded up', () => {
    assert.deepEqual(['1', '1.2', '500m', '1500m', '0.1', '', 'm', '1e3', '2k'].map(coresOf), [
      1,
      2,
      1,
      2,
      1,
      undefined,
      undefined,
      undefined,
      undefined,
    ]);
  });
});
