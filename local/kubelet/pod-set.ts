// The pods of a node: one worker for each, by uid, driven by a watch.
import { KINDS } from '../../common/kube/resource.ts';
import type { ContainerRunner } from './container.ts';
import type { NodeContext } from './node-context.ts';
import type { Pod } from './objects.ts';
import { PodWorker } from './pod-worker.ts';

/** Containers get this long to end when the whole node stops. */
const NODE_STOP_GRACE_MS = 5000;

export class PodSet {
  readonly #context: NodeContext;
  readonly #workers = new Map<string, PodWorker>();
  #isStopping = false;

  constructor(context: NodeContext) {
    this.#context = context;
  }

  /** The worker of a pod by namespace and name. */
  find(namespace: string, name: string): PodWorker | undefined {
    for (const worker of this.#workers.values()) {
      const { metadata } = worker.pod;
      if (metadata.namespace === namespace && metadata.name === name) return worker;
    }
    return undefined;
  }

  /** A running or past container of a pod. */
  findContainer(namespace: string, name: string, container?: string): ContainerRunner | undefined {
    return this.find(namespace, name)?.container(container);
  }

  /** Watches until the signal aborts. */
  run(signal: AbortSignal): Promise<void> {
    return this.#context.api.watch<Pod>(
      {
        kind: KINDS.pods,
        fieldSelector: `spec.nodeName=${this.#context.config.name}`,
        onChange: ({ current, previous }) => {
          const uid = previous?.metadata.uid;
          if (uid !== undefined && uid !== current?.metadata.uid) this.#remove(uid);
          if (current !== undefined) this.#apply(current);
        },
      },
      signal,
    );
  }

  /** Ends all pods without deleting their objects. */
  async stop(): Promise<void> {
    this.#isStopping = true;
    const workers = [...this.#workers.values()];
    await Promise.all(workers.map((worker) => worker.terminate(NODE_STOP_GRACE_MS, false)));
  }

  #apply(pod: Pod): void {
    if (this.#isStopping) return;
    const uid = pod.metadata.uid ?? '';
    let worker = this.#workers.get(uid);
    if (worker === undefined) {
      const same = this.find(pod.metadata.namespace ?? '', pod.metadata.name);
      worker = new PodWorker(this.#context, pod, same?.terminate(0, false));
      this.#workers.set(uid, worker);
    }
    worker.update(pod);
  }

  /** The object is gone, by force or after our confirmation. */
  #remove(uid: string): void {
    const worker = this.#workers.get(uid);
    if (worker === undefined) return;
    void worker.terminate(0, false).finally(() => this.#workers.delete(uid));
  }
}
