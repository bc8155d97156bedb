// The soak run's verdict, and its chart.
import assert from 'node:assert/strict';
import { describe, it } from 'node:test';
import { drawCharts } from '../../soak/chart.ts';
import { floorOf, slopeOf, trendOf } from '../../soak/trend.ts';
import type { Sample } from '../../soak/trend.ts';

const series = (value: (second: number) => number): Sample[] =>
  Array.from({ length: 120 }, (_, at) => [at * 5, value(at * 5)]);

describe('trend', () => {
  const rows: readonly [claim: string, samples: Sample[], isFlat: boolean][] = [
    ['a constant is flat', series(() => 80), true],
    ['a saw is flat', series((second) => 80 + (second % 60) / 10), true],
    ['what a start needs is not counted', series((second) => Math.min(80, second)), true],
    ['what falls is flat', series((second) => 200 - second / 10), true],
    ['a leak of 2 MB a minute is not', series((second) => 80 + second / 30), false],
    ['a leak under a saw is not', series((second) => 80 + (second % 60) / 10 + second / 30), false],
  ];
  for (const [claim, samples, isFlat] of rows) {
    it(claim, () => assert.equal(trendOf('memory', samples, 6).isFlat, isFlat));
  }

  it('has the slope of a line, and none of a point', () => {
    assert.equal(slopeOf(series((second) => 3 + 2 * second)).toFixed(6), '2.000000');
    assert.equal(slopeOf([[1, 1]]), 0);
  });
});

describe('floor', () => {
  const spikes = (leak: number): Sample[] =>
    series((second) => 50 + second * leak + (second % 45 < 10 ? 1000 : 0));

  it('does not see loads that last for seconds, and sees what they leave behind', () => {
    assert.equal(trendOf('descriptors', floorOf(spikes(0), 30), 40).isFlat, true);
    assert.equal(trendOf('descriptors', floorOf(spikes(0.2), 30), 40).isFlat, false);
  });
});

describe('drawCharts', () => {
  it('places points by value, on a logarithmic axis too', () => {
    const points = [10, 100, 1000].map((x) => [x, x] as const);
    const chart = { title: 'a < b', xLabel: 'x', yLabel: 'y', lines: [{ name: 'one', points }] };
    const places = (svg: string): number[] =>
      [...svg.matchAll(/<circle cx="([\d.]+)"/g)].map(([, x]) => Number(x));
    const [first = 0, middle = 0, last = 0] = places(drawCharts([{ ...chart, isLogX: true }]));
    assert.equal(middle - first, last - middle);
    const [, linear = 0] = places(drawCharts([chart]));
    assert.ok(linear < middle);
    assert.match(drawCharts([chart]), /a &lt; b/);
  });
});
