// The certificate manager's playbook: a script of what happens, and after each line what was asked of the CA and what
// there is. `renewal.test.ts` has the tables of its times. The last part plays random scripts, from printed seeds, against
// the rules that hold always.
import assert from 'node:assert/strict';
import { describe, it } from 'node:test';
import { SecretManager } from '../../../../common/identity/secret-manager.ts';
import type { WorkloadCertificate } from '../../../../common/identity/secret-manager.ts';
import { FakeClock, settle } from '../../../support/fake-clock.ts';
import { quietLogger } from '../../../support/quiet-logger.ts';
import { generator } from '../../../support/seeded-random.ts';

const SECOND_MS = 1000;
const HOUR_MS = 3600 * SECOND_MS;
const LIFE_MS = 24 * HOUR_MS;
const MAX_CONCURRENT = 8;

/** A CA with a root that changes, behind a manager. */
class Scene {
  readonly clock = new FakeClock();
  readonly asked: string[] = [];
  readonly handed: WorkloadCertificate[] = [];
  readonly problems: string[] = [];
  readonly answers: string[] = [];
  failures = 0;
  isDown = false;
  root = 1;
  #held: (() => void)[] = [];
  isHolding = false;
  #running = 0;
  readonly manager: SecretManager;

  constructor(random: () => number = () => 0.5) {
    this.manager = new SecretManager({
      clock: this.clock,
      logger: quietLogger(),
      random,
      onFailure: () => this.failures++,
      onCertificate: (certificate) => this.handed.push(certificate),
      fetch: (identity) => this.#sign(identity),
    });
  }

