// How the node proxy comes back to the node's cni agent: how long it waits, and when it begins anew. Real sockets, and a
// clock whose waits are noted and over at once.
import assert from 'node:assert/strict';
import { mkdtempSync, rmSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { after, describe, it } from 'node:test';
import type { Clock } from '../../../common/clock.ts';
import { encodeRequest } from '../../../common/zds/codec.ts';
import { SeqpacketServer } from '../../../engine/reactor/seqpacket.ts';
import type { PodNetns } from '../../../ztunnel/inpod/pod-source.ts';
import { ZdsClient } from '../../../ztunnel/inpod/zds-client.ts';
import { PodRegistry } from '../../../ztunnel/inpod/zds-session.ts';
import { eventually } from '../../support/netns-mesh.ts';
import { quietLogger } from '../../support/quiet-logger.ts';

const dir = mkdtempSync(join(tmpdir(), 'zds-client-'));
after(() => rmSync(dir, { recursive: true, force: true }));

const DOUBLED = [20, 40, 80, 160, 320, 640, 1280, 2560, 5000, 5000];

describe('the agent that', () => {
  const path = join(dir, 'zds.sock');
  const waits: number[] = [];
  let held: (() => void) | undefined;
  const clock: Clock = {
    now: () => Date.now(),
    elapsed: () => performance.now(),
    after: (delayMs, fn) => {
      waits.push(delayMs);
      if (waits.length === DOUBLED.length) held = fn;
      else setImmediate(fn);
      return { cancel: () => undefined };
    },
  };
  const registry = new PodRegistry<PodNetns>({
    start: () => Promise.resolve(),
    stop: () => Promise.resolve(),
  });
  const client = new ZdsClient({ path, registry, clock, logger: quietLogger() });
  const running = client.run();
  let agent: SeqpacketServer;
  after(async () => {
    client.close();
    agent.close();
    await running;
  });

  it('is away is asked again after 20 ms, twice as long each time, five seconds at most', async () => {
    await eventually('all waits', () => held !== undefined);
    assert.deepEqual(waits, DOUBLED);
    assert.equal(client.isReady, false);
  });

  it('goes after its snapshot is asked again after 20 ms', async () => {
    agent = SeqpacketServer.listen(path);
    held?.();
    for (let round = 0; round < 3; round++) {
      const session = await agent.accept();
      assert.ok(session !== undefined);
      await session.receive();
      session.send(encodeRequest({ kind: 'snapshotSent' }));
      await session.receive();
      assert.equal(client.isReady, true);
      session.close();
      await eventually('it is noticed', () => waits.length === DOUBLED.length + round + 1);
      assert.equal(waits.at(-1), 20);
    }
  });
});
