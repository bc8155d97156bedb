// The scale subresource (autoscaling/v1 Scale) of built-in and custom resources.
import { clone, dict, isDict, number, text } from '../objects.ts';
import type { Dict, KubeObject } from '../objects.ts';
import type { Resource } from '../registry/resource.ts';
import { badRequest, conflict } from '../status-error.ts';
import type { Lifecycle, WriteOptions } from './lifecycle.ts';
import { evaluatePath } from '../print/json-path.ts';
import { patchValue } from './patch.ts';

/** The Scale of an object. */
export function readScale(resource: Resource, object: KubeObject): Dict {
  const paths = resource.scale;
  const { name, namespace, uid, resourceVersion, creationTimestamp } = object.metadata;
  const replicas = evaluatePath(paths?.spec ?? '', object)[0];
  const current = evaluatePath(paths?.status ?? '', object)[0];
  const labels = dict(dict(dict(object['spec'])['selector'])['matchLabels']);
  const selector =
    paths?.selector === undefined
      ? Object.entries(labels)
          .map(([key, value]) => `${key}=${String(value)}`)
          .join(',')
      : text(evaluatePath(paths.selector, object)[0]);
  return {
    kind: 'Scale',
    apiVersion: 'autoscaling/v1',
    metadata: { name, namespace, uid, resourceVersion, creationTimestamp },
    spec: { replicas: number(replicas, 0) },
    status: { replicas: number(current, 0), selector },
  };
}

interface ScaleWrite {
  readonly resource: Resource;
  readonly current: KubeObject;
  /** The patch type; undefined for a whole Scale. */
  readonly type: string | undefined;
  readonly document: unknown;
  readonly options: WriteOptions;
}

/** Sets the replicas by a Scale or a patch of it. */
export function writeScale(lifecycle: Lifecycle, write: ScaleWrite): KubeObject {
  const { resource, current, type, document } = write;
  const scale = readScale(resource, current);
  const wanted = type === undefined ? document : patchValue(scale, type, document, resource);
  if (!isDict(wanted)) throw badRequest('a Scale must be an object');
  const version = dict(wanted['metadata'])['resourceVersion'];
  if (version !== undefined && version !== '' && version !== current.metadata.resourceVersion) {
    throw conflict(resource, current.metadata.name);
  }
  const replicas = dict(wanted['spec'])['replicas'] ?? 0;
  if (!Number.isInteger(replicas) || Number(replicas) < 0) {
    throw badRequest('spec.replicas must be a whole number that is not negative');
  }
  const next = clone(current);
  const steps = (resource.scale?.spec ?? '.spec.replicas').split('.').filter((step) => step !== '');
  let at: Dict = next;
  for (const step of steps.slice(0, -1)) at = dict((at[step] ??= {}));
  at[steps.at(-1) ?? 'replicas'] = replicas;
  return lifecycle.update(resource, current, next, write.options);
}
