// A holder that cannot start a process: it has no descriptors left, or the machine no memory.
import assert from 'node:assert/strict';
import { it } from 'node:test';
import { fileURLToPath } from 'node:url';
import { Holder } from '../../../ztunnel/holder/holder.ts';
import { until } from '../engine/support.ts';

const PROXY = fileURLToPath(new URL('../../support/holder-proxy.ts', import.meta.url));

it('a successor that cannot be started leaves the proxy that serves alone, and another may come later', async () => {
  const lines: string[] = [];
  const exits: number[] = [];
  const env: NodeJS.ProcessEnv = {};
  const holder = new Holder({
    ...{ argv: [PROXY], nodeArgs: [], env },
    log: (_level, _fields, message) => void lines.push(message),
    exit: (code) => void exits.push(code),
  });
  const count = (message: string): number => lines.filter((line) => line === message).length;
  try {
    holder.start();
    await until(() => count('proxy is ready') === 1, 'the first one');
    // What spawn refuses at once, as it does where memory is short.
    env['BROKEN'] = 'a\0b';
    assert.equal(holder.replace(), true);
    assert.equal(count('proxy cannot be started'), 1);
    delete env['BROKEN'];
    assert.equal(holder.replace(), true, 'it may be tried again');
    await until(() => count('proxy is ready') === 2, 'its successor');
    await until(() => count('proxy ended') === 1, 'the first one drains and ends');
    assert.deepEqual(exits, []);
  } finally {
    holder.kill();
  }
});
