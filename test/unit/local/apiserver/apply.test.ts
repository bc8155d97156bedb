import assert from 'node:assert/strict';
import { describe, it } from 'node:test';
import { serverSideApply, trackUpdate } from '../../../../local/apiserver/patch/apply.ts';
import { decodeFields, encodeFields } from '../../../../local/apiserver/patch/field-set.ts';
import type { Dict, ManagedFieldsEntry } from '../../../../local/apiserver/objects.ts';
import { builtinShape, schemaShape } from '../../../../local/apiserver/patch/shape.ts';
import { StatusError } from '../../../../local/apiserver/status-error.ts';

const shape = builtinShape('Deployment');
const manager = (name: string) => ({
  name,
  apiVersion: 'apps/v1',
  subresource: undefined,
  time: 't',
});

/** A tiny cluster of one object, changed by applies and updates. */
class Applied {
  object: Dict | undefined;
  managers: ManagedFieldsEntry[] = [];

  apply(name: string, applied: Dict, force = false, of = shape): Dict {
    const result = serverSideApply({
      live: this.object,
      applied,
      managers: this.managers,
      manager: manager(name),
      force,
      shape: of,
    });
    this.object = result.object;
    this.managers = result.managers;
    return result.object;
  }

  update(name: string, after: Dict): void {
    this.managers = trackUpdate({
      before: this.object,
      after,
      managers: this.managers,
      manager: manager(name),
      shape,
    });
    this.object = after;
  }
}

describe('server-side apply', () => {
  it('removes what a manager no longer applies, and keeps what others set', () => {
    const it = new Applied();
    it.apply('one', { metadata: { labels: { a: '1', b: '2' } }, spec: { replicas: 1 } });
    it.apply('two', { metadata: { labels: { c: '3' } } });
    assert.deepEqual(it.apply('one', { metadata: { labels: { a: '1' } } }), {
      metadata: { labels: { a: '1', c: '3' } },
    });
  });

  it('keeps a field that another manager applies as well', () => {
    const it = new Applied();
    it.apply('one', { spec: { replicas: 1 } });
    it.apply('two', { spec: { replicas: 1 } });
    assert.deepEqual(it.apply('one', {}), { spec: { replicas: 1 } });
  });

  it('refuses to change another manager’s value unless forced', () => {
    const it = new Applied();
    it.apply('one', { spec: { replicas: 1 } });
    assert.throws(
      () => it.apply('two', { spec: { replicas: 2 } }),
      (err: unknown) =>
        err instanceof StatusError &&
        err.status === 409 &&
        err.message.includes('conflict with "one": .spec.replicas'),
    );
    assert.deepEqual(it.apply('two', { spec: { replicas: 2 } }, true), { spec: { replicas: 2 } });
    assert.deepEqual(
      it.managers.map((entry) => entry.manager),
      ['two'],
    );
  });

  it('conflicts with a value that was set by an update', () => {
    const it = new Applied();
    it.apply('one', { spec: { replicas: 1 } });
    it.update('scaler', { spec: { replicas: 5 } });
    assert.throws(() => it.apply('one', { spec: { replicas: 1 } }), StatusError);
  });

  it('merges keyed lists item by item and removes items', () => {
    const it = new Applied();
    const containers = (...items: Dict[]): Dict => ({ spec: { containers: items } });
    it.apply('one', containers({ name: 'a', image: 'x' }, { name: 'b', image: 'y' }));
    it.apply('two', containers({ name: 'c', image: 'z' }));
    assert.deepEqual(
      it.apply('one', containers({ name: 'a', image: 'x2' })),
      containers({ name: 'a', image: 'x2' }, { name: 'c', image: 'z' }),
    );
  });

  it('treats a port without a protocol as TCP', () => {
    const it = new Applied();
    const ports = (...items: Dict[]): Dict => ({ spec: { ports: items } });
    const of = builtinShape('Service');
    it.apply('one', ports({ port: 80, protocol: 'TCP', name: 'http' }), false, of);
    assert.deepEqual(
      it.apply('one', ports({ port: 80, name: 'http' }), false, of),
      ports({ port: 80, name: 'http' }),
    );
  });

  it('follows the list types of a custom resource’s schema', () => {
    const of = schemaShape({
      properties: {
        spec: {
          properties: {
            keyed: { 'x-kubernetes-list-type': 'map', 'x-kubernetes-list-map-keys': ['id'] },
            set: { 'x-kubernetes-list-type': 'set' },
          },
        },
      },
    });
    const it = new Applied();
    it.apply('one', { spec: { keyed: [{ id: 1 }], set: ['a'], plain: [1] } }, false, of);
    it.apply('two', { spec: { keyed: [{ id: 2 }], set: ['b'] } }, false, of);
    assert.deepEqual(it.object, {
      spec: { keyed: [{ id: 2 }, { id: 1 }], set: ['a', 'b'], plain: [1] },
    });
    assert.throws(() => it.apply('two', { spec: { plain: [2] } }, false, of), StatusError);
  });

  it('spells field sets so that they can be read again', () => {
    const fields = {
      'f:spec': { 'f:list': { 'k:{"name":"a"}': { '.': {}, 'f:name': {} } }, 'f:leaf': {} },
    };
    assert.deepEqual(encodeFields(decodeFields(fields)), fields);
  });
});
