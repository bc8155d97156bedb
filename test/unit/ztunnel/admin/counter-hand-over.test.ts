// Counters over replacements of a proxy: totals go on, never down, and what a crash has reset is not told twice.
import assert from 'node:assert/strict';
import { mkdtempSync, rmSync, writeFileSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { afterEach, beforeEach, describe, it } from 'node:test';
import { renderSeries } from '../../../../common/telemetry/exposition.ts';
import { SeriesReader, SeriesTable } from '../../../../common/telemetry/series-table.ts';
import type { FamilyDefinition } from '../../../../common/telemetry/series-table.ts';
import { CounterHandOver } from '../../../../ztunnel/admin/counter-hand-over.ts';
import { FakeClock, settle } from '../../../support/fake-clock.ts';

const FAMILIES: readonly FamilyDefinition[] = [
  { name: 'bytes', help: 'Bytes.', type: 'counter' },
  { name: 'open', help: 'Open.', type: 'gauge' },
  { name: 'took', help: 'Took.', type: 'histogram', buckets: [1] },
];
const clock = new FakeClock();
let dir = '';

/** One proxy process. */
class Proxy {
  readonly #reader = new SeriesReader();
  readonly table = new SeriesTable(FAMILIES, (message) => this.#reader.apply(message));
  readonly handOver: CounterHandOver;

  constructor(isReplacement: boolean) {
    const own = [this.#reader];
    this.handOver = new CounterHandOver({ dir, own, families: FAMILIES, isReplacement, clock });
  }

  add(labels: string, amount: number, family = 'bytes'): void {
    this.table.add(this.table.cell(family, labels), amount);
  }

  /** The samples of a scrape. */
  scrape(): string[] {
    return renderSeries([this.#reader, this.handOver.reader])
      .split('\n')
      .filter((line) => line !== '' && !line.startsWith('#'));
  }
}

/** A process that replaces another, up to the hand-over. */
async function replace(old: Proxy): Promise<Proxy> {
  await clock.advance(1);
  const next = new Proxy(true);
  next.handOver.expectHandOver();
  old.handOver.save();
  await next.handOver.refresh();
  return next;
}

describe('CounterHandOver', () => {
  beforeEach(() => {
    dir = mkdtempSync(join(tmpdir(), 'counters-'));
  });
  afterEach(() => rmSync(dir, { recursive: true }));

  it('adds what the processes before have counted and go on counting, without their gauges', async () => {
    const first = new Proxy(false);
    first.add('pod="a"', 5);
    first.add('pod="a"', 1, 'open');
    first.add('', 2, 'took');
    const second = await replace(first);
    second.add('pod="a"', 10);
    assert.deepEqual(second.scrape(), [
      'bytes_total{pod="a"} 15',
      ...['took_bucket{le="1"} 2', 'took_bucket{le="+Inf"} 2', 'took_sum 0', 'took_count 2'],
    ]);
    const third = await replace(second);
    third.add('pod="b"', 1);
    first.add('pod="a"', 100);
    await clock.advance(1);
    first.handOver.save();
    await third.handOver.refresh();
    assert.deepEqual(third.scrape().slice(0, 2), [
      'bytes_total{pod="b"} 1',
      'bytes_total{pod="a"} 115',
    ]);
  });

  it('the first scrape of a successor waits for the hand-over, but not for ever', async () => {
    const first = new Proxy(false);
    first.add('', 5);
    await clock.advance(1);
    const second = new Proxy(true);
    const state = { isAnswered: false };
    const answer = second.handOver.refresh().then(() => {
      state.isAnswered = true;
    });
    await clock.advance(60_000);
    assert.equal(state.isAnswered, false, 'before it is ready, whoever serves has more');
    second.handOver.expectHandOver();
    first.handOver.save();
    await clock.advance(50);
    await answer;
    assert.deepEqual(second.scrape(), ['bytes_total 5']);

    const third = new Proxy(true);
    third.handOver.expectHandOver();
    const patience = third.handOver.refresh();
    await clock.advance(3100);
    await patience;
  });

  it('after a crash totals begin anew: what the files had then is not counted again', async () => {
    const first = new Proxy(false);
    first.add('', 5);
    await replace(first);
    // That one dies.
    await clock.advance(1);
    const third = new Proxy(false);
    await third.handOver.refresh();
    assert.deepEqual(third.scrape(), []);
    first.add('', 2);
    first.handOver.save();
    await third.handOver.refresh();
    assert.deepEqual(third.scrape(), ['bytes_total 2']);
  });

  it('a series goes as a whole: with that of the process, or when it has been idle', async () => {
    const first = new Proxy(false);
    for (const pod of ['both', 'old', 'busy']) first.add(pod, 5);
    const second = await replace(first);
    second.add('both', 1);
    second.handOver.sweep();
    first.add('busy', 1);
    await clock.advance(1);
    first.handOver.save();
    await second.handOver.refresh();
    second.handOver.sweep();
    assert.deepEqual(second.scrape(), ['bytes_total{both} 6', 'bytes_total{busy} 6']);
    second.table.remove('bytes', 'both');
    first.add('both', 1);
    first.handOver.save();
    await second.handOver.refresh();
    assert.deepEqual(second.scrape(), ['bytes_total{busy} 6']);
  });

  it('a file that is cut or gone costs no scrape', async () => {
    const first = new Proxy(false);
    first.add('', 5);
    const second = await replace(first);
    writeFileSync(join(dir, 'counters-1-2.json'), '{"series":[{');
    await second.handOver.refresh();
    assert.deepEqual(second.scrape(), ['bytes_total 5']);
    rmSync(dir, { recursive: true });
    await second.handOver.refresh();
    await settle();
    assert.deepEqual(second.scrape(), ['bytes_total 5']);
    assert.throws(() => first.handOver.save());
    dir = mkdtempSync(join(tmpdir(), 'counters-'));
  });
});
