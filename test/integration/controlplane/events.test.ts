// Events at a real API server: told once, counted up by a controller that was started again.
import assert from 'node:assert/strict';
import { spawn } from 'node:child_process';
import type { ChildProcess } from 'node:child_process';
import { once } from 'node:events';
import { mkdtempSync, rmSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { after, before, it } from 'node:test';
import { KubeClient } from '../../../common/kube/client.ts';
import { loadConnection } from '../../../common/kube/connection.ts';
import { EventRecorder } from '../../../common/kube/events.ts';
import type { EventNote } from '../../../common/kube/events.ts';
import { KINDS } from '../../../common/kube/resource.ts';
import type { KubeObject } from '../../../common/kube/resource.ts';
import { FakeClock } from '../../support/fake-clock.ts';
import { quietLogger } from '../../support/quiet-logger.ts';

interface Event extends KubeObject {
  readonly note: string;
  readonly eventTime: string;
  readonly series?: { readonly count: number; readonly lastObservedTime: string };
}

const dir = mkdtempSync(join(tmpdir(), 'ambient-events-'));
const clock = new FakeClock();
let api: ChildProcess;
let kube: KubeClient;
let object: KubeObject;

async function written(): Promise<Event[]> {
  const path = '/apis/events.k8s.io/v1/namespaces/default/events';
  const { items } = await kube.json<{ items: Event[] }>({ method: 'GET', path });
  return items.toSorted((a, b) => a.note.localeCompare(b.note));
}

const recorder = (): EventRecorder =>
  new EventRecorder(kube, { clock, logger: quietLogger(), controller: 'test' });

before(async () => {
  const kubeconfig = join(dir, 'kubeconfig');
  const args = ['--data', join(dir, 'api'), '--listen', '127.0.0.1:0'];
  api = spawn(
    process.execPath,
    ['local/apiserver/main.ts', ...args, '--kubeconfig-out', kubeconfig],
    { env: { PATH: process.env['PATH'] }, stdio: ['ignore', 'pipe', 'inherit'] },
  );
  let output = '';
  for await (const chunk of api.stdout ?? []) {
    output += String(chunk);
    if (output.includes('"ready"')) break;
  }
  kube = new KubeClient(await loadConnection({ kubeconfig }));
  const namespace = await kube.get<KubeObject>({ kind: KINDS.namespaces, name: 'default' });
  if (namespace === undefined) {
    await kube.create(KINDS.namespaces, { metadata: { name: 'default' } });
  }
  const metadata = { name: 'thing', namespace: 'default' };
  object = await kube.create(KINDS.configMaps, { metadata });
});

after(async () => {
  kube.close();
  api.kill('SIGTERM');
  await once(api, 'exit');
  rmSync(dir, { recursive: true, force: true });
});

it('an Event is written once, and counted up after an hour and by a controller that was started again', async () => {
  const note = (text: string): EventNote => ({
    kind: KINDS.configMaps,
    object,
    type: 'Warning',
    reason: 'Late',
    action: 'Watch',
    note: text,
  });
  const first = recorder();
  await first.record(note('one'));
  await first.record(note('one'));
  await first.record(note('two'));
  assert.deepEqual(
    (await written()).map((event) => [event.note, event.series?.count]),
    [
      ['one', undefined],
      ['two', undefined],
    ],
  );
  const [{ eventTime } = { eventTime: '' }] = await written();
  await recorder().record(note('one'));
  clock.advance(2 * 3_600_000);
  await first.record(note('one'));
  const [one, two, ...more] = await written();
  assert.ok(one !== undefined);
  assert.deepEqual([one.series?.count, two?.series, more], [3, undefined, []]);
  assert.equal(one.eventTime, eventTime);
  assert.ok((one.series?.lastObservedTime ?? '') > eventTime);
});
