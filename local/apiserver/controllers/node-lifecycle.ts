// Nodes whose lease is stale become NotReady, and so do their pods; the kubelet makes them ready again itself.
import { dict, field, number, text } from '../objects.ts';
import type { Dict, KubeObject } from '../objects.ts';
import { BUCKETS } from '../registry/builtin.ts';
import type { StoreEvent } from '../storage/store.ts';
import type { Timer } from '../../../common/clock.ts';
import { errorMessage } from '../../../common/errors.ts';
import { builtin } from './controller.ts';
import type { Controller, ControllerContext } from './controller.ts';
import { condition, setCondition } from './pods.ts';

const CHECK_MS = 5000;
const GRACE_MS = 40_000;
const LEASE_NAMESPACE = 'kube-node-lease';

/** Watches over leases. */
export class NodeLifecycle implements Controller {
  readonly #context: ControllerContext;
  readonly #startedMs: number;
  #timer: Timer;

  constructor(context: ControllerContext) {
    this.#context = context;
    this.#startedMs = context.clock.now();
    this.#timer = context.clock.after(CHECK_MS, () => this.#check());
  }

  onEvent(_event: StoreEvent): void {
    // Staleness comes by time alone.
  }

  close(): void {
    this.#timer.cancel();
  }

  #check(): void {
    const { lifecycle, clock, log } = this.#context;
    const { store } = lifecycle;
    for (const node of store.list(BUCKETS.nodes)) {
      const lease = store.get(BUCKETS.leases, LEASE_NAMESPACE, node.metadata.name);
      if (lease === undefined) continue;
      const renewed = Date.parse(text(field(lease, 'spec', 'renewTime')));
      const graceMs = Math.max(
        GRACE_MS,
        number(field(lease, 'spec', 'leaseDurationSeconds'), 40) * 1000,
      );
      // While this server was down nobody could renew: count from its start.
      if (clock.now() - Math.max(renewed, this.#startedMs) <= graceMs) continue;
      if (condition(node, 'Ready')?.['status'] === 'Unknown') continue;
      try {
        this.#markUnknown(node);
      } catch (err) {
        log.warn({ node: node.metadata.name, error: errorMessage(err) }, 'node not updated');
      }
    }
    this.#timer = clock.after(CHECK_MS, () => this.#check());
  }

  #markUnknown(node: KubeObject): void {
    this.#setReady(BUCKETS.nodes, node, {
      status: 'Unknown',
      reason: 'NodeStatusUnknown',
      message: 'Kubelet stopped posting node status.',
    });
    for (const pod of this.#context.lifecycle.store.list(BUCKETS.pods)) {
      if (field(pod, 'spec', 'nodeName') !== node.metadata.name) continue;
      if (condition(pod, 'Ready')?.['status'] !== 'True') continue;
      this.#setReady(BUCKETS.pods, pod, { status: 'False', reason: 'NodeNotReady', message: '' });
    }
  }

  #setReady(bucket: string, object: KubeObject, state: Dict): void {
    const { lifecycle } = this.#context;
    lifecycle.modify(
      builtin(this.#context, bucket),
      object,
      (copy) => {
        const status = dict(copy['status']);
        const next = { type: 'Ready', ...state };
        const conditions = setCondition(status['conditions'], next, lifecycle.now());
        copy['status'] = { ...status, conditions };
      },
      'status',
    );
  }
}
