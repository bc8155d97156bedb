// PATCH in its four forms, on an object or one of its subresources.
import { dict, isDict } from '../objects.ts';
import type { Dict, KubeObject, ManagedFieldsEntry } from '../objects.ts';
import { serverSideApply } from '../patch/apply.ts';
import { applyJsonPatch } from '../patch/json-patch.ts';
import { applyMergePatch, applyStrategicPatch } from '../patch/merge-patch.ts';
import { apiVersionOf } from '../registry/resource.ts';
import type { Resource } from '../registry/resource.ts';
import { badRequest, notFound, unsupportedMediaType } from '../status-error.ts';
import { shapeOf } from './lifecycle.ts';
import type { Lifecycle, Subresource, WriteOptions } from './lifecycle.ts';
import { servedAs } from './served-as.ts';

const JSON_PATCH = 'application/json-patch+json';
const MERGE_PATCH = 'application/merge-patch+json';
const STRATEGIC_PATCH = 'application/strategic-merge-patch+json';
export const APPLY_PATCH = 'application/apply-patch+yaml';

export interface PatchRequest {
  readonly resource: Resource;
  readonly namespace: string | undefined;
  readonly name: string;
  readonly subresource: Subresource;
  readonly type: string;
  readonly document: unknown;
  readonly options: WriteOptions;
  /** Server-side apply takes over conflicting fields. */
  readonly force: boolean;
}

export interface PatchResult {
  readonly object: KubeObject;
  readonly created: boolean;
}

/** A patched copy of any JSON object, for the patch types that need no ownership. */
export function patchValue(
  target: unknown,
  type: string,
  document: unknown,
  resource: Resource,
): unknown {
  switch (type) {
    case JSON_PATCH:
      return applyJsonPatch(target, document);
    case MERGE_PATCH:
      return applyMergePatch(target, document);
    case STRATEGIC_PATCH:
      if (!resource.isCustom) return applyStrategicPatch(target, document, shapeOf(resource));
      throw unsupportedMediaType([JSON_PATCH, MERGE_PATCH, APPLY_PATCH]);
    default:
      throw unsupportedMediaType([JSON_PATCH, MERGE_PATCH, STRATEGIC_PATCH, APPLY_PATCH]);
  }
}

/** Applies a PATCH to a stored object. */
export function patchObject(lifecycle: Lifecycle, request: PatchRequest): PatchResult {
  const { resource, namespace, name } = request;
  const stored = lifecycle.store.get(resource.bucket, namespace, name);
  if (request.type === APPLY_PATCH || request.type.startsWith('application/apply-patch')) {
    return apply(lifecycle, request, stored);
  }
  if (stored === undefined) throw notFound(resource, name);
  const served = servedAs(resource, stored);
  const patched = patchValue(served, request.type, request.document, resource);
  if (!isDict(patched)) throw badRequest('the patched object is not an object');
  const { options, subresource } = request;
  return {
    object: lifecycle.update(resource, stored, patched, options, subresource),
    created: false,
  };
}

function apply(
  lifecycle: Lifecycle,
  request: PatchRequest,
  stored: KubeObject | undefined,
): PatchResult {
  const { resource, namespace, name, document, options } = request;
  if (!isDict(document)) throw badRequest('an apply patch must be an object');
  const { apiVersion, kind } = document;
  if (apiVersion !== apiVersionOf(resource) || kind !== resource.kind) {
    throw badRequest(
      `an apply patch must have apiVersion ${apiVersionOf(resource)} and kind ${resource.kind}`,
    );
  }
  const given = dict(document['metadata']);
  if (given['managedFields'] !== undefined && (given['managedFields'] as unknown[]).length > 0) {
    throw badRequest('metadata.managedFields must be nil');
  }
  const applied: Dict = { ...document, metadata: { ...given, name } };
  if (request.subresource !== 'status' && resource.subresources.includes('status')) {
    Reflect.deleteProperty(applied, 'status');
  }
  const { object, managers } = serverSideApply({
    live: stored === undefined ? undefined : servedAs(resource, stored),
    applied,
    managers: stored?.metadata.managedFields ?? [],
    manager: {
      name: options.manager,
      apiVersion: apiVersionOf(resource),
      subresource: request.subresource,
      time: lifecycle.now(),
    },
    force: request.force,
    shape: shapeOf(resource),
  });
  const write: WriteOptions = { ...options, managedFields: keepTimes(managers, stored) };
  if (stored === undefined) {
    if (request.subresource !== undefined) throw notFound(resource, name);
    return { object: lifecycle.create(resource, namespace, object, write), created: true };
  }
  const next = {
    ...object,
    metadata: { ...dict(object['metadata']), resourceVersion: given['resourceVersion'] },
  };
  return {
    object: lifecycle.update(resource, stored, next, write, request.subresource),
    created: false,
  };
}

/** An entry that says the same as before keeps its time, so that applying twice changes nothing. */
function keepTimes(
  managers: ManagedFieldsEntry[],
  stored: KubeObject | undefined,
): ManagedFieldsEntry[] {
  const plain = (entry: ManagedFieldsEntry): string =>
    JSON.stringify({ ...entry, time: undefined });
  const known = new Map(stored?.metadata.managedFields?.map((entry) => [plain(entry), entry]));
  return managers.map((entry) => known.get(plain(entry)) ?? entry);
}
