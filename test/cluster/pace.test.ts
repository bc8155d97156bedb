// Pace of new connections (ours; docs/performance.md, "Fairness"): where a node has no processor to spare, a pod that opens very
// many waits for the others. The node proxy shares one processor here with a program that never rests. No times are measured.
import assert from 'node:assert/strict';
import { spawnSync } from 'node:child_process';
import { readFileSync } from 'node:fs';
import { after, before, describe, it } from 'node:test';
import { eventually, NetnsMesh, nextOutput } from '../support/netns-mesh.ts';

const mesh = new NetnsMesh();
const SERVER = '10.77.0.4';
/** Far less than the load asks for. */
const FAIR_PER_SEC = 20;
/** The first processor that this machine lets us use. */
const [, CPU = '0'] =
  /^Cpus_allowed_list:\s*(\d+)/m.exec(readFileSync('/proc/self/status', 'utf8')) ?? [];

before(async () => {
  await mesh.start();
  mesh.addPod({ name: 'noisy', ip: '10.77.0.1', node: 'a' });
  mesh.addPod({ name: 'quiet', ip: '10.77.0.2', node: 'a' });
  mesh.addPod({ name: 'server', ip: SERVER, node: 'none' });
  await mesh.serve('server');
  mesh.proxyEnv['POD_FAIR_CONNECTIONS'] = String(FAIR_PER_SEC);
  await mesh.startNode('a');
  for (const name of ['noisy', 'quiet']) {
    await mesh.putPod(name);
    await mesh.enrol(name);
  }
});

after(() => mesh.close());

const delayed = (pod: string): Promise<number> =>
  mesh.metric('a', 'ambient_pod_connections_delayed_total', `pod="${pod}"`);

/** The last thing that was said of the pace of a pod. */
function heldTo(pod: string): string {
  const lines = mesh.log('a').split('\n');
  return lines.findLast((line) => line.includes(`"pod":"default/${pod}","perSec"`)) ?? '';
}

describe('a pod that opens very many connections', () => {
  it('is held to a rate while processors are full, then freed; nothing of it or of others is refused', async () => {
    const pinned = ['-a', '-p', '-c', CPU, String(mesh.pid('a'))];
    assert.equal(spawnSync('taskset', pinned).status, 0);
    const kept = mesh.client('quiet', SERVER, 8080);
    kept.stdin?.write('one\n');
    assert.match(await nextOutput(kept), /saw .*: one/);
    const load = mesh.load('noisy', SERVER);
    await load.more(50);
    const restless = mesh.startProgram('server', 'taskset', [
      ...['-c', CPU, process.execPath, '--eval', 'for (;;);'],
    ]);
    await eventually('it is held', () => heldTo('noisy').includes('the pod is held to a rate'));
    await load.more(FAIR_PER_SEC);
    await eventually('they are counted', async () => (await delayed('noisy')) >= FAIR_PER_SEC);
    assert.equal((await mesh.ask('quiet', SERVER)).stdout, 'server saw 10.77.0.2: hello\n');
    const answer = nextOutput(kept);
    kept.stdin?.write('two\n');
    assert.match(await answer, /saw .*: two/);
    restless.kill('SIGKILL');
    await load.more(FAIR_PER_SEC);
    const { failures, served } = await load.end();
    assert.deepEqual(failures, []);
    assert.ok(served >= 50 + 2 * FAIR_PER_SEC, String(served));
    await eventually('it is freed', () =>
      heldTo('noisy').includes('as many connections as it likes'),
    );
    assert.deepEqual([heldTo('quiet'), await delayed('quiet')], ['', 0]);
    assert.equal(await mesh.metric('a', 'ambient_connections_refused_total'), 0);
    kept.stdin?.end();
  });
});
