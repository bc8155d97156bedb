// Sockets of a pod that an earlier proxy left with the holder, where this one serves DNS too and the pod's DNS port is taken: the
// start fails and is tried again, and what was taken for it must not stay open.
import assert from 'node:assert/strict';
import { fstatSync, openSync } from 'node:fs';
import { it } from 'node:test';
import { Netns } from '../../../engine/reactor/netns.ts';
import { PodStarter, type PodStarterOptions } from '../../../ztunnel/inpod/pod-starter.ts';
import { adoptNetns } from '../../../ztunnel/inpod/pod-source.ts';
import type { TakenPod } from '../../../ztunnel/holder/holder-client.ts';

const POD = { name: 'pod', namespace: 'default', serviceAccount: 'pod' };

it('a start that fails for its DNS sockets closes those it has taken over', async () => {
  const netns = adoptNetns(Netns.own().fd);
  const taken: number[] = [];
  const take = (): Promise<TakenPod> => {
    const fds = [1, 2].map(() => openSync('/dev/null', 'r'));
    taken.push(...fds);
    const [netnsFd = -1, tcpFd = -1] = fds;
    const named = new Map([
      ['netns', netnsFd],
      ['tcp/15001', tcpFd],
    ]);
    return Promise.resolve({ netnsId: netns.id, pod: POD, fds: named });
  };
  const openSockets = (): never => {
    throw new Error('address in use');
  };
  const options = { holder: { take }, dns: { openSockets }, onStart: () => undefined };
  const starter = new PodStarter(options as unknown as PodStarterOptions);
  await assert.rejects(starter.start('uid', POD, netns), /address in use/);
  assert.equal(taken.length, 2);
  for (const fd of taken) assert.throws(() => fstatSync(fd), /EBADF/);
  netns.close();
});
