// All controllers of the cluster, in this process: started with what is stored, then told of every change.
import type { Controller, ControllerContext } from './controller.ts';
import { Bootstrap } from './bootstrap.ts';
import type { ClusterFacts } from './bootstrap.ts';
import { DaemonSetController } from './daemon-set.ts';
import { DeploymentController } from './deployment.ts';
import { EndpointSliceController } from './endpoint-slice.ts';
import { EndpointsController } from './endpoints.ts';
import { EventExpiry } from './events.ts';
import { GarbageCollector } from './garbage-collector.ts';
import { NamespaceController } from './namespace.ts';
import { NodeLifecycle } from './node-lifecycle.ts';
import { ReplicaSetController } from './replica-set.ts';
import { Scheduler } from './scheduler.ts';
import { StatefulSetController } from './stateful-set.ts';

/** Runs the controllers. */
export class Controllers {
  readonly #context: ControllerContext;
  readonly #bootstrap: Bootstrap;
  readonly #controllers: readonly Controller[];
  #stop: (() => void) | undefined;

  constructor(context: ControllerContext, facts: ClusterFacts) {
    this.#context = context;
    this.#bootstrap = new Bootstrap(context, facts);
    this.#controllers = [
      new GarbageCollector(context),
      new NamespaceController(context, facts),
      new DeploymentController(context),
      new ReplicaSetController(context),
      new DaemonSetController(context),
      new StatefulSetController(context),
      new Scheduler(context),
      new EndpointSliceController(context),
      new EndpointsController(context),
      new NodeLifecycle(context),
      new EventExpiry(context),
    ];
  }

  /** Creates what every cluster has and starts to follow changes. */
  start(): void {
    const { store } = this.#context.lifecycle;
    this.#stop = store.subscribe((event) => {
      for (const controller of this.#controllers) controller.onEvent(event);
    });
    for (const bucket of store.buckets()) {
      for (const object of store.values(bucket)) {
        const revision = Number(object.metadata.resourceVersion);
        const event = { type: 'ADDED', bucket, revision, object, previous: undefined } as const;
        for (const controller of this.#controllers) controller.onEvent(event);
      }
    }
    this.#bootstrap.run();
  }

  close(): void {
    this.#stop?.();
    for (const controller of this.#controllers) controller.close();
  }
}
