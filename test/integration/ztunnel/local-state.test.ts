// The local file followed by a running proxy: a change is never missed, whenever it comes.
import assert from 'node:assert/strict';
import { mkdtempSync, rmSync, writeFileSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { after, describe, it } from 'node:test';
import { followLocalState } from '../../../ztunnel/state/local-state.ts';
import { quietLogger } from '../../support/quiet-logger.ts';

const dir = mkdtempSync(join(tmpdir(), 'local-state-'));
after(() => rmSync(dir, { recursive: true, force: true }));

describe('local state', () => {
  it('that changes while it is taken at the start is read again', async () => {
    const path = join(dir, 'state.yaml');
    const write = (name: string): void =>
      writeFileSync(path, `workloads: [{uid: ${name}, name: ${name}, namespace: shop}]`);
    write('first');
    const taken: string[] = [];
    const again = Promise.withResolvers<string>();
    const stop = await followLocalState(
      { localXdsPath: path, localXds: undefined },
      {
        applyLocal: ({ workloads }) => {
          const names = workloads.map(({ name }) => name).join();
          taken.push(names);
          if (taken.length === 1) write('second');
          else again.resolve(names);
          return Promise.resolve();
        },
      },
      quietLogger(),
    );
    // The watch itself keeps no process running.
    const patience = setTimeout(() => again.reject(new Error(taken.join())), 20_000);
    assert.equal(await again.promise, 'second');
    clearTimeout(patience);
    stop();
    assert.deepEqual(taken, ['first', 'second']);
  });
});
