// Neighbours that behave badly, over each path: a storm of connections all at once is served to the last one, and readers
// that stand still or are slow hold up nobody but themselves. Memory under them is in memory.test.ts, one pod's share of the
// proxy in observability.test.ts and `npm run soak -- fairness`.
import assert from 'node:assert/strict';
import type { ChildProcess } from 'node:child_process';
import { once } from 'node:events';
import { after, before, describe, it } from 'node:test';
import { NODE_LOCAL_EXTENSION } from '../../common/workload/extensions.ts';
import { serveChecksums, transfer } from '../support/checked-transfer.ts';
import { eventually, NetnsMesh, nextOutput } from '../support/netns-mesh.ts';
import type { LoadResult } from '../support/netns-mesh.ts';

const mesh = new NetnsMesh();
const PODS = [
  { name: 'client', ip: '10.77.0.1', node: 'a' },
  { name: 'near', ip: '10.77.0.2', node: 'a' },
  { name: 'server', ip: '10.77.0.3', node: 'b' },
  { name: 'outside', ip: '10.77.0.5', node: 'none' },
];
const FLOOD = 8081;
const WORKERS = 400;
const SERVED = 2000;
const STILL_LOOKS = 5;
const PATHS = [
  { path: 'through a tunnel', from: 'client', host: '10.77.0.3' },
  { path: 'on one node', from: 'client', host: '10.77.0.2' },
  { path: 'in plaintext from out of the mesh', from: 'outside', host: '10.77.0.3' },
] as const;

/** Has a connection carry lines there and back, one at a time, none without its answer. */
async function keepAsking(line: ChildProcess, whileRunning: Promise<unknown>): Promise<void> {
  const state = { isDone: false };
  void whileRunning.finally(() => (state.isDone = true));
  while (!state.isDone) {
    const answer = nextOutput(line);
    line.stdin?.write('ping\n');
    await answer;
    await new Promise((resolve) => setTimeout(resolve, 20));
  }
}

/**
 * The readers that stand still have all that fits between them and their server. Seen several times in a row: on a busy
 * machine what fills the windows may pause, and who comes then shares a connection that the readers will hold.
 */
async function whenStill(): Promise<void> {
  let before = 0;
  let stillLooks = 0;
  await eventually('nothing moves', async () => {
    const sums = await Promise.all(
      ['a', 'b'].flatMap((node) =>
        ['sent', 'received'].map((way) => mesh.metric(node, `istio_tcp_${way}_bytes_total`)),
      ),
    );
    const now = sums.reduce((sum, one) => sum + one, 0);
    stillLooks = now === before && now > 0 ? stillLooks + 1 : 0;
    before = now;
    if (stillLooks < STILL_LOOKS) await new Promise((resolve) => setTimeout(resolve, 300));
    return stillLooks >= STILL_LOOKS;
  });
}

async function whenIdle(): Promise<void> {
  for (const node of ['a', 'b']) {
    await eventually(`${node} has no connection`, async () => {
      const answer = (await (await mesh.admin(node, '/connections?top=0')).json()) as object;
      return 'connectionCount' in answer && answer.connectionCount === 0;
    });
  }
}

before(async () => {
  await mesh.start();
  for (const pod of PODS) mesh.addPod(pod);
  for (const name of ['near', 'server']) {
    await mesh.serve(name);
    await serveChecksums(mesh, name);
    await mesh.startScript(name, ['test/soak/flood-server.ts', String(FLOOD)]);
  }
  for (const node of ['a', 'b']) await mesh.startNode(node);
  for (const name of ['client', 'near', 'server']) {
    await mesh.putPod(name, { extensions: [{ name: NODE_LOCAL_EXTENSION }] });
    await mesh.enrol(name);
  }
});

after(() => mesh.close());

describe('connection_storm', () => {
  for (const { path, from, host } of PATHS) {
    it(`${WORKERS} at once, and again without a pause, ${path}: all are served, a running connection goes on`, async () => {
      const line = mesh.client(from, host, 8080);
      const args = ['test/support/connect-load.ts', host, 8080, WORKERS, 0];
      const storm = mesh.script(from, args);
      let served = 0;
      let said = '';
      storm.stderr?.on('data', (chunk: Buffer) => (served += chunk.length));
      storm.stdout?.on('data', (chunk: Buffer) => (said += chunk.toString()));
      const enough = eventually('enough are served', () => served >= SERVED);
      await keepAsking(line, enough);
      await enough;
      const closed = once(storm, 'close');
      storm.stdin?.end();
      await closed;
      assert.deepEqual((JSON.parse(said) as LoadResult).failures, []);
      line.stdin?.end();
      await once(line, 'close');
      await whenIdle();
    });
  }
});

describe('slow_reader', () => {
  for (const { path, from, host } of PATHS) {
    it(`that stands still, ${path}: others on the same path are served, with all their bytes`, async () => {
      const args = ['test/soak/memory-client.ts', 'slow', host, FLOOD, 8];
      const slow = mesh.script(from, args);
      await nextOutput(slow);
      await whenStill();
      const line = mesh.client(from, host, 8080);
      const transferred = transfer(mesh, from, host, 16_000_000);
      await keepAsking(line, transferred);
      const { arrived, received, isRight } = await transferred;
      assert.deepEqual([arrived, received, isRight], [16_000_000, 16_000_000, true]);
      for (const child of [slow, line]) {
        const closed = once(child, 'close');
        child.stdin?.end();
        await closed;
      }
      await whenIdle();
    });

    it(`that pauses, ${path}: gets all of it, in order`, async () => {
      const { received, isRight } = await transfer(mesh, from, host, 24_000_000, 40);
      assert.deepEqual([received, isRight], [24_000_000, true]);
    });
  }
});
