// A node full of pods: our node agent's server hands 300 of them, each with its namespace, to a holder with a proxy at
// once. They are served, survive the proxy, leave and come back in quick succession, and no descriptor is left over.
import assert from 'node:assert/strict';
import { spawnSync } from 'node:child_process';
import { closeSync, openSync, readdirSync, readlinkSync } from 'node:fs';
import { after, before, describe, it } from 'node:test';
import { ZdsServer, type ZdsPod } from '../../cni/agent/zds-server.ts';
import { systemClock } from '../../common/clock.ts';
import { eventually, NetnsMesh } from '../support/netns-mesh.ts';
import { POD_RULES } from '../support/pod-rules.ts';
import { quietLogger } from '../support/quiet-logger.ts';

const COUNT = 300;
const mesh = new NetnsMesh();
const names = Array.from({ length: COUNT }, (_, index) => `zm${process.pid}-${index}`);
const fds: number[] = [];
let pods: ZdsPod[] = [];
let server: ZdsServer;

function run(command: string, args: readonly string[], input?: string): void {
  const { status, stderr } = spawnSync(command, args, { input, encoding: 'utf8' });
  assert.equal(status, 0, stderr);
}

function ipBatch(lines: readonly string[]): void {
  run('ip', ['-batch', '-'], `${lines.join('\n')}\n`);
}

function podOf(name: string, path: string): ZdsPod {
  const fd = openSync(path, 'r');
  fds.push(fd);
  return { uid: name, name, namespace: 'default', serviceAccount: name, fd };
}

/** How many pods the proxy serves, and how many wait. */
async function states(): Promise<{ readonly up: number; readonly pending: number }> {
  const { workloadState } = await mesh.configDump('a');
  const all = Object.values(workloadState as Record<string, { readonly state: string }>);
  const up = all.filter(({ state }) => state === 'Up').length;
  return { up, pending: all.length - up };
}

const served = (count: number): Promise<void> =>
  eventually(`${count} pods are served`, async () => {
    const { up, pending } = await states();
    return up === count && pending === 0;
  });

/** Descriptors of a process: all, and those of network namespaces. */
function descriptors(pid: number): { readonly all: number; readonly namespaces: number } {
  const targets = readdirSync(`/proc/${pid}/fd`).map((fd) => {
    try {
      return readlinkSync(`/proc/${pid}/fd/${fd}`);
    } catch {
      return '';
    }
  });
  const namespaces = targets.filter((target) => /^net:|\/netns\//.test(target)).length;
  return { all: targets.length, namespaces };
}

type Counts = ReturnType<typeof descriptors>;

/** Sockets of clients that ask the proxy itself come and go; a descriptor left of each pod would be hundreds. */
function assertSame(now: Counts, before: Counts): void {
  assert.equal(now.namespaces, before.namespaces);
  assert.ok(Math.abs(now.all - before.all) < 10, `${before.all} descriptors became ${now.all}`);
}

async function talk(): Promise<void> {
  const { stdout } = await mesh.ask('client', '10.77.0.2');
  assert.equal(stdout, 'server saw 10.77.0.1: hello\n');
}

before(async () => {
  await mesh.start();
  for (const [at, name] of ['client', 'server'].entries()) {
    mesh.addPod({ name, ip: `10.77.0.${at + 1}`, node: 'a' });
    mesh.applyRules(name, POD_RULES);
  }
  await mesh.serve('server');
  ipBatch(names.map((name) => `netns add ${name}`));
  for (const name of names) run('ip', ['-n', name, 'link', 'set', 'lo', 'up']);
  // The first and the last of the snapshot talk to each other.
  const many = names.map((name) => podOf(name, `/run/netns/${name}`));
  const [client, last] = ['client', 'server'].map((name) => podOf(name, mesh.netnsPath(name)));
  assert.ok(client !== undefined && last !== undefined);
  pods = [client, ...many, last];
  const path = mesh.pathOf('agent.sock');
  const logger = quietLogger();
  const onConnections = (): void => undefined;
  server = new ZdsServer({ path, logger, clock: systemClock, pods: () => pods, onConnections });
  void server.run();
  mesh.proxyEnv['INPOD_UDS'] = path;
  await mesh.startNode('a', 'holder');
  for (const name of ['client', 'server']) await mesh.putPod(name);
});

after(async () => {
  await mesh.close();
  server.close();
  for (const fd of fds) closeSync(fd);
  ipBatch(names.map((name) => `netns del ${name}`));
});

describe('zds of a node full of pods', () => {
  it('a snapshot of 302 pods at once: all are served when the proxy is ready', async () => {
    assert.deepEqual(await states(), { up: COUNT + 2, pending: 0 });
    await talk();
    const { namespaces } = descriptors(mesh.pid('a'));
    assert.equal(namespaces, COUNT + 2, 'the holder has each namespace once');
  });

  it('the proxy dies: the next one has all of them from the holder', async () => {
    mesh.killProxy('a');
    await mesh.whenReady('a');
    await served(COUNT + 2);
    await talk();
    assert.equal(descriptors(mesh.pid('a')).namespaces, COUNT + 2);
  });

  it('all but two leave at once and come back at once, twice, and nothing is left over', async () => {
    const many = pods.slice(1, -1);
    let before: Counts | undefined;
    for (let round = 0; round < 2; round++) {
      await Promise.all(many.map(({ uid }) => server.remove(uid)));
      await served(2);
      await talk();
      assert.equal(descriptors(mesh.pid('a')).namespaces, 2);
      const now = descriptors(mesh.proxyPid('a'));
      assertSame(now, before ?? now);
      before = now;
      await Promise.all(many.map((pod) => server.add(pod)));
      await served(COUNT + 2);
      await talk();
    }
  });

  it('the same pods again and again change nothing', async () => {
    const before = descriptors(mesh.proxyPid('a'));
    await Promise.all([...pods, ...pods].map((pod) => server.add(pod)));
    assert.deepEqual(await states(), { up: COUNT + 2, pending: 0 });
    assertSame(descriptors(mesh.proxyPid('a')), before);
    await talk();
  });
});
