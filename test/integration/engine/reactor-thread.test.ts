// A thread with a reactor as its owner sees it: its end is told once, when nobody asked for it.
import assert from 'node:assert/strict';
import { it } from 'node:test';
import { ReactorThread } from '../../../engine/reactor/reactor-thread.ts';

const SCRIPT = new URL('../../support/ending-reactor.ts', import.meta.url);

it('a reactor thread that ends by itself is reported, and fails what was asked of it', async () => {
  const ends: string[] = [];
  const thread = await ReactorThread.start(
    SCRIPT,
    { workerData: undefined },
    { onEvent: () => undefined, onError: (err) => ends.push(String(err)) },
  );
  await assert.rejects(thread.request({ kind: 'anything' }), { code: 'data_thread_gone' });
  assert.deepEqual(ends, ['ReactorThreadError: the data thread has ended']);
});

it('a reactor thread that is terminated is not reported', async () => {
  const ends: string[] = [];
  const thread = await ReactorThread.start(
    SCRIPT,
    { workerData: undefined },
    { onEvent: () => undefined, onError: (err) => ends.push(String(err)) },
  );
  await thread.terminate();
  assert.deepEqual(ends, []);
  await assert.rejects(thread.request({ kind: 'anything' }), { code: 'data_thread_gone' });
});
