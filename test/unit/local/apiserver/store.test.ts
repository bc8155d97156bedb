import assert from 'node:assert/strict';
import { appendFileSync, mkdtempSync, rmSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { after, describe, it } from 'node:test';
import type { KubeObject } from '../../../../local/apiserver/objects.ts';
import { StatusError } from '../../../../local/apiserver/status-error.ts';
import { Store } from '../../../../local/apiserver/storage/store.ts';

const dir = mkdtempSync(join(tmpdir(), 'ambient-store-'));
after(() => rmSync(dir, { recursive: true }));

function config(name: string, data = ''): KubeObject {
  const metadata = { name, namespace: 'a', uid: name, resourceVersion: '', creationTimestamp: '' };
  return { apiVersion: 'v1', kind: 'ConfigMap', metadata, data };
}

const BUCKET = '/configmaps';

describe('the store', () => {
  it('keeps objects and revisions across a restart, even with a torn last line', () => {
    const first = new Store(dir);
    first.put(BUCKET, config('one'));
    first.put(BUCKET, config('two'));
    first.put(BUCKET, config('one', 'changed'));
    first.remove(BUCKET, 'a', 'two');
    const { revision } = first;
    first.close();
    appendFileSync(join(dir, 'objects.jsonl'), '{"b":"/configmaps","k":"a/th');
    const second = new Store(dir);
    assert.equal(second.revision, revision);
    assert.equal(second.get(BUCKET, 'a', 'one')?.['data'], 'changed');
    assert.equal(second.get(BUCKET, 'a', 'two'), undefined);
    assert.throws(
      () => second.watch(BUCKET, revision - 1, () => undefined),
      (err: unknown) => err instanceof StatusError && err.status === 410,
    );
    second.close();
  });

  it('replays what happened since a revision, then follows', () => {
    const store = new Store(mkdtempSync(join(dir, 'watch-')));
    const from = store.revision;
    store.put(BUCKET, config('one'));
    const seen: string[] = [];
    const stop = store.watch(BUCKET, from, ({ type, object }) => {
      seen.push(`${type} ${object.metadata.name}`);
    });
    store.put(BUCKET, config('one', 'x'));
    store.remove(BUCKET, 'a', 'one');
    stop();
    store.put(BUCKET, config('two'));
    assert.deepEqual(seen, ['ADDED one', 'MODIFIED one', 'DELETED one']);
    store.close();
  });

  it('forgets old events, and says so to watches that need them', () => {
    const store = new Store(mkdtempSync(join(dir, 'window-')));
    for (let index = 0; index < 9000; index += 1) store.put(BUCKET, config('one', String(index)));
    assert.throws(() => store.watch(BUCKET, 5, () => undefined), StatusError);
    store.watch(BUCKET, store.revision - 100, () => undefined)();
    store.close();
  });
});
