// Namespaces: a new one gets its default service account and the cluster's CA; a deleted one is emptied, then removed.
import { dict } from '../objects.ts';
import type { KubeObject } from '../objects.ts';
import { BUCKETS } from '../registry/builtin.ts';
import { deleteObject } from '../api/delete.ts';
import type { StoreEvent } from '../storage/store.ts';
import type { ClusterFacts } from './bootstrap.ts';
import { WorkQueue, builtin } from './controller.ts';
import type { Controller, ControllerContext } from './controller.ts';

const ROOT_CA = 'kube-root-ca.crt';
const EMPTY_CHECK_MS = 500;

/** Keeps namespaces furnished and finishes their deletion. */
export class NamespaceController implements Controller {
  readonly #context: ControllerContext;
  readonly #facts: ClusterFacts;
  readonly #queue: WorkQueue;

  constructor(context: ControllerContext, facts: ClusterFacts) {
    this.#context = context;
    this.#facts = facts;
    this.#queue = new WorkQueue(context, (name) => this.#sync(name));
  }

  onEvent(event: StoreEvent): void {
    if (event.bucket === BUCKETS.namespaces) this.#queue.add(event.object.metadata.name);
    else if (event.type === 'DELETED' && event.object.metadata.namespace !== undefined) {
      this.#queue.add(event.object.metadata.namespace);
    }
  }

  close(): void {
    this.#queue.close();
  }

  #sync(name: string): void {
    const { store } = this.#context.lifecycle;
    const namespace = store.get(BUCKETS.namespaces, undefined, name);
    if (namespace === undefined) return;
    if (namespace.metadata.deletionTimestamp !== undefined) this.#empty(namespace);
    else this.#furnish(name);
  }

  #furnish(name: string): void {
    const { lifecycle } = this.#context;
    const { store } = lifecycle;
    const options = { manager: 'controllers' };
    if (store.get(BUCKETS.serviceAccounts, name, 'default') === undefined) {
      const accounts = builtin(this.#context, BUCKETS.serviceAccounts);
      lifecycle.create(accounts, name, { metadata: { name: 'default' } }, options);
    }
    const data = { 'ca.crt': this.#facts.caPem };
    const configMaps = builtin(this.#context, BUCKETS.configMaps);
    const current = store.get(BUCKETS.configMaps, name, ROOT_CA);
    if (current === undefined) {
      lifecycle.create(configMaps, name, { metadata: { name: ROOT_CA }, data }, options);
    } else if (dict(current['data'])['ca.crt'] !== this.#facts.caPem) {
      lifecycle.modify(configMaps, current, (copy) => Object.assign(copy, { data }));
    }
  }

  /** Deletes everything inside; what waits for finalizers or kubelets is looked at again. */
  #empty(namespace: KubeObject): void {
    const { lifecycle, registry } = this.#context;
    const { store } = lifecycle;
    const { name } = namespace.metadata;
    let left = 0;
    for (const bucket of store.buckets()) {
      const resource = registry.findBucket(bucket);
      if (resource?.namespaced !== true) continue;
      for (const object of store.list(bucket, name)) {
        left += 1;
        if (object.metadata.deletionTimestamp === undefined) {
          deleteObject(this.#context, resource, object, { policy: 'Background' });
        }
      }
    }
    if (left > 0) {
      this.#queue.addLater(name, EMPTY_CHECK_MS);
      return;
    }
    const resource = builtin(this.#context, BUCKETS.namespaces);
    lifecycle.modify(resource, namespace, (copy) => {
      dict(copy['spec'])['finalizers'] = [];
    });
  }
}
