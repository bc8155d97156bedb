import assert from 'node:assert/strict';
import { describe, it } from 'node:test';
import { buckets, parseSamples, quantile, sum } from '../../../../common/telemetry/samples.ts';

const TEXT = `# HELP requests_total help
# TYPE requests_total counter
requests_total{code="200",path="a\\"b"} 3
requests_total{code="500"} 1
up 1
latency_bucket{le="10"} 50
latency_bucket{le="20"} 100
latency_bucket{le="+Inf"} 100
nonsense
`;

describe('samples', () => {
  it('reads names, labels with quotes, and values; skips the rest', () => {
    const samples = parseSamples(TEXT);
    assert.equal(samples.length, 6);
    assert.deepEqual(samples[0]?.labels, { code: '200', path: 'a"b' });
  });

  it('sums what matches', () => {
    const samples = parseSamples(TEXT);
    assert.equal(sum(samples, 'requests_total'), 4);
    assert.equal(
      sum(samples, 'requests_total', ({ code }) => code === '500'),
      1,
    );
  });

  it('interpolates quantiles inside a bucket, of what was added', () => {
    const now = buckets(parseSamples(TEXT), 'latency');
    assert.equal(quantile(0.5, now, new Map()), 10);
    assert.equal(quantile(0.75, now, new Map()), 15);
    assert.equal(quantile(0.5, now, now), undefined);
  });
});
