// What a newcomer meets: `npm start` in a terminal, the five commands it prints and those of the README's tour pasted
// as they stand, the dashboard in a browser (chromium), and Ctrl-C.
import assert from 'node:assert/strict';
import { spawnSync } from 'node:child_process';
import { mkdtempSync, readFileSync, rmSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { after, before, describe, it } from 'node:test';
import { chromium, type Browser, type Page } from 'playwright-core';
import {
  footprint,
  makeClone,
  MeshStart,
  tracesOf,
  type Footprint,
} from '../support/mesh-start.ts';

const BROWSERS = ['chromium', 'chromium-browser', 'google-chrome'];
const LIVE_MS = 30_000;

/** The commands of the first shell block after a heading of the README, comments left out. */
function readmeCommands(heading: string): string[] {
  const readme = readFileSync(join(import.meta.dirname, '../../README.md'), 'utf8');
  const block = readme.split(`## ${heading}`)[1]?.split('```sh\n')[1]?.split('```')[0] ?? '';
  return block
    .split('\n')
    .map((line) => line.replace(/\s+#.*$/, ''))
    .filter((line) => line !== '' && !line.startsWith('#'));
}

function findBrowser(): string {
  for (const name of BROWSERS) {
    const { status, stdout } = spawnSync('sh', ['-c', `command -v ${name}`], { encoding: 'utf8' });
    if (status === 0) return stdout.trim();
  }
  return assert.fail(`none of ${BROWSERS.join(', ')} is installed`);
}

describe('what a newcomer meets', () => {
  const dir = mkdtempSync(join(tmpdir(), 'ambient-newcomer-'));
  const clone = join(dir, 'clone');
  let run: MeshStart;
  let seen: Footprint;
  let browser: Browser | undefined;

  /** Runs a line as it would be pasted into a second terminal. */
  const paste = (line: string): string => {
    const { status, stdout, stderr } = spawnSync('sh', ['-c', line], {
      cwd: clone,
      encoding: 'utf8',
      timeout: 30_000,
    });
    // `why` says by its exit code that the policy of the tour refuses.
    const expected = line.includes(' why ') ? 1 : 0;
    assert.equal(status, expected, `${line}: ${stderr}${stdout}`);
    return stdout;
  };
  const printed = (): string => run.output.replaceAll('\r', '');

  before(async () => {
    makeClone(clone);
    const command = 'stty cols 120; npm start -- --no-install --ui-port 0';
    run = new MeshStart(['script', '-qec', command, '/dev/null'], clone);
    await run.saw(/L7 \d+\.\d req\/s/, 100_000);
    seen = footprint(clone);
  });

  after(async () => {
    await browser?.close();
    run.type('\x03');
    await run.exited;
    rmSync(dir, { recursive: true, force: true });
  });

  it('shows progress, what runs, where, and a live line with rates, errors and latency', async () => {
    for (const step of ['Kubernetes API', 'two nodes', 'the mesh', 'the sample']) {
      assert.match(printed(), new RegExp(`ok {2}${step}.* \\(\\d+\\.\\d s\\)`));
    }
    assert.match(printed(), /The mesh runs \(\d+ s\)/);
    await run.saw(
      /L4 \d.* conn\/s .*refused\/s .*L7 [1-9]\d*\.\d req\/s .*errors\/s .*p50 \d.* p99 \d/,
    );
  });

  it('prints five commands that work when pasted', () => {
    const commands = [...printed().matchAll(/ {2,}(npx ambientctl .*)$/gm)].map(
      ([, line = '']) => line,
    );
    assert.equal(commands.length, 5, commands.join('\n'));
    const answers = commands.map(paste);
    assert.match(answers[3] ?? '', /RBAC: access denied/);
    assert.match(answers[4] ?? '', /reviews/);
  });

  it('finds every command of the README’s tour working', () => {
    const commands = readmeCommands('A five-minute tour');
    assert.ok(commands.length >= 5, commands.join('\n'));
    const answers = new Map(commands.map((line) => [line, paste(line)]));
    const denied = [...answers].find(([line]) => line.includes('/admin'))?.[1] ?? '';
    assert.match(denied, /^HTTP\/1\.1 403 [^]*RBAC: access denied$/);
  });

  describe('dashboard', () => {
    const complaints: string[] = [];
    let page: Page;
    const open = async (tab: string): Promise<void> => page.getByRole('tab', { name: tab }).click();
    const texts = (selector: string): Promise<string[]> => page.locator(selector).allTextContents();

    before(async () => {
      const url = /dashboard +(http:\S+)/.exec(printed())?.[1];
      assert.ok(url !== undefined);
      browser = await chromium.launch({ executablePath: findBrowser(), args: ['--no-sandbox'] });
      page = await browser.newPage();
      page.setDefaultTimeout(LIVE_MS);
      page.on('pageerror', ({ message }) => complaints.push(message));
      page.on('console', (message) => {
        if (message.type() !== 'log') complaints.push(message.text());
      });
      await page.goto(url);
      await page.getByRole('status').getByText('live').waitFor();
    });

    it('draws the services with live rates at L4', async () => {
      await open('L4 connections');
      await page
        .locator('.edge.busy text', { hasText: /[1-9]\d*(\.\d)? KiB\/s/ })
        .first()
        .waitFor();
      const names = await texts('.node text:not(.namespace)');
      for (const name of ['load', 'productpage', 'details', 'reviews', 'ratings']) {
        assert.ok(names.includes(name), names.join(' '));
      }
      assert.ok((await texts('#edges td .chip')).every((text) => text !== 'plaintext'));
    });

    it('shows requests, and what the waypoint denies, at L7', async () => {
      await open('L7 requests');
      await page
        .locator('.edge text', { hasText: /[1-9]\d*(\.\d)? req\/s/ })
        .first()
        .waitFor();
      const names = await texts('.node text:not(.namespace)');
      assert.ok(names.includes('reviews') && !names.includes('ratings'), names.join(' '));
      const deny =
        'npx ambientctl exec -n bookinfo deploy/curl -- curl -s http://reviews:9080/admin';
      assert.match(paste(deny), /RBAC: access denied/);
      await page.locator('tr', { hasText: 'bookinfo/curl' }).locator('td.bad').first().waitFor();
    });

    it('lists the applied policies with where they are enforced', async () => {
      await open('Policies');
      const rows = await texts('#policies tbody tr');
      for (const [name, place] of [
        ['bookinfo/deny-admin', 'waypoint'],
        ['bookinfo/deny-load', 'node'],
        ['strict/default', 'node'],
      ] as const) {
        const row = rows.find((text) => text.includes(name));
        assert.match(row ?? '', new RegExp(`\\b${place}\\b`), rows.join('\n'));
      }
      assert.ok(rows.some((text) => text.includes('VirtualService')));
    });

    it('has nothing to complain about', () => {
      assert.deepEqual(complaints, []);
    });

    it('says when the control plane hangs, and is live again when it goes on', async () => {
      const script = join(clone, 'controlplane/main.ts');
      const pid = spawnSync('pgrep', ['-f', script], { encoding: 'utf8' }).stdout.split('\n')[0];
      process.kill(Number(pid), 'SIGSTOP');
      await page.getByRole('status').getByText('does not answer').waitFor();
      process.kill(Number(pid), 'SIGCONT');
      await page.getByRole('status').getByText('live').waitFor();
    });
  });

  it('ends on Ctrl-C, and leaves nothing', async () => {
    run.type('\x03');
    await run.exited;
    assert.match(printed(), /stopping\nstopped, nothing is left running\n/);
    assert.deepEqual(tracesOf(seen), []);
  });
});
