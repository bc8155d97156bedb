// Counts of a pod over several data threads: each thread writes its own part and reads the sum of the others.
import assert from 'node:assert/strict';
import { it } from 'node:test';
import { openPodShare, podShareMemory } from '../../../../ztunnel/proxy/pod-share.ts';
import type { PodShare } from '../../../../ztunnel/proxy/pod-share.ts';

it('a thread sees what the others have, and not its own', () => {
  const memory = podShareMemory(3);
  const open = (thread: number): PodShare => openPodShare(memory, thread);
  const [one, two, three] = [open(0), open(1), open(2)];
  one.connections.set(5);
  two.connections.set(7);
  two.handshakes.set(1);
  assert.deepEqual(
    [one, two, three].map((share) => share.connections.others),
    [7, 5, 12],
  );
  assert.deepEqual(
    [one, two, three].map((share) => share.handshakes.others),
    [1, 0, 1],
  );
  assert.equal(three.connecting.others, 0);
  two.connections.set(0);
  assert.equal(three.connections.others, 5);
});
