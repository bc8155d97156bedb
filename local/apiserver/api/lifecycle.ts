// Create, update and delete: the rules every kind shares (names, namespaces, generations, resource versions,
// finalizers, grace periods, managed fields). Both HTTP requests and the controllers in this process go through it.
import { randomUUID } from 'node:crypto';
import type { Clock } from '../../../common/clock.ts';
import { clone, dict, randomSuffix, sameJson, timestamp } from '../objects.ts';
import type { Dict, KubeObject, ManagedFieldsEntry, ObjectMeta } from '../objects.ts';
import { trackUpdate } from '../patch/apply.ts';
import { builtinShape, schemaShape } from '../patch/shape.ts';
import type { Shape } from '../patch/shape.ts';
import { BUCKETS } from '../registry/builtin.ts';
import { apiVersionOf } from '../registry/resource.ts';
import type { Resource } from '../registry/resource.ts';
import {
  StatusError,
  alreadyExists,
  badRequest,
  conflict,
  forbidden,
  invalid,
  notFound,
} from '../status-error.ts';
import type { FieldProblem } from '../status-error.ts';
import type { Store } from '../storage/store.ts';
import type { Strategy } from '../strategy/strategy.ts';
import { checkSchema } from './field-check.ts';
import type { FieldValidation } from './field-check.ts';
import { checkMetadata, checkName } from './names.ts';

/** How a write was asked for. */
export interface WriteOptions {
  readonly manager: string;
  readonly dryRun?: boolean;
  readonly validation?: FieldValidation;
  /** Warnings for the client are added here. */
  readonly warnings?: string[];
  /** Managed fields computed by server-side apply, instead of those of an update. */
  readonly managedFields?: ManagedFieldsEntry[];
}

/** A write of a part of the object. */
export type Subresource = 'status' | 'scale' | undefined;

/** The shape that merges of a resource follow. */
export function shapeOf(resource: Resource): Shape {
  return resource.isCustom ? schemaShape(resource.schema) : builtinShape(resource.kind);
}

/** Writes objects by the rules of the API. */
export class Lifecycle {
  readonly store: Store;
  readonly clock: Clock;
  readonly #strategies: ReadonlyMap<string, Strategy>;

  constructor(store: Store, clock: Clock, strategies: ReadonlyMap<string, Strategy>) {
    this.store = store;
    this.clock = clock;
    this.#strategies = strategies;
  }

  now(): string {
    return timestamp(this.clock.now());
  }

  /** Stores a new object made from a request's body. */
  create(
    resource: Resource,
    namespace: string | undefined,
    body: Dict,
    options: WriteOptions,
  ): KubeObject {
    const object = this.#newObject(resource, namespace, body);
    const name = object.metadata.name;
    this.#requireNamespace(resource, namespace, name);
    if (this.store.get(resource.bucket, namespace, name) !== undefined) {
      throw alreadyExists(resource, name);
    }
    const strategy = this.#strategies.get(resource.bucket);
    this.#check(resource, object, undefined, options);
    const status = strategy?.initialStatus?.(object);
    if (status !== undefined) object['status'] = status;
    object.metadata.managedFields =
      options.managedFields ??
      trackUpdate({
        before: undefined,
        after: withoutStatus(object, resource),
        managers: [],
        manager: this.#manager(resource, options.manager, undefined),
        shape: shapeOf(resource),
      });
    if (options.dryRun === true) return { ...object, metadata: { ...object.metadata } };
    return this.store.put(resource.bucket, object);
  }

  /** Replaces an object (or its status) by a changed copy; returns the stored one when nothing changed. */
  update(
    resource: Resource,
    current: KubeObject,
    body: Dict,
    options: WriteOptions,
    subresource?: Subresource,
  ): KubeObject {
    const { name } = current.metadata;
    const given = dict(body['metadata']);
    this.#checkPreconditions(resource, current, given);
    const object = this.#nextObject(resource, current, body, subresource);
    this.#check(resource, object, current, options, subresource);
    const managers = (given['managedFields'] as ManagedFieldsEntry[] | undefined) ?? [];
    object.metadata.managedFields =
      options.managedFields ??
      trackUpdate({
        before: current,
        after: object,
        managers: managers.filter((entry) => typeof entry.manager === 'string'),
        manager: this.#manager(resource, options.manager, subresource),
        shape: shapeOf(resource),
      });
    if (isUnchanged(object, current)) return current;
    if (hasNewGeneration(resource, object, current)) {
      object.metadata.generation = (current.metadata.generation ?? 0) + 1;
    }
    if (options.dryRun === true) return object;
    if (this.#isFinished(object)) return this.#remove(resource, object);
    if (this.store.get(resource.bucket, object.metadata.namespace, name) !== current) {
      throw conflict(resource, name);
    }
    return this.store.put(resource.bucket, object);
  }

  /** Changes a stored object by a function on a copy; for controllers. Undefined when it is gone. */
  modify(
    resource: Resource,
    object: KubeObject,
    change: (copy: KubeObject) => void,
    subresource?: Subresource,
  ): KubeObject | undefined {
    const { namespace, name, uid } = object.metadata;
    const current = this.store.get(resource.bucket, namespace, name);
    if (current?.metadata.uid !== uid) return undefined;
    const copy = clone(current);
    change(copy);
    return this.update(resource, current, copy, { manager: 'controllers' }, subresource);
  }

  /** Removes an object that has no reason left to stay. */
  #remove(resource: Resource, object: KubeObject): KubeObject {
    const { namespace, name } = object.metadata;
    const removed = this.store.remove(resource.bucket, namespace, name) ?? object;
    this.#strategies.get(resource.bucket)?.release?.(removed);
    return removed;
  }

