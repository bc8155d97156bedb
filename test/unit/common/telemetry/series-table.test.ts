// Series tables and their text.
import assert from 'node:assert/strict';
import { describe, it } from 'node:test';
import { renderSeries } from '../../../../common/telemetry/exposition.ts';
import {
  renderLabels,
  SeriesReader,
  SeriesTable,
} from '../../../../common/telemetry/series-table.ts';
import type { FamilyDefinition } from '../../../../common/telemetry/series-table.ts';

const families: readonly FamilyDefinition[] = [
  { name: 'requests', help: 'Requests.', type: 'counter' },
  { name: 'open', help: 'Open.', type: 'gauge' },
  { name: 'took', help: 'Took.', type: 'histogram', buckets: [1, 5] },
];

function setUp(): { table: SeriesTable; reader: SeriesReader } {
  const reader = new SeriesReader();
  return { table: new SeriesTable(families, (message) => reader.apply(message)), reader };
}

describe('SeriesTable', () => {
  it('renders counters, gauges and histograms', () => {
    const { table, reader } = setUp();
    const labels = renderLabels([['a', 'x"y\\z\n']]);
    table.add(table.cell('requests', labels), 2);
    table.set(table.cell('open', ''), 7);
    const took = table.cell('took', '');
    for (const value of [0.5, 1, 3, 100]) table.observe(took, [1, 5], value);
    assert.equal(
      renderSeries([reader]),
      [
        '# HELP requests Requests.',
        '# TYPE requests counter',
        'requests_total{a="x\\"y\\\\z\\n"} 2',
        '# HELP open Open.',
        '# TYPE open gauge',
        'open 7',
        '# HELP took Took.',
        '# TYPE took histogram',
        'took_bucket{le="1"} 2',
        'took_bucket{le="5"} 3',
        'took_bucket{le="+Inf"} 4',
        'took_sum 104.5',
        'took_count 4',
        '',
      ].join('\n'),
    );
  });

  it('adds up the same series of several threads', () => {
    const one = setUp();
    const two = setUp();
    one.table.add(one.table.cell('requests', ''), 1);
    two.table.add(two.table.cell('requests', ''), 2);
    assert.match(renderSeries([one.reader, two.reader]), /^requests_total 3$/m);
  });

  it('grows beyond its first memory', () => {
    const { table, reader } = setUp();
    for (let i = 0; i < 10_000; i++) table.add(table.cell('requests', `n="${i}"`), i);
    assert.equal(reader.value(table.cell('requests', 'n="9999"')), 9999);
  });

  it('reuses the cells of removed series, from zero', () => {
    const { table, reader } = setUp();
    const cell = table.cell('requests', 'n="1"');
    table.add(cell, 5);
    table.remove('requests', 'n="1"');
    assert.equal(renderSeries([reader]), '');
    assert.equal(table.cell('requests', 'n="2"'), cell);
    assert.equal(table.get(cell), 0);
  });
});
