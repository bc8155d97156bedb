// ReplicaSets: as many active pods as wanted, and their counts in status.
import { dict, field, number, text } from '../objects.ts';
import type { KubeObject } from '../objects.ts';
import { BUCKETS } from '../registry/builtin.ts';
import type { StoreEvent } from '../storage/store.ts';
import { WorkQueue, builtin, concernedKey, splitKey } from './controller.ts';
import type { Controller, ControllerContext } from './controller.ts';
import {
  availableInMs,
  createPod,
  deletePod,
  isActive,
  isDeleting,
  isReady,
  podsOf,
} from './pods.ts';

const BURST = 50;

const CONCERNED = { own: BUCKETS.replicaSets, children: BUCKETS.pods, kind: 'ReplicaSet' };

/** Keeps ReplicaSets at their size. */
export class ReplicaSetController implements Controller {
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
    const set = this.#context.lifecycle.store.get(BUCKETS.replicaSets, namespace, name);
    if (set === undefined) return;
    const pods = podsOf(this.#context, set).filter(isActive);
    const wanted = number(field(set, 'spec', 'replicas'), 1);
    // Status first: it describes what was found, and the changes below lead here again.
    this.#updateStatus(key, set, pods);
    if (isDeleting(set)) return;
    const missing = wanted - pods.length;
    for (let index = 0; index < Math.min(missing, BURST); index += 1) {
      createPod(this.#context, set);
    }
    if (missing > BURST) this.#queue.add(key);
    if (missing < 0) {
      for (const pod of pods.sort(byWorth).slice(0, -missing)) deletePod(this.#context, set, pod);
    }
  }

  #updateStatus(key: string, set: KubeObject, pods: readonly KubeObject[]): void {
    const { lifecycle, clock } = this.#context;
    const minReadySec = number(field(set, 'spec', 'minReadySeconds'), 0);
    const waits = pods.map((pod) => availableInMs(pod, minReadySec, clock.now()));
    const soonest = Math.min(...waits.map((wait) => (wait === 0 ? Infinity : (wait ?? Infinity))));
    if (soonest < Infinity) this.#queue.addLater(key, soonest);
    const resource = builtin(this.#context, BUCKETS.replicaSets);
    lifecycle.modify(
      resource,
      set,
      (copy) => {
        const before = dict(copy['status']);
        copy['status'] = {
          ...before,
          replicas: pods.length,
          fullyLabeledReplicas: pods.length,
          readyReplicas: pods.filter(isReady).length,
          availableReplicas: waits.filter((wait) => wait === 0).length,
          observedGeneration: set.metadata.generation,
        };
      },
      'status',
    );
  }
}

/** Pods that are missed least come first: unassigned, not ready, young. */
export function byWorth(a: KubeObject, b: KubeObject): number {
  const rank = (pod: KubeObject): number =>
    text(field(pod, 'spec', 'nodeName')) === '' ? 0 : isReady(pod) ? 2 : 1;
  const difference = rank(a) - rank(b);
  if (difference !== 0) return difference;
  return a.metadata.creationTimestamp > b.metadata.creationTimestamp ? -1 : 1;
}
