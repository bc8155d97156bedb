// Events at a real API server: told once, counted up by a controller that was started again.
import assert from 'node:assert/strict';
import { after, before, it } from 'node:test';
import type { KubeClient } from '../../../common/kube/client.ts';
import { EventRecorder } from '../../../common/kube/events.ts';
import type { EventNote } from '../../../common/kube/events.ts';
import { KINDS } from '../../../common/kube/resource.ts';
import type { KubeObject } from '../../../common/kube/resource.ts';
import { FakeClock } from '../../support/fake-clock.ts';
import { startApiServer } from '../../support/local-api-server.ts';
import type { LocalApiServer } from '../../support/local-api-server.ts';
import { quietLogger } from '../../support/quiet-logger.ts';

interface Event extends KubeObject {
  readonly note: string;
  readonly eventTime: string;
  readonly series?: { readonly count: number; readonly lastObservedTime: string };
}

const clock = new FakeClock();
let api: LocalApiServer;
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
  api = await startApiServer();
  ({ kube } = api);
  const namespace = await kube.get<KubeObject>({ kind: KINDS.namespaces, name: 'default' });
  if (namespace === undefined) {
    await kube.create(KINDS.namespaces, { metadata: { name: 'default' } });
  }
  const metadata = { name: 'thing', namespace: 'default' };
  object = await kube.create(KINDS.configMaps, { metadata });
});

after(async () => {
  await api.stop();
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
