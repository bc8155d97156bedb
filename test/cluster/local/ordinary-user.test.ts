// `npm start` as an ordinary user, in a user namespace: the mesh's statements hold there too, nothing is left, and runs
// of root and of the user in the same clone leave each other's files alone.
import assert from 'node:assert/strict';
import { chmodSync, existsSync, mkdtempSync, readdirSync, rmSync, statSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { after, before, describe, it } from 'node:test';
import { asUser, makeCloneOf, MeshStart, processesOf, until } from '../../support/mesh-start.ts';

/** A user the machine does not know: no name, no home, no groups. */
const USER = 54_321;
const CHECK_MS = 100_000;

describe('the local cluster of an ordinary user', () => {
  const dir = mkdtempSync(join(tmpdir(), 'ambient-user-'));
  const clone = join(dir, 'clone');
  const node = join(clone, 'node_modules/.bin/node');
  const runs: MeshStart[] = [];
  const start = (uid: number, ...args: string[]): MeshStart => {
    const argv = [node, 'local/main.ts', '--no-install', '--ui-port', '0', ...args];
    const env = { PATH: process.env['PATH'], HOME: clone };
    const run = new MeshStart(asUser(uid, clone, argv), clone, env);
    runs.push(run);
    return run;
  };
  /** Starts, interrupts at once, and tells the state directories there are then, with their owners. */
  const touch = async (uid: number): Promise<Record<string, number>> => {
    const run = start(uid, '--empty');
    await run.saw(/ok {2}Kubernetes API/);
    assert.equal(await run.interrupt(), 0, run.output);
    const names = readdirSync(clone).filter((name) => name.startsWith('.ambient'));
    return Object.fromEntries(names.map((name) => [name, statSync(join(clone, name)).uid]));
  };
  const gone = (): Promise<true> =>
    until(
      () => `processes left: ${processesOf(clone).join(' ')}`,
      () => (processesOf(clone).length === 0 ? true : undefined),
      15_000,
    );

  before(() => {
    makeCloneOf(USER, clone);
    chmodSync(dir, 0o755);
  });

  after(async () => {
    for (const run of runs) await run.interrupt();
    rmSync(dir, { recursive: true, force: true });
  });

  it('leaves root, who comes later, a directory of its own', async () => {
    assert.deepEqual(await touch(USER), { '.ambient': USER });
    assert.deepEqual(await touch(0), { '.ambient': USER, '.ambient-0': 0 });
    for (const name of ['.ambient', '.ambient-0']) rmSync(join(clone, name), { recursive: true });
  });

  it('runs after root in the same clone, and the statements of the mesh hold', async () => {
    assert.deepEqual(await touch(0), { '.ambient': 0 });
    const only = ['encryption', 'identity', 'L4 policy', 'L7 policy', 'STRICT', 'probes'];
    const run = start(USER, '--check', '--only', only.join(','));
    await run.saw(/of \d+ statements hold/, CHECK_MS);
    assert.equal(await run.exited, 0, run.output);
    assert.match(run.output, new RegExp(`${only.length} of ${only.length} statements hold`));
    const { uid, mode } = statSync(join(clone, `.ambient-${USER}`));
    assert.deepEqual([uid, mode & 0o777], [USER, 0o700]);
    await gone();
  });

  it('leaves no process when it is killed', async () => {
    const run = start(USER, '--empty');
    await run.saw(/ok {2}two nodes/);
    assert.notDeepEqual(processesOf(clone), []);
    run.signal('SIGKILL');
    await run.exited;
    await gone();
    assert.equal(existsSync(join(clone, '.ambient-0')), false);
  });
});
