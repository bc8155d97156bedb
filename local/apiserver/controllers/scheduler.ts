// The scheduler: gives each pod without a node the ready node that has the fewest pods of its owner, then the fewest.
import { controllerOf, dict, field, list, text } from '../objects.ts';
import type { KubeObject } from '../objects.ts';
import { BUCKETS } from '../registry/builtin.ts';
import { keyOf } from '../storage/store.ts';
import type { StoreEvent } from '../storage/store.ts';
import { WorkQueue, builtin, splitKey } from './controller.ts';
import type { Controller, ControllerContext } from './controller.ts';
import { recordEvent } from './events.ts';
import { isNodeReady, nodeObstacle } from './nodes.ts';
import { isActive, setCondition } from './pods.ts';

const COMPONENT = 'default-scheduler';

/** Assigns pods to nodes. */
export class Scheduler implements Controller {
  readonly #context: ControllerContext;
  readonly #queue: WorkQueue;

  constructor(context: ControllerContext) {
    this.#context = context;
    this.#queue = new WorkQueue(context, (key) => this.#sync(key));
  }

  onEvent({ bucket, object, type }: StoreEvent): void {
    if (bucket === BUCKETS.pods && type !== 'DELETED' && isWaiting(object)) {
      this.#queue.add(keyOf(object.metadata.namespace, object.metadata.name));
    }
    if (bucket === BUCKETS.nodes && type !== 'DELETED') {
      for (const pod of this.#context.lifecycle.store.values(BUCKETS.pods)) {
        if (isWaiting(pod)) this.#queue.add(keyOf(pod.metadata.namespace, pod.metadata.name));
      }
    }
  }

  close(): void {
    this.#queue.close();
  }

  #sync(key: string): void {
    const { namespace, name } = splitKey(key);
    const { store } = this.#context.lifecycle;
    const pod = store.get(BUCKETS.pods, namespace, name);
    if (pod === undefined || !isWaiting(pod)) return;
    const nodes = store.list(BUCKETS.nodes);
    const reasons = new Map<string, number>();
    const fitting = nodes.filter((node) => {
      const reason = this.#obstacle(pod, node);
      if (reason !== undefined) reasons.set(reason, (reasons.get(reason) ?? 0) + 1);
      return reason === undefined;
    });
    const node = this.#emptiest(pod, fitting);
    if (node === undefined) this.#reject(pod, nodes.length, reasons);
    else this.#bind(pod, node);
  }

  #obstacle(pod: KubeObject, node: KubeObject): string | undefined {
    if (field(node, 'spec', 'unschedulable') === true) return 'were unschedulable';
    if (!isNodeReady(node)) return 'were not ready';
    return nodeObstacle(dict(pod['spec']), node);
  }

  #emptiest(pod: KubeObject, nodes: readonly KubeObject[]): KubeObject | undefined {
    const owner = controllerOf(pod)?.uid;
    const load = new Map(nodes.map((node) => [node.metadata.name, { siblings: 0, all: 0 }]));
    for (const other of this.#context.lifecycle.store.values(BUCKETS.pods)) {
      const of = load.get(text(field(other, 'spec', 'nodeName')));
      if (of === undefined || !isActive(other)) continue;
      of.all += 1;
      if (owner !== undefined && controllerOf(other)?.uid === owner) of.siblings += 1;
    }
    const rank = (node: KubeObject): { siblings: number; all: number } =>
      load.get(node.metadata.name) ?? { siblings: 0, all: 0 };
    return [...nodes].sort(
      (a, b) => rank(a).siblings - rank(b).siblings || rank(a).all - rank(b).all,
    )[0];
  }

  #bind(pod: KubeObject, node: KubeObject): void {
    const { lifecycle } = this.#context;
    const resource = builtin(this.#context, BUCKETS.pods);
    const nodeName = node.metadata.name;
    const bound = lifecycle.modify(resource, pod, (copy) => {
      dict(copy['spec'])['nodeName'] = nodeName;
    });
    if (bound === undefined) return;
    this.#setScheduled(bound, { status: 'True' });
    const { namespace = '', name } = pod.metadata;
    recordEvent(this.#context, pod, {
      reason: 'Scheduled',
      message: `Successfully assigned ${namespace}/${name} to ${nodeName}`,
      component: COMPONENT,
    });
  }

  #reject(pod: KubeObject, total: number, reasons: ReadonlyMap<string, number>): void {
    const why = [...reasons].map(([reason, count]) => `${count} node(s) ${reason}`).join(', ');
    const message =
      total === 0
        ? 'no nodes available to schedule pods'
        : `0/${total} nodes are available: ${why}.`;
    if (text(dict(scheduledCondition(pod))['message']) === message) return;
    this.#setScheduled(pod, { status: 'False', reason: 'Unschedulable', message });
    recordEvent(this.#context, pod, {
      type: 'Warning',
      reason: 'FailedScheduling',
      message,
      component: COMPONENT,
    });
  }

  #setScheduled(pod: KubeObject, state: Record<string, string>): void {
    const { lifecycle } = this.#context;
    const resource = builtin(this.#context, BUCKETS.pods);
    lifecycle.modify(
      resource,
      pod,
      (copy) => {
        const status = dict(copy['status']);
        const next = { type: 'PodScheduled', ...state };
        const conditions = setCondition(status['conditions'], next, lifecycle.now());
        copy['status'] = { ...status, conditions };
      },
      'status',
    );
  }
}

function scheduledCondition(pod: KubeObject): unknown {
  return list(field(pod, 'status', 'conditions')).find(
    (item) => dict(item)['type'] === 'PodScheduled',
  );
}

function isWaiting(pod: KubeObject): boolean {
  const spec = dict(pod['spec']);
  return (
    text(spec['nodeName']) === '' &&
    isActive(pod) &&
    spec['schedulerName'] === COMPONENT &&
    list(spec['schedulingGates']).length === 0
  );
}
