// Native memory of queues, as the kernel sees it.
import assert from 'node:assert/strict';
import { spawnSync } from 'node:child_process';
import { describe, it } from 'node:test';

type Memory = Record<'first' | 'highest' | 'end', number>;

describe('native memory', () => {
  it('what slow readers held is given back, though small pieces stay in use', () => {
    // In a process of its own: what other tests hold would count.
    const { stdout, stderr } = spawnSync(process.execPath, ['test/support/queue-memory.ts'], {
      encoding: 'utf8',
    });
    assert.match(stdout, /first/, stderr);
    const { first, highest, end } = JSON.parse(stdout) as Memory;
    assert.ok(highest - first > 40, stdout);
    assert.ok(end - first < (highest - first) / 4, stdout);
  });
});
