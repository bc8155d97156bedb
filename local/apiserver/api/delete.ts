// DELETE: preconditions and what becomes of dependents (propagationPolicy). The dependents themselves are the
// garbage collector's.
import { clone, text } from '../objects.ts';
import type { KubeObject } from '../objects.ts';
import type { Registry } from '../registry/registry.ts';
import type { Resource } from '../registry/resource.ts';
import { BUCKETS } from '../registry/builtin.ts';
import { badRequest, conflict } from '../status-error.ts';
import type { Lifecycle } from './lifecycle.ts';

export const FOREGROUND = 'foregroundDeletion';

export interface DeleteRequest {
  readonly graceSec?: number;
  /** `Foreground`, `Background`, `Orphan` or empty. */
  readonly policy: string;
  readonly uid?: string;
  readonly resourceVersion?: string;
  readonly dryRun?: boolean;
}

interface Context {
  readonly lifecycle: Lifecycle;
  readonly registry: Registry;
}

/** Deletes an object, or starts to. */
export function deleteObject(
  context: Context,
  resource: Resource,
  current: KubeObject,
  request: DeleteRequest,
): { object: KubeObject; removed: boolean } {
  const { uid, resourceVersion, name } = current.metadata;
  if (request.uid !== undefined && request.uid !== uid) {
    throw conflict(
      resource,
      name,
      `Precondition failed: UID in precondition: ${request.uid}, UID in object meta: ${uid}`,
    );
  }
  if (request.resourceVersion !== undefined && request.resourceVersion !== resourceVersion) {
    throw conflict(
      resource,
      name,
      `Precondition failed: ResourceVersion in precondition: ${request.resourceVersion}, ResourceVersion in object meta: ${resourceVersion}`,
    );
  }
  if (Number.isNaN(request.graceSec ?? 0)) throw badRequest('gracePeriodSeconds must be a number');
  if (request.dryRun === true) return { object: current, removed: true };
  if (request.policy === 'Orphan') orphan(context, uid);
  const isForeground = request.policy === 'Foreground' && hasDependents(context, uid);
  const { graceSec } = request;
  return context.lifecycle.delete(resource, current, {
    ...(graceSec === undefined ? {} : { graceSec }),
    ...(isForeground ? { finalizer: FOREGROUND } : {}),
  });
}

/** The stored objects that name an owner, with their resource. */
export function* dependentsOf(context: Context, uid: string): Generator<[Resource, KubeObject]> {
  const { store } = context.lifecycle;
  for (const bucket of store.buckets()) {
    if (bucket === BUCKETS.events || bucket === BUCKETS.leases) continue;
    const resource = context.registry.findBucket(bucket);
    if (resource === undefined) continue;
    for (const object of store.values(bucket)) {
      if (object.metadata.ownerReferences?.some((owner) => owner.uid === uid) === true) {
        yield [resource, object];
      }
    }
  }
}

function hasDependents(context: Context, uid: string): boolean {
  return dependentsOf(context, uid).next().done !== true;
}

/** Dependents forget their owner, so that the collector leaves them. */
function orphan(context: Context, uid: string): void {
  for (const [resource, object] of [...dependentsOf(context, uid)]) {
    const copy = clone(object);
    const owners = copy.metadata.ownerReferences?.filter((owner) => owner.uid !== uid) ?? [];
    copy.metadata.ownerReferences = owners;
    context.lifecycle.update(
      resource,
      object,
      { ...copy, kind: resource.kind, apiVersion: text(object.apiVersion) },
      {
        manager: 'garbage-collector',
      },
    );
  }
}
