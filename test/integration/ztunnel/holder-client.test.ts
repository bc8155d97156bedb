// The proxy's side of the holder, over a real pair of sockets: what a predecessor reports while it drains, and its end.
import assert from 'node:assert/strict';
import { it } from 'node:test';
import { seqpacketPair } from '../../../engine/reactor/seqpacket.ts';
import { HolderClient } from '../../../ztunnel/holder/holder-client.ts';
import { encodePacket, type HolderMessage } from '../../../ztunnel/holder/messages.ts';
import { until } from '../engine/support.ts';

it('a predecessor that dies in the middle of a report has no connections left', async () => {
  const { socket, peerFd } = seqpacketPair();
  const send = (message: HolderMessage): void => socket.send(encodePacket(message));
  send({ kind: 'welcome', isReplacement: true, crashes: 0 });
  const reports: string[][] = [];
  let isLost = false;
  await HolderClient.open(peerFd, {
    onDrain: () => undefined,
    onGone: () => undefined,
    onDraining: (_process, pods) => void reports.push(pods.map(({ name }) => name)),
    onLost: () => (isLost = true),
  });
  const pod = (name: string) => ({ name, namespace: 'default', connections: 1 });
  send({ kind: 'draining', process: 7, pods: [pod('a')], isLast: false });
  send({ kind: 'draining', process: 7, pods: [pod('b')], isLast: true });
  send({ kind: 'draining', process: 7, pods: [pod('c')], isLast: false });
  // Its end, as the holder tells it.
  send({ kind: 'draining', process: 7, pods: [], isLast: true });
  await until(() => reports.length === 2, 'both reports');
  assert.deepEqual(reports, [['a', 'b'], []]);
  socket.close();
  await until(() => isLost, 'the holder has gone');
});