  /** Marks for deletion what must wait for finalizers or a kubelet, and removes the rest. */
  delete(
    resource: Resource,
    current: KubeObject,
    request: { graceSec?: number; finalizer?: string; orphanFinalizer?: boolean },
  ): { object: KubeObject; removed: boolean } {
    const graceSec = this.#graceSec(resource, current, request.graceSec);
    const finalizers = new Set(current.metadata.finalizers ?? []);
    if (request.finalizer !== undefined) finalizers.add(request.finalizer);
    const waits = finalizers.size > 0 || graceSec > 0 || resource.bucket === BUCKETS.namespaces;
    if (!waits) return { object: this.#remove(resource, current), removed: true };
    const { deletionTimestamp: since, deletionGracePeriodSeconds: was } = current.metadata;
    const isShorter = was !== undefined && graceSec < was;
    if (since !== undefined && !isShorter && request.finalizer === undefined) {
      return { object: current, removed: false };
    }
    const object = clone(current);
    const { metadata } = object;
    if (finalizers.size > 0) metadata.finalizers = [...finalizers];
    metadata.deletionTimestamp = timestamp(this.clock.now() + graceSec * 1000);
    metadata.deletionGracePeriodSeconds = graceSec;
    if (metadata.generation !== undefined) metadata.generation += 1;
    if (resource.bucket === BUCKETS.namespaces) {
      object['status'] = { ...dict(object['status']), phase: 'Terminating' };
    }
    return { object: this.store.put(resource.bucket, object), removed: false };
  }

  /** Pods that a kubelet runs get time to stop; nothing else does. */
  #graceSec(resource: Resource, current: KubeObject, asked: number | undefined): number {
    if (resource.bucket !== BUCKETS.pods) return 0;
    const spec = dict(current['spec']);
    const phase = dict(current['status'])['phase'];
    const runs = spec['nodeName'] !== undefined && phase !== 'Succeeded' && phase !== 'Failed';
    if (!runs) return 0;
    const grace = asked ?? Number(spec['terminationGracePeriodSeconds'] ?? 30);
    return Math.max(0, Math.min(grace, 86_400));
  }

