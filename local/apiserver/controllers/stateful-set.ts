// StatefulSets: pods with a number and a fixed name, made and replaced one after the other (OrderedReady) or all at once
// (Parallel). Volume claims are not made: there are no volumes to claim here.
import { dict, field, number } from '../objects.ts';
import type { KubeObject } from '../objects.ts';
import { BUCKETS } from '../registry/builtin.ts';
import type { StoreEvent } from '../storage/store.ts';
import { WorkQueue, builtin, concernedKey, splitKey } from './controller.ts';
import type { Controller, ControllerContext } from './controller.ts';
import { createPod, deletePod, isDeleting, isReady, podsOf, templateHash } from './pods.ts';

const REVISION_LABEL = 'controller-revision-hash';
const INDEX_LABEL = 'apps.kubernetes.io/pod-index';
const NAME_LABEL = 'statefulset.kubernetes.io/pod-name';

/** The number at the end of a pod's name. */
const ordinal = (pod: KubeObject): number => Number(/\d+$/.exec(pod.metadata.name)?.[0] ?? NaN);

const CONCERNED = { own: BUCKETS.statefulSets, children: BUCKETS.pods, kind: 'StatefulSet' };

/** Keeps StatefulSets at their size and template. */
export class StatefulSetController implements Controller {
  readonly #context: ControllerContext;
  readonly #queue: WorkQueue;

  constructor(context: ControllerContext) {
    this.#context = context;
    this.#queue = new WorkQueue(context, (key) => this.#sync(key));
  }

  onEvent(event: StoreEvent): void {
    const key = concernedKey(event, CONCERNED);
    if (key !== undefined) this.#queue.add(key);
  }

  close(): void {
    this.#queue.close();
  }

  #sync(key: string): void {
    const { namespace, name } = splitKey(key);
    const set = this.#context.lifecycle.store.get(BUCKETS.statefulSets, namespace, name);
    if (set === undefined || isDeleting(set)) return;
    const revision = templateHash(field(set, 'spec', 'template'));
    const pods = new Map(podsOf(this.#context, set).map((pod) => [ordinal(pod), pod]));
    this.#updateStatus(set, [...pods.values()], revision);
    const size = number(field(set, 'spec', 'replicas'), 1);
    const isOrdered = field(set, 'spec', 'podManagementPolicy') !== 'Parallel';
    for (let index = 0; index < size; index += 1) {
      const pod = pods.get(index);
      if (pod === undefined) this.#create(set, index, revision);
      // The next one waits until this one is ready.
      if (isOrdered && (pod === undefined || !isReady(pod) || isDeleting(pod))) return;
    }
    const surplus = [...pods.values()].filter((pod) => ordinal(pod) >= size);
    surplus.sort((a, b) => ordinal(b) - ordinal(a));
    for (const pod of isOrdered ? surplus.slice(0, 1) : surplus) {
      deletePod(this.#context, set, pod);
    }
    if (surplus.length === 0) this.#roll(set, pods, revision);
  }

  /** Replaces one pod of an old template at a time, the last first, down to the partition. */
  #roll(set: KubeObject, pods: ReadonlyMap<number, KubeObject>, revision: string): void {
    const update = dict(field(set, 'spec', 'updateStrategy'));
    if (update['type'] === 'OnDelete') return;
    if ([...pods.values()].some((pod) => !isReady(pod) || isDeleting(pod))) return;
    const partition = number(field(update, 'rollingUpdate', 'partition'), 0);
    const stale = [...pods.values()].filter(
      (pod) => pod.metadata.labels?.[REVISION_LABEL] !== revision && ordinal(pod) >= partition,
    );
    const last = stale.sort((a, b) => ordinal(b) - ordinal(a))[0];
    if (last !== undefined) deletePod(this.#context, set, last);
  }

  #create(set: KubeObject, index: number, revision: string): void {
    const name = `${set.metadata.name}-${index}`;
    createPod(this.#context, set, {
      name,
      labels: { [REVISION_LABEL]: revision, [NAME_LABEL]: name, [INDEX_LABEL]: String(index) },
      spec: { hostname: name, subdomain: field(set, 'spec', 'serviceName') },
    });
  }

  #updateStatus(set: KubeObject, pods: readonly KubeObject[], revision: string): void {
    const live = pods.filter((pod) => !isDeleting(pod));
    const ready = live.filter(isReady).length;
    const updated = live.filter((pod) => pod.metadata.labels?.[REVISION_LABEL] === revision).length;
    const isDone = updated === live.length && ready === live.length;
    const before = dict(set['status']);
    const status = {
      replicas: live.length,
      readyReplicas: ready,
      availableReplicas: ready,
      updatedReplicas: updated,
      currentReplicas: isDone ? updated : live.length - updated,
      currentRevision: isDone ? revision : (before['currentRevision'] ?? revision),
      updateRevision: revision,
      observedGeneration: set.metadata.generation,
    };
    const resource = builtin(this.#context, BUCKETS.statefulSets);
    const change = (copy: KubeObject): void => void Object.assign(copy, { status });
    this.#context.lifecycle.modify(resource, set, change, 'status');
  }
}
