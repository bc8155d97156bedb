// The certificate manager's playbook as tables: when it asks again, with a clock that is right, jumps, or is wrong.
import assert from 'node:assert/strict';
import { describe, it } from 'node:test';
import { nextBackoff, renewalDelay, retryDelay } from '../../../../common/identity/renewal.ts';
import { SecretManager } from '../../../../common/identity/secret-manager.ts';
import { FakeClock } from '../../../support/fake-clock.ts';
import { quietLogger } from '../../../support/quiet-logger.ts';

const MINUTE_MS = 60_000;
const HOUR_MS = 60 * MINUTE_MS;
const DAY_MS = 24 * HOUR_MS;
const YEAR_MS = 365 * DAY_MS;

describe('renewal', () => {
  // Life, random, age of the certificate by the clock here when it comes; delay.
  const rows: readonly (readonly [string, number, number, number, number])[] = [
    ['at half of the life', DAY_MS, 0, 0, 12 * HOUR_MS],
    ['up to a twentieth of the life earlier', DAY_MS, 1, 0, 10.8 * HOUR_MS],
    ['on average half of that', DAY_MS, 0.5, 0, 11.4 * HOUR_MS],
    ['of a short life', HOUR_MS, 0, 0, 30 * MINUTE_MS],
    ['of a very short life: not more than once a second', 1000, 0, 0, 1000],
    ['of one dated back', DAY_MS, 0, 2 * MINUTE_MS, 12 * HOUR_MS - 2 * MINUTE_MS],
    ['half of its life is over already: a quarter of the rest', DAY_MS, 0, 20 * HOUR_MS, HOUR_MS],
    ['not valid yet for a year: as if it were', DAY_MS, 0, -YEAR_MS, 12 * HOUR_MS],
  ];
  for (const [name, lifeMs, random, ageMs, delayMs] of rows) {
    it(name, () => {
      const nowMs = YEAR_MS * 50;
      const notBeforeMs = nowMs - ageMs;
      const certificate = { notBeforeMs, notAfterMs: notBeforeMs + lifeMs };
      assert.equal(Math.round(renewalDelay(certificate, nowMs, random)), delayMs);
    });
  }
});

describe('back-off', () => {
  it('begins with a second, doubles, and ends at 150 seconds', () => {
    const delays: number[] = [];
    let backoffMs = 0;
    for (let at = 0; at < 10; at++) delays.push((backoffMs = nextBackoff(backoffMs)) / 1000);
    assert.deepEqual(delays, [1, 2, 4, 8, 16, 32, 64, 128, 150, 150]);
  });

  const rows: readonly (readonly [string, number, number, number])[] = [
    ['a fifth less', 0, 0, 8000],
    ['a fifth more', 0, 1, 12_000],
    ['at the end of the old certificate, if that is sooner', 3000, 0.5, 3000],
    ['not at an end that is later', 30_000, 0.5, 10_000],
  ];
  for (const [name, leftMs, random, delayMs] of rows) {
    it(name, () => assert.equal(Math.round(retryDelay(10_000, leftMs, random)), delayMs));
  }
});

/** A manager with one identity; the CA's clock is `skewMs` ahead of ours, which `fetches` were asked by. */
function setUp(skewMs = 0) {
  const clock = new FakeClock(YEAR_MS * 50);
  const state = { fetches: 0, isDown: false, skewMs };
  const manager = new SecretManager({
    clock,
    logger: quietLogger(),
    random: () => 0.5,
    onCertificate: () => undefined,
    fetch: (identity) => {
      state.fetches++;
      if (state.isDown) return Promise.reject(new Error('ca is down'));
      const notBeforeMs = clock.now() + state.skewMs - 2 * MINUTE_MS;
      const certificate = {
        ...{ identity, certChainPem: '', privateKeyPem: '', rootsPem: '', serial: '1' },
        ...{ notBeforeMs, notAfterMs: notBeforeMs + DAY_MS },
      };
      if (certificate.notAfterMs <= clock.now()) return Promise.reject(new Error('expired'));
      return Promise.resolve(certificate);
    },
  });
  return { clock, manager, state };
}

const ID = 'spiffe://cluster.local/ns/default/sa/a';

describe('a clock that jumps', () => {
  // The jump, whether the CA's clock jumps too, and how many requests may come in a minute, and in two days after it.
  const rows: readonly (readonly [string, number, boolean, readonly [number, number], number])[] = [
    ['forward an hour', HOUR_MS, true, [0, 0], 6],
    ['forward past half life, with the ca', 13 * HOUR_MS, true, [1, 1], 6],
    ['forward past half life, alone', 13 * HOUR_MS, false, [1, 1], 20],
    ['forward to just before the end, alone', 23.5 * HOUR_MS, false, [1, 1], 600],
    ['forward a year, with the ca', YEAR_MS, true, [1, 1], 6],
    // Nothing the ca signs is valid here: back-off, at the least every 150 s.
    ['forward a year, alone', YEAR_MS, false, [4, 8], 1500],
    ['back an hour, alone', -HOUR_MS, false, [0, 0], 6],
    ['back a year, alone', -YEAR_MS, false, [0, 0], 6],
    ['back a year, with the ca', -YEAR_MS, true, [0, 0], 6],
  ];
  for (const [name, jumpMs, isCaToo, [least, most], mostLater] of rows) {
    it(`${name}: renewals neither stop nor storm`, async () => {
      const { clock, manager, state } = setUp();
      await manager.get(ID);
      await clock.advance(MINUTE_MS);
      clock.jump(jumpMs);
      if (!isCaToo) state.skewMs -= jumpMs;
      state.fetches = 0;
      await clock.advance(MINUTE_MS);
      const soon = state.fetches;
      assert.ok(soon >= least && soon <= most, `${soon} requests in the first minute`);
      await clock.advance(2 * DAY_MS);
      assert.ok(state.fetches >= 3, `only ${state.fetches} requests in two days`);
      assert.ok(state.fetches <= mostLater, `${state.fetches} requests in two days`);
      manager.close();
    });
  }

  it('back, while the ca is away: the next try comes when it would have come, and connections may ask', async () => {
    const { clock, manager, state } = setUp();
    state.isDown = true;
    await assert.rejects(manager.get(ID));
    clock.jump(-DAY_MS);
    await assert.rejects(manager.get(ID));
    assert.equal(state.fetches, 2);
    await clock.advance(3000);
    assert.equal(state.fetches, 3);
    state.isDown = false;
    await manager.get(ID);
    manager.close();
  });

  it('forward, many identities: they are renewed over half a minute, not in one moment', async () => {
    const { clock, manager, state } = setUp();
    await Promise.all(Array.from({ length: 30 }, (_, at) => manager.get(`${ID}${at}`)));
    await clock.advance(10 * MINUTE_MS);
    clock.jump(13 * HOUR_MS);
    state.fetches = 0;
    await clock.advance(31_000);
    assert.equal(state.fetches, 30);
    manager.close();
  });
});
