// The garbage collector: objects whose owners are all gone are deleted; an owner deleted in the foreground waits for its
// dependents. Pods of a removed node go with it.
import { text, field } from '../objects.ts';
import type { KubeObject } from '../objects.ts';
import { FOREGROUND, deleteObject, dependentsOf } from '../api/delete.ts';
import { BUCKETS } from '../registry/builtin.ts';
import type { Resource } from '../registry/resource.ts';
import type { StoreEvent } from '../storage/store.ts';
import { WorkQueue } from './controller.ts';
import type { Controller, ControllerContext } from './controller.ts';

/** Follows owner references. */
export class GarbageCollector implements Controller {
  readonly #context: ControllerContext;
  /** Uids of everything stored. */
  readonly #live = new Set<string>();
  readonly #owners: WorkQueue;
  readonly #orphans: WorkQueue;
  readonly #nodes: WorkQueue;

  constructor(context: ControllerContext) {
    this.#context = context;
    this.#owners = new WorkQueue(context, (uid) => this.#ownerChanged(uid));
    this.#orphans = new WorkQueue(context, (place) => this.#checkOrphan(place));
    this.#nodes = new WorkQueue(context, (name) => this.#nodeGone(name));
  }

  onEvent({ type, bucket, object }: StoreEvent): void {
    const { metadata } = object;
    if (type === 'DELETED') {
      this.#live.delete(metadata.uid);
      this.#owners.add(metadata.uid);
      // A dependent's end may be what its owner waits for.
      for (const owner of metadata.ownerReferences ?? []) this.#owners.add(owner.uid);
      if (bucket === BUCKETS.nodes) this.#nodes.add(metadata.name);
      return;
    }
    this.#live.add(metadata.uid);
    if (metadata.finalizers?.includes(FOREGROUND) === true) this.#owners.add(metadata.uid);
    if ((metadata.ownerReferences ?? []).length > 0) {
      this.#orphans.add(`${bucket} ${metadata.namespace ?? ''}/${metadata.name}`);
    }
  }

  close(): void {
    this.#owners.close();
    this.#orphans.close();
    this.#nodes.close();
  }

  #ownerChanged(uid: string): void {
    const owner = this.#live.has(uid) ? this.#foregroundOwner(uid) : undefined;
    if (this.#live.has(uid) && owner === undefined) return;
    let left = 0;
    for (const [resource, object] of [...dependentsOf(this.#context, uid)]) {
      left += 1;
      this.#collect(resource, object, owner === undefined ? 'Background' : 'Foreground', uid);
    }
    if (owner === undefined || left > 0) return;
    const [resource, object] = owner;
    this.#context.lifecycle.modify(resource, object, (copy) => {
      const finalizers = copy.metadata.finalizers ?? [];
      copy.metadata.finalizers = finalizers.filter((name) => name !== FOREGROUND);
    });
  }

  #foregroundOwner(uid: string): [Resource, KubeObject] | undefined {
    const { store } = this.#context.lifecycle;
    for (const bucket of store.buckets()) {
      for (const object of store.values(bucket)) {
        if (object.metadata.uid !== uid) continue;
        if (object.metadata.finalizers?.includes(FOREGROUND) !== true) return undefined;
        const resource = this.#context.registry.findBucket(bucket);
        return resource === undefined ? undefined : [resource, object];
      }
    }
    return undefined;
  }

  #checkOrphan(place: string): void {
    const [bucket = '', key = ''] = place.split(' ');
    const [namespace = '', name = ''] = key.split('/');
    const { store } = this.#context.lifecycle;
    const object = store.get(bucket, namespace === '' ? undefined : namespace, name);
    const resource = this.#context.registry.findBucket(bucket);
    if (object === undefined || resource === undefined) return;
    this.#collect(resource, object, 'Background', undefined);
  }

  /** Deletes an object unless another owner than the one given still exists. */
  #collect(
    resource: Resource,
    object: KubeObject,
    policy: string,
    goingOwner: string | undefined,
  ): void {
    const owners = object.metadata.ownerReferences ?? [];
    const isKept = owners.some(({ uid }) => uid !== goingOwner && this.#live.has(uid));
    if (isKept || owners.length === 0 || object.metadata.deletionTimestamp !== undefined) return;
    deleteObject(this.#context, resource, object, { policy });
  }

  #nodeGone(name: string): void {
    const { store } = this.#context.lifecycle;
    const resource = this.#context.registry.findBucket(BUCKETS.pods);
    if (resource === undefined || store.get(BUCKETS.nodes, undefined, name) !== undefined) return;
    for (const pod of store.list(BUCKETS.pods)) {
      if (text(field(pod, 'spec', 'nodeName')) !== name) continue;
      deleteObject(this.#context, resource, pod, { policy: 'Background', graceSec: 0 });
    }
  }
}
