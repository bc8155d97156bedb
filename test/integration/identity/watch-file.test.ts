import assert from 'node:assert/strict';
import { mkdirSync, mkdtempSync, renameSync, rmSync, symlinkSync, writeFileSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { after, describe, it } from 'node:test';
import type { TestContext } from 'node:test';
import { watchFile } from '../../../common/identity/watch-file.ts';

const dir = mkdtempSync(join(tmpdir(), 'ambient-watch-'));
after(() => rmSync(dir, { recursive: true, force: true }));

/** What the kernel says of a file reaches the process within this; real time. */
const arrival = (): Promise<void> => {
  const { promise, resolve } = Promise.withResolvers<undefined>();
  const poll = new MessageChannel();
  const end = performance.now() + 300;
  poll.port1.on('message', () => {
    if (performance.now() < end) setImmediate(() => poll.port2.postMessage(0));
    else {
      poll.port1.close();
      resolve(undefined);
    }
  });
  poll.port2.postMessage(0);
  return promise;
};

function watching(test: TestContext, path: string): { readonly changes: () => number } {
  test.mock.timers.enable({ apis: ['setTimeout', 'setInterval'] });
  let changes = 0;
  const stop = watchFile(path, () => changes++);
  test.after(stop);
  return { changes: () => changes };
}

describe('a watched file', () => {
  it('changes within two seconds are one', async (test) => {
    const path = join(dir, 'root-cert.pem');
    writeFileSync(path, 'one');
    const { changes } = watching(test, path);
    for (const text of ['two', 'three', 'four']) {
      writeFileSync(path, text);
      await arrival();
    }
    test.mock.timers.tick(1999);
    assert.equal(changes(), 0);
    test.mock.timers.tick(1);
    assert.equal(changes(), 1);
    test.mock.timers.tick(60_000);
    assert.equal(changes(), 1);
  });

  it('the folder behind a symlink is replaced, as kubelet does it', async (test) => {
    const volume = join(dir, 'volume');
    for (const [version, text] of [
      ['..v1', 'one'],
      ['..v2', 'two'],
    ] as const) {
      mkdirSync(join(volume, version), { recursive: true });
      writeFileSync(join(volume, version, 'root-cert.pem'), text);
    }
    symlinkSync('..v1', join(volume, '..data'));
    symlinkSync('..data/root-cert.pem', join(volume, 'root-cert.pem'));
    const { changes } = watching(test, join(volume, 'root-cert.pem'));
    symlinkSync('..v2', join(volume, '..data_tmp'));
    renameSync(join(volume, '..data_tmp'), join(volume, '..data'));
    await arrival();
    test.mock.timers.tick(2000);
    assert.equal(changes(), 1);
  });

  it('the same content again, and other files beside it, are no change', async (test) => {
    const path = join(dir, 'same.pem');
    writeFileSync(path, 'one');
    const { changes } = watching(test, path);
    writeFileSync(path, 'one');
    writeFileSync(join(dir, 'other.pem'), 'two');
    await arrival();
    test.mock.timers.tick(60_000);
    assert.equal(changes(), 0);
  });

  it('comes late, in a folder that comes late, and goes', async (test) => {
    const path = join(dir, 'late', 'root-cert.pem');
    const { changes } = watching(test, path);
    mkdirSync(join(dir, 'late'));
    writeFileSync(path, 'one');
    await arrival();
    test.mock.timers.tick(30_000);
    assert.equal(changes(), 1);
    rmSync(path);
    test.mock.timers.tick(30_000);
    assert.equal(changes(), 2);
  });
});