  async #sign(identity: string): Promise<WorkloadCertificate> {
    this.asked.push(identity);
    if (++this.#running > MAX_CONCURRENT) this.problems.push(`${this.#running} at once`);
    // What it signs with is what it has when the request comes.
    const { root } = this;
    try {
      if (this.isHolding) await new Promise<void>((resolve) => this.#held.push(resolve));
      if (this.isDown) throw new Error('ca is down');
    } finally {
      this.#running--;
    }
    const notBeforeMs = this.clock.now();
    return {
      ...{ identity, certChainPem: '', privateKeyPem: '', rootsPem: `root ${root}` },
      ...{ notBeforeMs, notAfterMs: notBeforeMs + LIFE_MS, serial: String(this.asked.length) },
    };
  }

  release(): void {
    this.isHolding = false;
    for (const one of this.#held.splice(0)) one();
  }

  get(identity: string): void {
    void this.manager.get(identity).then(
      (certificate) => {
        if (certificate.notAfterMs <= this.clock.now())
          this.problems.push('an expired one is given');
        this.answers.push(`${identity} ${certificate.rootsPem}`);
      },
      (err: unknown) => this.answers.push(`${identity} ${String(err)}`),
    );
  }

  /** Plays one line of a script. */
  async step(line: string): Promise<void> {
    const [verb, what = ''] = line.split(/ (.*)/);
    if (verb === 'get') this.get(what);
    else if (verb === 'prefetch') this.manager.prefetch(what);
    else if (verb === 'forget') this.manager.forget(what);
    else if (verb === 'down') this.isDown = true;
    else if (verb === 'up') this.isDown = false;
    else if (verb === 'hold') this.isHolding = true;
    else if (verb === 'release') this.release();
    else if (verb === 'root') {
      this.root++;
      this.manager.renewAll(10 * SECOND_MS);
    } else if (verb === 'jump') this.clock.jump(Number(what) * SECOND_MS);
    else if (verb === 'wait') await this.clock.advance(Number(what) * SECOND_MS);
    else throw new Error(line);
    await settle();
  }

  /** What has been asked and answered since the last look. */
  look(): string {
    return [...this.asked.splice(0).map((one) => `ask ${one}`), ...this.answers.splice(0)].join(
      ', ',
    );
  }
}

/** Lines of `what happens => what is asked and answered`. Times are seconds; jitter is in the middle. */
const SCRIPTS: Readonly<Record<string, readonly string[]>> = {
  'asked once, given to all, renewed before half life, and the new one is given': [
    'get a => ask a, a root 1',
    'get a => a root 1',
    'wait 41000 => ',
    'wait 100 => ask a',
    'get a => a root 1',
  ],
  'refused: those who wait are told, who comes at once is told the same, a moment later it is asked again':
    [
      'down => ',
      'get a => ask a, a MeshError: no certificate for a: ca is down',
      'get a => a MeshError: no certificate for a: ca is down',
      'wait 0.3 => ',
      'get a => ask a, a MeshError: no certificate for a: ca is down',
      'up => ',
      'wait 0.3 => ',
      'get a => ask a, a root 1',
    ],
  'refused renewal: the old one is given to its end, then nobody is given an expired one': [
    'get a => ask a, a root 1',
    'down => ',
    'wait 41040 => ask a',
    'wait 10 => ask a, ask a, ask a',
    'get a => a root 1',
    'wait 45349 => *',
    'get a => a root 1',
    'wait 2 => *',
    'get a => ask a, a MeshError: no certificate for a: ca is down',
    'up => ',
    'wait 151 => ask a',
    'get a => a root 1',
  ],
  'back-off: begins with a second, doubles, and starts over after a success': [
    'down => ',
    'get a => ask a, a MeshError: no certificate for a: ca is down',
    'wait 1 => ask a',
    'wait 1 => ',
    'wait 1 => ask a',
    'wait 3.9 => ',
    'up => ',
    'wait 0.2 => ask a',
    'get a => a root 1',
    'down => ',
    'root => ',
    'wait 5 => ask a',
    'wait 1 => ask a',
    'wait 2 => ask a',
  ],
  'pre-fetch: the first connection finds it, or waits for the same request': [
    'hold => ',
    'prefetch a => ask a',
    'get a => ',
    'release => a root 1',
    'get a => a root 1',
  ],
  'priority: nine pre-fetches, the ninth is wanted now and goes before what waited longer': [
    'hold => ',
    'prefetch 1 => ask 1',
    'prefetch 2 => ask 2',
    'prefetch 3 => ask 3',
    'prefetch 4 => ask 4',
    'prefetch 5 => ask 5',
    'prefetch 6 => ask 6',
    'prefetch 7 => ask 7',
    'prefetch 8 => ask 8',
    'prefetch 9 => ',
    'prefetch 10 => ',
    'get 10 => ',
    'release => ask 10, ask 9, 10 root 1',
  ],
  'root change: what is held is renewed within ten seconds, once': [
    'get a => ask a, a root 1',
    'root => ',
    'wait 4 => ',
    'wait 1 => ask a',
    'wait 20 => ',
    'get a => a root 2',
  ],
  'root change while a request is on its way: its answer is by the old root, and is renewed too': [
    'hold => ',
    'get a => ask a',
    'root => ',
    'release => a root 1',
    'wait 5 => ask a',
    'get a => a root 2',
    'wait 20 => ',
  ],
  'root change while a request fails: the next try is by the new root, and not one more': [
    'hold => ',
    'get a => ask a',
    'down => ',
    'root => ',
    'release => a MeshError: no certificate for a: ca is down',
    'up => ',
    'wait 1 => ask a',
    'get a => a root 2',
    'wait 20 => ',
  ],
  'root change twice: renewed for the last one': [
    'get a => ask a, a root 1',
    'root => ',
    'root => ',
    'wait 20 => ask a',
    'get a => a root 3',
  ],
  'forgotten: nothing is asked any more, and who waits is told': [
    'get a => ask a, a root 1',
    'forget a => ',
    'wait 90000 => ',
    'hold => ',
    'get a => ask a',
    'forget a => ',
    'release => a MeshError: no certificate for a: the identity is no longer needed',
    'wait 90000 => ',
  ],
  'forgotten and wanted again while a request is on its way: it is asked anew': [
    'hold => ',
    'get a => ask a',
    'forget a => ',
    'get a => ask a',
    'release => a MeshError: no certificate for a: the identity is no longer needed, a root 1',
    'wait 41100 => ask a',
  ],
  'a clock that jumps past the end: asked at once, and an expired one is not given': [
    'get a => ask a, a root 1',
    'jump 90000 => ',
    'get a => ask a, a root 1',
    'wait 60 => ',
  ],
  'a clock that jumps past half life: renewed within half a minute': [
    'get a => ask a, a root 1',
    'jump 50000 => ',
    'wait 31 => ask a',
    'wait 31 => ',
  ],
};

describe('certificate playbook', () => {
  for (const [claim, lines] of Object.entries(SCRIPTS)) {
    it(claim, async () => {
      const scene = new Scene();
      for (const line of lines) {
        const [what = '', seen = ''] = line.split(' =>').map((part) => part.trim());
        await scene.step(what);
        const looked = scene.look();
        if (seen !== '*') assert.equal(looked, seen, line);
      }
      assert.deepEqual(scene.problems, []);
      scene.manager.close();
      assert.deepEqual(scene.clock.delaysMs, []);
    });
  }

  for (let seed = 1; seed <= 10; seed++) {
    it(`random scripts, seed ${seed}: eight at once, no storm, none expired, all there when the CA is back`, async () => {
      const random = generator(seed);
      const scene = new Scene(random);
      const known = new Set<string>();
      const verbs = [
        'get',
        'get',
        'prefetch',
        'forget',
        'down',
        'up',
        'hold',
        'release',
        'root',
        'wait',
      ];
      for (let at = 0; at < 120; at++) {
        const verb = verbs[Math.floor(random() * verbs.length)] ?? '';
        const identity = `id${Math.floor(random() * 12)}`;
        if (verb === 'get' || verb === 'prefetch') known.add(identity);
        if (verb === 'forget') known.delete(identity);
        const seconds = random() < 0.9 ? random() * 5 : random() * 30_000;
        const before = scene.asked.length;
        await scene.step(verb === 'wait' ? `wait ${seconds}` : `${verb} ${identity}`);
        // Renewals, and after failures the tries of the back-off, for each of the twelve.
        const most = 12 * (20 + seconds / 100);
        assert.ok(
          scene.asked.length - before <= most,
          `${scene.asked.length - before} in ${seconds} s`,
        );
      }
      await scene.step('up');
      await scene.step('release');
      await scene.step('wait 200');
      scene.look();
      for (const identity of known) await scene.step(`get ${identity}`);
      assert.deepEqual(
        scene.answers.toSorted(),
        [...known].map((identity) => `${identity} root ${scene.root}`).toSorted(),
      );
      assert.deepEqual(scene.asked, [], 'all were there');
      assert.deepEqual(scene.problems, []);
      scene.manager.close();
      assert.deepEqual(scene.clock.delaysMs, []);
    });
  }
});
