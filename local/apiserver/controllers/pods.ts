// What controllers ask about pods, and how they make them from a template.
import { createHash } from 'node:crypto';
import { clone, controllerOf, dict, dicts, field, number, text } from '../objects.ts';
import type { Dict, KubeObject } from '../objects.ts';
import { BUCKETS } from '../registry/builtin.ts';
import { deleteObject } from '../api/delete.ts';
import { builtin, ownedBy } from './controller.ts';
import type { ControllerContext } from './controller.ts';
import { recordEvent } from './events.ts';

const HASH_ALPHABET = 'bcdfghjklmnpqrstvwxz2456789';
const HASH_LENGTH = 10;

/** A status condition of an object by its type. */
export function condition(object: KubeObject, type: string): Dict | undefined {
  return dicts(field(object, 'status', 'conditions')).find((item) => item['type'] === type);
}

export function isReady(pod: KubeObject): boolean {
  return condition(pod, 'Ready')?.['status'] === 'True';
}

export function isDeleting(object: KubeObject): boolean {
  return object.metadata.deletionTimestamp !== undefined;
}

export function phaseOf(pod: KubeObject): string {
  return text(field(pod, 'status', 'phase'));
}

/** Whether the pod counts as a replica: it is neither finished nor going. */
export function isActive(pod: KubeObject): boolean {
  return !isDeleting(pod) && phaseOf(pod) !== 'Succeeded' && phaseOf(pod) !== 'Failed';
}

/** Milliseconds until a ready pod counts as available; 0 when it does, undefined when it is not ready. */
export function availableInMs(
  pod: KubeObject,
  minReadySec: number,
  nowMs: number,
): number | undefined {
  if (!isReady(pod)) return undefined;
  const since = Date.parse(text(condition(pod, 'Ready')?.['lastTransitionTime']));
  if (minReadySec === 0 || Number.isNaN(since)) return 0;
  return Math.max(0, since + minReadySec * 1000 - nowMs);
}

/** The pods a controller owns. */
export function podsOf(context: ControllerContext, owner: KubeObject): KubeObject[] {
  const { store } = context.lifecycle;
  const found: KubeObject[] = [];
  for (const pod of store.values(BUCKETS.pods)) {
    if (pod.metadata.namespace !== owner.metadata.namespace) continue;
    if (controllerOf(pod)?.uid === owner.metadata.uid) found.push(pod);
  }
  return found.sort((a, b) => (a.metadata.name < b.metadata.name ? -1 : 1));
}

/** A short hash of a template, which names revisions. */
export function templateHash(template: unknown): string {
  const digest = createHash('sha256').update(canonical(template)).digest();
  let hash = '';
  for (const byte of digest.subarray(0, HASH_LENGTH)) {
    hash += HASH_ALPHABET.charAt(byte % HASH_ALPHABET.length);
  }
  return hash;
}

/** JSON with sorted members, so that equal templates have one spelling. */
function canonical(value: unknown): string {
  return JSON.stringify(value, (_key, member: unknown) => {
    if (typeof member !== 'object' || member === null || Array.isArray(member)) return member;
    return Object.fromEntries(
      Object.entries(member).sort(([a], [b]) => (a < b ? -1 : 1)),
    ) as unknown;
  });
}

interface PodWish {
  /** Exact name, instead of a generated one. */
  readonly name?: string;
  readonly labels?: Readonly<Record<string, string>>;
  readonly spec?: Dict;
}

/** Creates a pod from the owner's template. */
export function createPod(
  context: ControllerContext,
  owner: KubeObject,
  wish: PodWish = {},
): KubeObject {
  const template = clone(dict(field(owner, 'spec', 'template')));
  const given = dict(template['metadata']);
  const { name, namespace } = owner.metadata;
  const body: Dict = {
    metadata: {
      ...(wish.name === undefined ? { generateName: `${name}-` } : { name: wish.name }),
      labels: { ...dict(given['labels']), ...wish.labels },
      annotations: dict(given['annotations']),
      ownerReferences: [ownedBy(owner)],
    },
    spec: { ...dict(template['spec']), ...wish.spec },
  };
  const { lifecycle } = context;
  const pods = builtin(context, BUCKETS.pods);
  const pod = lifecycle.create(pods, namespace, body, { manager: 'controllers' });
  recordEvent(context, owner, {
    reason: 'SuccessfulCreate',
    message: `Created pod: ${pod.metadata.name}`,
    component: `${owner.kind.toLowerCase()}-controller`,
  });
  return pod;
}

/** Starts the deletion of a pod its owner no longer wants. */
export function deletePod(context: ControllerContext, owner: KubeObject, pod: KubeObject): void {
  const pods = builtin(context, BUCKETS.pods);
  const { namespace, name } = pod.metadata;
  const current = context.lifecycle.store.get(BUCKETS.pods, namespace, name);
  if (current === undefined || isDeleting(current)) return;
  deleteObject(context, pods, current, { policy: 'Background' });
  recordEvent(context, owner, {
    reason: 'SuccessfulDelete',
    message: `Deleted pod: ${name}`,
    component: `${owner.kind.toLowerCase()}-controller`,
  });
}

/** A number, or a percentage of `total`, rounded up or down. */
export function resolveShare(value: unknown, total: number, roundUp: boolean): number {
  if (typeof value === 'number') return value;
  const percent = /^(\d+)%$/.exec(text(value))?.[1];
  if (percent === undefined) return number(value, 0);
  const share = (Number(percent) * total) / 100;
  return roundUp ? Math.ceil(share) : Math.floor(share);
}

/** The conditions with one set; its transition time changes only with its status. */
export function setCondition(conditions: unknown, next: Dict, now: string): Dict[] {
  const all = dicts(conditions);
  const before = all.find((item) => item['type'] === next['type']);
  const isSame = ['status', 'reason', 'message'].every((name) => before?.[name] === next[name]);
  if (before !== undefined && isSame) return all;
  const isSteady = before !== undefined && before['status'] === next['status'];
  const moved = isSteady ? before['lastTransitionTime'] : now;
  const entry = { ...next, lastUpdateTime: now, lastTransitionTime: moved ?? now };
  return before === undefined
    ? [...all, entry]
    : all.map((item) => (item === before ? entry : item));
}
