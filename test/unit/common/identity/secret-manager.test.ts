// The certificate cache against a fake clock.
import assert from 'node:assert/strict';
import { describe, it } from 'node:test';
import { SecretManager } from '../../../../common/identity/secret-manager.ts';
import type { WorkloadCertificate } from '../../../../common/identity/secret-manager.ts';
import { FakeClock, settle } from '../../../support/fake-clock.ts';
import { quietLogger } from '../../../support/quiet-logger.ts';

const ID = 'spiffe://cluster.local/ns/default/sa/a';
const HOUR_MS = 3_600_000;

function setUp(): {
  manager: SecretManager;
  clock: FakeClock;
  asked: string[];
  issued: WorkloadCertificate[];
  failNext: (error?: string) => void;
  hold: () => () => void;
} {
  const clock = new FakeClock();
  const asked: string[] = [];
  const issued: WorkloadCertificate[] = [];
  let error: string | undefined;
  let gate: Promise<void> = Promise.resolve();
  const manager = new SecretManager({
    clock,
    logger: quietLogger(),
    random: () => 0.5,
    onCertificate: (certificate) => issued.push(certificate),
    fetch: async (identity) => {
      asked.push(identity);
      await gate;
      if (error !== undefined) throw new Error(error);
      const notBeforeMs = clock.now();
      return {
        identity,
        certChainPem: '',
        privateKeyPem: '',
        rootsPem: '',
        notBeforeMs,
        notAfterMs: notBeforeMs + 24 * HOUR_MS,
        serial: String(asked.length),
      };
    },
  });
  return {
    manager,
    clock,
    asked,
    issued,
    failNext: (text) => {
      error = text;
    },
    hold: () => {
      let release: () => void = () => undefined;
      gate = new Promise((resolve) => {
        release = resolve;
      });
      return () => release();
    },
  };
}

describe('SecretManager', () => {
  it('shares one fetch among all who wait', async () => {
    const { manager, asked } = setUp();
    const all = await Promise.all([manager.get(ID), manager.get(ID), manager.get(ID)]);
    assert.equal(asked.length, 1);
    assert.equal(new Set(all).size, 1);
    manager.close();
  });

  it('renews before half life and tells the data threads', async () => {
    const { manager, clock, asked, issued } = setUp();
    await manager.get(ID);
    await clock.advance(11 * HOUR_MS);
    assert.equal(asked.length, 1);
    await clock.advance(HOUR_MS);
    assert.equal(asked.length, 2);
    assert.equal(issued.length, 2);
    assert.equal((await manager.get(ID)).serial, '2');
    manager.close();
  });

  it('keeps the last good certificate while renewal fails', async () => {
    const { manager, clock, asked, failNext } = setUp();
    await manager.get(ID);
    failNext('ca is down');
    await clock.advance(20 * HOUR_MS);
    assert.ok(asked.length > 5);
    assert.equal((await manager.get(ID)).serial, '1');
    assert.match(manager.states()[0]?.error ?? '', /ca is down/);
    manager.close();
  });

  it('backs off after failures and starts over after a success', async () => {
    const { manager, clock, asked, failNext } = setUp();
    failNext('no');
    await assert.rejects(manager.get(ID), /no certificate for .*: no/);
    assert.deepEqual(clock.delaysMs, [1000]);
    await clock.advance(1000);
    assert.deepEqual(clock.delaysMs, [2000]);
    await clock.advance(2000);
    assert.deepEqual(clock.delaysMs, [4000]);
    failNext(undefined);
    await clock.advance(4000);
    failNext('again');
    const before = asked.length;
    while (asked.length === before) await clock.advance(clock.delaysMs[0] ?? 0);
    assert.deepEqual(clock.delaysMs, [1000]);
    manager.close();
  });

  it('a request after a failure asks again at once', async () => {
    const { manager, clock, asked, failNext } = setUp();
    failNext('no');
    await assert.rejects(manager.get(ID));
    await assert.rejects(manager.get(ID));
    assert.equal(asked.length, 1);
    await clock.advance(300);
    failNext(undefined);
    assert.equal((await manager.get(ID)).serial, '2');
    manager.close();
  });

  it('runs at most eight fetches at once', async () => {
    const { manager, asked, hold } = setUp();
    const release = hold();
    for (let i = 0; i < 20; i++) manager.prefetch(`${ID}${i}`);
    await settle();
    assert.equal(asked.length, 8);
    release();
    await settle();
    assert.equal(asked.length, 20);
    manager.close();
  });

  it('a forgotten identity is not renewed and its waiters are told', async () => {
    const { manager, clock, hold } = setUp();
    const release = hold();
    const waiting = manager.get(ID);
    manager.forget(ID);
    release();
    await assert.rejects(waiting, /no longer needed/);
    assert.deepEqual(manager.states(), []);
    assert.deepEqual(clock.delaysMs, []);
  });

  it('serves those for whom a connection waits first, then new pods, then renewals', async () => {
    const { manager, asked, clock, hold } = setUp();
    await manager.get('old');
    const release = hold();
    const running = Array.from({ length: 8 }, (_, at) => manager.get(`running${at}`));
    manager.renewAll(0);
    await clock.advance(1);
    manager.prefetch('new');
    manager.prefetch('raised');
    const urgent = manager.get('urgent');
    const raised = manager.get('raised');
    release();
    await Promise.all([...running, urgent, raised]);
    await settle();
    // Of equal priority, the one that came first; a request for what waits already makes it more urgent.
    assert.deepEqual(asked.slice(9), ['raised', 'urgent', 'new', 'old']);
    manager.close();
  });

  it('of two thousand pre-fetches at once none is lost, nor that some are no longer wanted', async () => {
    const { manager, asked, hold } = setUp();
    const release = hold();
    const ids = Array.from({ length: 2000 }, (_, at) => `id${at}`);
    for (const id of ids) manager.prefetch(id);
    const gone = ids.filter((_, at) => at >= 8 && at % 100 === 99);
    for (const id of gone) manager.forget(id);
    release();
    for (let turns = 0; turns < 100 && asked.length < 1980; turns++) await settle();
    assert.deepEqual(asked.toSorted(), ids.filter((id) => !gone.includes(id)).toSorted());
    assert.equal(manager.states().length, 1980);
    manager.close();
  });

  it('does not ask for an identity that is forgotten while it waits', async () => {
    const { manager, asked, hold } = setUp();
    const release = hold();
    for (let at = 0; at < 8; at++) manager.prefetch(`id${at}`);
    const waiting = manager.get('gone');
    manager.forget('gone');
    await assert.rejects(waiting, /no longer needed/);
    release();
    await settle();
    assert.ok(!asked.includes('gone'));
    manager.close();
  });

  it('renews everything when told, spread over the time given', async () => {
    const { manager, clock, asked } = setUp();
    await manager.get('a');
    await manager.get('b');
    manager.renewAll(10_000);
    await clock.advance(4000);
    assert.equal(asked.length, 2);
    await clock.advance(2000);
    assert.deepEqual(asked.slice(2), ['a', 'b']);
    manager.close();
  });
});
