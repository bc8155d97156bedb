// Counters over replacements of a proxy: totals go on, never down, and what a crash has reset is not told twice.
import assert from 'node:assert/strict';
import { mkdtempSync, readdirSync, rmSync, writeFileSync } from 'node:fs';
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

const running = new Set<number>();
let lastPid = 0;
const isRunning = (pid: number): boolean => running.has(pid);
const files = (): string[] => readdirSync(dir);

/** One proxy process. */
class Proxy {
  readonly #pid: number = ++lastPid;
  readonly #reader = new SeriesReader();
  readonly table = new SeriesTable(FAMILIES, (message) => this.#reader.apply(message));
  readonly handOver: CounterHandOver;

  constructor(isReplacement: boolean) {
    const own = [this.#reader];
    running.add(this.#pid);
    const processes = { own: this.#pid, isRunning };
    const families = FAMILIES;
    this.handOver = new CounterHandOver({ dir, own, families, isReplacement, clock, processes });
  }

  /** Ends, after its last word if it can say one. */
  end(isKilled = false): void {
    if (!isKilled) this.handOver.save();
    running.delete(this.#pid);
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

  it('a process that has ended leaves no file: the one that serves goes on with what it had, and hands that over', async () => {
    let proxy = new Proxy(false);
    proxy.add('pod="a"', 1);
    for (let at = 2; at <= 50; at++) {
      const next = await replace(proxy);
      proxy.add('pod="a"', 1000);
      await clock.advance(1);
      proxy.end();
      next.add('pod="a"', 1);
      next.handOver.sweep();
      assert.deepEqual(next.scrape(), [`bytes_total{pod="a"} ${1000 * (at - 1) + at}`]);
      assert.deepEqual(files(), []);
      proxy = next;
    }
  });

  it('one that is replaced twice while the first still drains: nothing is lost or told twice', async () => {
    const first = new Proxy(false);
    first.add('', 1);
    const second = await replace(first);
    second.add('', 10);
    await clock.advance(1);
    const third = new Proxy(true);
    // The first ends between the start of the third and the hand-over to it.
    first.add('', 1);
    first.end();
    second.handOver.sweep();
    third.handOver.sweep();
    assert.deepEqual(files(), []);
    third.handOver.expectHandOver();
    second.handOver.save();
    await third.handOver.refresh();
    assert.deepEqual(third.scrape(), ['bytes_total 12']);
    // From now on the third takes over, not the second.
    second.handOver.sweep();
    await clock.advance(1);
    second.add('', 100);
    second.end();
    third.handOver.sweep();
    await third.handOver.refresh();
    assert.deepEqual([third.scrape(), files()], [['bytes_total 112'], []]);
  });

  it('a file that two take over at once is told by one of them', async () => {
    const first = new Proxy(false);
    first.add('', 1);
    const second = await replace(first);
    await clock.advance(1);
    const third = new Proxy(true);
    third.handOver.expectHandOver();
    first.end();
    // The second is slow to hear of its drain: the third waits no more, and is the faster.
    await clock.advance(5000);
    third.handOver.sweep();
    second.handOver.sweep();
    second.add('', 10);
    second.handOver.save();
    await third.handOver.refresh();
    assert.deepEqual(third.scrape(), ['bytes_total 11']);
  });

  it('after a crash nothing of the dead stays: no file, not one that was being written', async () => {
    const first = new Proxy(false);
    first.add('', 5);
    const second = await replace(first);
    const third = await replace(second);
    writeFileSync(join(dir, `counters-${lastPid}-7.json.new`), '{"ser');
    first.end(true);
    third.end(true);
    assert.equal(files().length, 3);
    await clock.advance(1);
    const fourth = new Proxy(false);
    // The second still drains.
    assert.equal(files().length, 1);
    second.add('', 2);
    second.end();
    fourth.handOver.sweep();
    await fourth.handOver.refresh();
    assert.deepEqual([fourth.scrape(), files()], [['bytes_total 2'], []]);
  });

  it('a cut file of a process that has ended is removed, and does not keep others', async () => {
    const first = new Proxy(false);
    first.add('', 5);
    const second = await replace(first);
    first.end();
    writeFileSync(join(dir, 'counters-0-0.json'), '{"series":[{');
    second.handOver.sweep();
    assert.deepEqual([second.scrape(), files()], [['bytes_total 5'], []]);
  });

  it('a series that went is not handed over', async () => {
    const first = new Proxy(false);
    first.add('pod="a"', 5);
    first.add('pod="b"', 5);
    const second = await replace(first);
    second.add('pod="a"', 1);
    first.end();
    second.handOver.sweep();
    second.table.remove('bytes', 'pod="a"');
    const third = await replace(second);
    assert.deepEqual(third.scrape(), ['bytes_total{pod="b"} 5']);
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
