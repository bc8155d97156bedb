// How the node proxy comes back to the node's cni agent: how long it waits, and when it begins anew. Real sockets, and a
// clock whose waits are noted and over at once.
import assert from 'node:assert/strict';
import { closeSync, mkdtempSync, openSync, rmSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { after, describe, it } from 'node:test';
import { systemClock } from '../../../common/clock.ts';
import type { Clock } from '../../../common/clock.ts';
import { decodeAck, encodeRequest } from '../../../common/zds/codec.ts';
import type { ZdsRequest } from '../../../common/zds/codec.ts';
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

describe('a pod whose start fails', () => {
  it('is refused with the reason; the session stays, and it is tried again every five seconds', async (test) => {
    test.mock.timers.enable({ apis: ['setInterval'] });
    const path = join(dir, 'pending.sock');
    const started: string[] = [];
    let isFailing = true;
    const registry = new PodRegistry<PodNetns>({
      start: (_uid, _pod, netns) => {
        started.push(netns.id);
        return isFailing ? Promise.reject(new Error('port taken')) : Promise.resolve();
      },
      stop: () => Promise.resolve(),
    });
    const agent = SeqpacketServer.listen(path);
    const client = new ZdsClient({ path, registry, clock: systemClock, logger: quietLogger() });
    const running = client.run();
    const session = await agent.accept();
    assert.ok(session !== undefined);
    await session.receive();
    const say = async (request: ZdsRequest, fds: number[] = []): Promise<string | undefined> => {
      session.send(encodeRequest(request), fds);
      const answer = await session.receive();
      assert.ok(answer !== undefined, 'the session stays');
      return decodeAck(answer.data);
    };
    const fd = openSync('/proc/self/ns/net', 'r');
    const pod = { name: 'p', namespace: 'n', serviceAccount: 's' };
    const refused = await say({ kind: 'add', uid: 'a', pod }, [fd]);
    closeSync(fd);
    assert.match(refused ?? '', /^failure to start proxy : port taken/);
    assert.equal(await say({ kind: 'snapshotSent' }), undefined);
    assert.equal(client.isReady, false);
    test.mock.timers.tick(4999);
    assert.equal(await say({ kind: 'del', uid: 'nobody' }), undefined);
    assert.equal(started.length, 1);
    test.mock.timers.tick(1);
    assert.equal(await say({ kind: 'del', uid: 'nobody' }), undefined);
    assert.equal(started.length, 2);
    isFailing = false;
    test.mock.timers.tick(5000);
    assert.equal(await say({ kind: 'del', uid: 'nobody' }), undefined);
    assert.equal(client.isReady, true);
    assert.equal(new Set(started).size, 1, 'the namespace it was added with');
    test.mock.timers.tick(60_000);
    assert.equal(await say({ kind: 'del', uid: 'nobody' }), undefined);
    assert.equal(started.length, 3);
    client.close();
    session.close();
    agent.close();
    await running;
    await registry.closeAll();
  });
});
