// What `npm run bench` makes of its runs: medians and ratios, of cases that all have a load.
import assert from 'node:assert/strict';
import { describe, it } from 'node:test';
import { HTTP_LOADS, STREAM_LOADS } from '../../bench/load.ts';
import { buildResult, formatTable, median } from '../../bench/report.ts';
import type { Sample } from '../../bench/report.ts';

const sample = (value: number, cpuSec = 1): Sample => ({
  ...{ value, cpuSec },
  ...{ amount: 2, residentMb: 80 },
});

describe('the benchmark', () => {
  it('has a load for each case: streams, requests, connections, and the latency of whole round trips', () => {
    const cases = [...STREAM_LOADS, ...HTTP_LOADS].flatMap((load) => load.cases);
    assert.deepEqual(cases, [
      ...['stream_up', 'stream_down', 'stream_8'],
      ...['requests', 'new_connections', 'p50_1000', 'p99_1000'],
    ]);
  });

  it('compares medians, one run that is off changes nothing', () => {
    const result = buildResult('requests', {
      direct: [sample(400), sample(400), sample(1)],
      mesh: [sample(120), sample(9000), sample(110)],
      peer: [sample(100), sample(90, 3), sample(110)],
    });
    assert.partialDeepStrictEqual(result, { direct: 400, mesh: 120, peer: 100 });
    assert.deepEqual([result.ratioToDirect, result.ratioToPeer], [0.3, 1.2]);
    assert.deepEqual([result.cpuPerUnit, result.peerCpuPerUnit], [0.5, 0.5]);
  });

  it('says that there is no peer, and takes the mean of two middle values', () => {
    const runs = [sample(1), sample(3)];
    const result = buildResult('stream_up', { direct: runs, mesh: runs, peer: [] });
    assert.deepEqual([result.peer, result.ratioToPeer, result.mesh], [null, null, 2]);
    assert.match(formatTable({ stream_up: result }), /^stream_up .* - .*Gbit\/s/m);
    assert.ok(Number.isNaN(median([])));
  });
});