  #isFinished(object: KubeObject): boolean {
    const { metadata } = object;
    if (metadata.deletionTimestamp === undefined || (metadata.finalizers ?? []).length > 0) {
      return false;
    }
    const finalizers = dict(object['spec'])['finalizers'];
    if (object.kind === 'Namespace' && Array.isArray(finalizers) && finalizers.length > 0) {
      return false;
    }
    return (metadata.deletionGracePeriodSeconds ?? 0) === 0;
  }

  #manager(
    resource: Resource,
    name: string,
    subresource: Subresource,
  ): { name: string; apiVersion: string; subresource: string | undefined; time: string } {
    return { name, apiVersion: apiVersionOf(resource), subresource, time: this.now() };
  }

  #newObject(resource: Resource, namespace: string | undefined, body: Dict): KubeObject {
    checkType(resource, body);
    const given = checkMetadata(resource, namespace, dict(body['metadata']));
    const name = given.name === '' ? `${given.generateName ?? ''}${randomSuffix()}` : given.name;
    if (given.name === '' && given.generateName === undefined) {
      throw invalid(resource, '', [
        {
          reason: 'FieldValueRequired',
          field: 'metadata.name',
          message: 'Required value: name or generateName is required',
        },
      ]);
    }
    checkName(resource, name);
    const metadata: ObjectMeta = {
      ...given,
      name,
      uid: randomUUID(),
      resourceVersion: '0',
      creationTimestamp: this.now(),
    };
    for (const owned of ['deletionTimestamp', 'deletionGracePeriodSeconds', 'selfLink']) {
      Reflect.deleteProperty(metadata, owned);
    }
    if (namespace !== undefined) metadata.namespace = namespace;
    const type = { apiVersion: apiVersionOf(resource), kind: resource.kind };
    const object: KubeObject = { ...type, ...clone(body), ...type, metadata: clone(metadata) };
    if (resource.subresources.includes('status')) Reflect.deleteProperty(object, 'status');
    if (object['spec'] !== undefined || resource.isCustom) object.metadata.generation = 1;
    else Reflect.deleteProperty(object.metadata, 'generation');
    return object;
  }

  #nextObject(
    resource: Resource,
    current: KubeObject,
    body: Dict,
    subresource: Subresource,
  ): KubeObject {
    checkType(resource, body);
    const given = checkMetadata(resource, current.metadata.namespace, dict(body['metadata']));
    const { metadata: stored } = current;
    if (given.name !== '' && given.name !== stored.name) {
      throw badRequest(
        `the name of the object (${given.name}) does not match the name on the URL (${stored.name})`,
      );
    }
    const metadata: ObjectMeta = {
      ...given,
      name: stored.name,
      uid: stored.uid,
      resourceVersion: stored.resourceVersion,
      creationTimestamp: stored.creationTimestamp,
    };
    for (const member of [
      'namespace',
      'generation',
      'generateName',
      'deletionTimestamp',
      'deletionGracePeriodSeconds',
    ] as const) {
      Reflect.deleteProperty(metadata, member);
      Object.assign(metadata, stored[member] === undefined ? {} : { [member]: stored[member] });
    }
    const base = { apiVersion: apiVersionOf(resource), kind: resource.kind };
    if (subresource === 'status') {
      const keepsLabels = ['Pod', 'Node'].includes(resource.kind);
      const { labels, annotations } = keepsLabels ? metadata : stored;
      const kept = clone(stored);
      // An update that empties them leaves them out.
      for (const member of ['labels', 'annotations']) Reflect.deleteProperty(kept, member);
      return {
        ...clone(current),
        ...base,
        metadata: {
          ...kept,
          ...(labels === undefined ? {} : { labels }),
          ...(annotations === undefined ? {} : { annotations }),
        },
        status: clone(body['status']),
      };
    }
    const object: KubeObject = { ...clone(body), ...base, metadata: clone(metadata) };
    if (resource.subresources.includes('status')) {
      Reflect.deleteProperty(object, 'status');
      if (current['status'] !== undefined) object['status'] = current['status'];
    }
    return object;
  }

  #check(
    resource: Resource,
    object: KubeObject,
    before: KubeObject | undefined,
    options: WriteOptions,
    subresource?: Subresource,
  ): void {
    const problems: FieldProblem[] = [];
    checkSchema(resource, object, before, options, problems);
    const strategy = this.#strategies.get(resource.bucket);
    if (subresource === undefined) strategy?.prepare?.(object, before);
    if (subresource === undefined && problems.length === 0) {
      problems.push(...(strategy?.validate?.(object, before) ?? []));
    }
    if (problems.length > 0) throw invalid(resource, object.metadata.name, problems);
  }

  #requireNamespace(resource: Resource, namespace: string | undefined, name: string): void {
    if (!resource.namespaced || namespace === undefined) return;
    const found = this.store.get(BUCKETS.namespaces, undefined, namespace);
    if (found === undefined) throw notFound({ group: '', resource: 'namespaces' }, namespace);
    if (found.metadata.deletionTimestamp === undefined) return;
    throw forbidden(
      resource,
      name,
      `unable to create new content in namespace ${namespace} because it is being terminated`,
    );
  }

  #checkPreconditions(resource: Resource, current: KubeObject, given: Dict): void {
    const { name, uid, resourceVersion } = current.metadata;
    const version = given['resourceVersion'];
    if (version !== undefined && version !== '' && version !== resourceVersion) {
      throw conflict(resource, name);
    }
    const wanted = given['uid'];
    if (typeof wanted === 'string' && wanted !== '' && wanted !== uid) {
      throw conflict(
        resource,
        name,
        `Precondition failed: UID in precondition: ${wanted}, UID in object meta: ${uid}`,
      );
    }
  }
}

function checkType(resource: Resource, body: Dict): void {
  const apiVersion = body['apiVersion'] ?? apiVersionOf(resource);
  const kind = body['kind'] ?? resource.kind;
  if (apiVersion === apiVersionOf(resource) && kind === resource.kind) return;
  throw new StatusError(
    400,
    'BadRequest',
    `${JSON.stringify(kind)} in version ${JSON.stringify(apiVersion)} cannot be handled as a ${resource.kind}: the request is for ${apiVersionOf(resource)}`,
  );
}

function withoutStatus(object: KubeObject, resource: Resource): Dict {
  return resource.subresources.includes('status') ? { ...object, status: undefined } : object;
}

/** Everything but what the server itself writes on each change. */
function isUnchanged(object: KubeObject, current: KubeObject): boolean {
  const plain = (of: KubeObject): Dict => ({
    ...of,
    metadata: { ...of.metadata, managedFields: undefined, resourceVersion: undefined },
  });
  const owners = (of: KubeObject): unknown =>
    of.metadata.managedFields?.map((entry) => ({ ...entry, time: undefined })) ?? [];
  return sameJson(plain(object), plain(current)) && sameJson(owners(object), owners(current));
}

/** The generation counts changes of what is desired: everything but metadata and status. */
function hasNewGeneration(resource: Resource, object: KubeObject, current: KubeObject): boolean {
  if (current.metadata.generation === undefined) return false;
  const hasStatus = resource.subresources.includes('status') || !resource.isCustom;
  const desired = (of: KubeObject): Dict => ({
    ...of,
    metadata: undefined,
    ...(hasStatus ? { status: undefined } : {}),
  });
  return !sameJson(desired(object), desired(current));
}
