// Starting and ending: Ctrl-C leaves nothing behind, whenever it comes; what a killed run left is removed by the next
// start of the same clone; two clones beside each other neither clash nor clean each other.
import assert from 'node:assert/strict';
import { mkdtempSync, rmSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { after, before, describe, it } from 'node:test';
import { KubeClient } from '../../../common/kube/client.ts';
import { loadConnection } from '../../../common/kube/connection.ts';
import {
  footprint,
  makeClone,
  MeshStart,
  processesOf,
  startCommand,
  tracesOf,
  until,
  type Footprint,
} from '../../support/mesh-start.ts';

const RUNS = /The mesh runs/;

interface PodList {
  readonly items: readonly {
    readonly metadata: { readonly name: string };
    readonly status?: {
      readonly conditions?: readonly { readonly type: string; readonly status: string }[];
      readonly containerStatuses?: readonly { readonly containerID?: string }[];
    };
  }[];
}

/** Container ids of the mesh's pods by name; all of them must be ready. */
async function readyPods(clone: string): Promise<Map<string, string>> {
  const api = new KubeClient(
    await loadConnection({ kubeconfig: join(clone, '.ambient/kubeconfig') }),
  );
  const { items } = await api.json<PodList>({ path: '/api/v1/namespaces/istio-system/pods' });
  assert.equal(items.length, 5, 'a control plane, and cni and a node proxy on both nodes');
  for (const { metadata, status } of items) {
    const ready = status?.conditions?.find(({ type }) => type === 'Ready');
    assert.equal(ready?.status, 'True', `${metadata.name} is not ready`);
  }
  return new Map(
    items.map(({ metadata, status }) => [
      metadata.name,
      status?.containerStatuses?.[0]?.containerID ?? '',
    ]),
  );
}

function start(clone: string, ...args: string[]): MeshStart {
  return new MeshStart(startCommand(clone, '--empty', '--ui-port', '0', ...args), clone);
}

function assertRich({ netns, links, processes }: Footprint): void {
  assert.ok(netns.length >= 4, `namespaces: ${netns.join(' ')}`);
  assert.ok(links.length >= 3, `interfaces: ${links.join(' ')}`);
  assert.ok(processes.length >= 8, `processes: ${processes.join(' ')}`);
}

describe('starting and ending the local cluster', () => {
  const dir = mkdtempSync(join(tmpdir(), 'ambient-clones-'));
  const [one, other] = [join(dir, 'one'), join(dir, 'other')];
  const runs: MeshStart[] = [];
  const run = (clone: string): MeshStart => {
    const started = start(clone);
    runs.push(started);
    return started;
  };
  let beside: MeshStart;

  before(async () => {
    for (const clone of [one, other]) makeClone(clone);
    beside = run(other);
    await beside.saw(RUNS);
  });

  after(async () => {
    for (const each of runs) await each.interrupt();
    rmSync(dir, { recursive: true, force: true });
  });

  it('leaves nothing when it is interrupted while starting', async () => {
    const early = run(one);
    await early.saw(/ok {2}Kubernetes API/);
    const seen = footprint(one);
    assert.ok(seen.processes.length >= 2);
    assert.equal(await early.interrupt(), 0, early.output);
    assert.deepEqual(tracesOf(seen), []);
    assert.doesNotMatch(early.output, /\n\s+at /, 'no stack trace');
  });

  it('cleans what a killed run of the same clone left, and nothing of a clone beside it', async () => {
    const neighbours = await readyPods(other);
    const first = run(one);
    await first.saw(RUNS);
    const killed = footprint(one);
    assertRich(killed);
    const apart = footprint(other);
    assert.deepEqual(
      killed.netns.filter((name) => apart.netns.includes(name)),
      [],
      'two clones share a namespace',
    );
    first.signal('SIGKILL');
    await first.exited;
    assert.notDeepEqual(processesOf(one), [], 'a killed run leaves processes');

    const second = run(one);
    await second.saw(RUNS);
    assert.match(second.output, /ended what a killed run left/);
    const fresh = footprint(one);
    const kept = killed.processes.filter((pid) => fresh.processes.includes(pid));
    assert.deepEqual(kept, [], 'processes of the killed run live on');
    await readyPods(one);

    assertRich(fresh);
    assert.equal(await second.interrupt(), 0, second.output);
    assert.deepEqual(tracesOf(fresh), []);
    assert.deepEqual(tracesOf(killed), []);
    assert.deepEqual(await readyPods(other), neighbours, 'the clone beside it was touched');
  });

  it('refuses a second start of the same clone with a line', async () => {
    const second = run(other);
    assert.equal(await second.exited, 1);
    assert.match(second.output, /^npm start: a cluster of .*\.ambient is running already\n$/);
  });

  it('stops everything in order when it is interrupted', async () => {
    const seen = footprint(other);
    assertRich(seen);
    assert.equal(await beside.interrupt(), 0, beside.output);
    assert.match(beside.output, /stopping\nstopped, nothing is left running\n$/);
    await until(
      () => `left: ${tracesOf(seen).join('\n')}`,
      () => (tracesOf(seen).length === 0 ? true : undefined),
      1000,
    );
  });
});
