// Endpoints, the older form of EndpointSlices, mirrored from them for those who still read it (`kubectl get endpoints`,
// Prometheus). Nothing here reads them.
import { dict, dicts, list, text } from '../objects.ts';
import type { Dict, KubeObject } from '../objects.ts';
import { BUCKETS } from '../registry/builtin.ts';
import { keyOf } from '../storage/store.ts';
import type { StoreEvent } from '../storage/store.ts';
import { WorkQueue, builtin, ownedBy, splitKey } from './controller.ts';
import type { Controller, ControllerContext } from './controller.ts';
import { isDeleting } from './pods.ts';

const SERVICE_LABEL = 'kubernetes.io/service-name';
const MANAGED = { 'endpoints.kubernetes.io/managed-by': 'endpoint-controller' };

/** Writes the Endpoints of every Service that has slices. */
export class EndpointsController implements Controller {
  readonly #context: ControllerContext;
  readonly #queue: WorkQueue;

  constructor(context: ControllerContext) {
    this.#context = context;
    this.#queue = new WorkQueue(context, (key) => this.#sync(key));
  }

  onEvent({ bucket, object }: StoreEvent): void {
    const service = object.metadata.labels?.[SERVICE_LABEL];
    if (bucket !== BUCKETS.endpointSlices || service === undefined) return;
    this.#queue.add(keyOf(object.metadata.namespace, service));
  }

  close(): void {
    this.#queue.close();
  }

  #sync(key: string): void {
    const { lifecycle } = this.#context;
    const { store } = lifecycle;
    const { namespace, name } = splitKey(key);
    const service = store.get(BUCKETS.services, namespace, name);
    if (service === undefined || isDeleting(service)) return;
    const subsets = store
      .list(BUCKETS.endpointSlices, namespace)
      .filter((slice) => slice.metadata.labels?.[SERVICE_LABEL] === name)
      .flatMap(subsetOf);
    const resource = builtin(this.#context, BUCKETS.endpoints);
    const current = store.get(BUCKETS.endpoints, namespace, name);
    if (current !== undefined) {
      lifecycle.modify(resource, current, (copy) => void Object.assign(copy, { subsets }));
      return;
    }
    const labels = { ...service.metadata.labels, ...MANAGED };
    const metadata = { name, labels, ownerReferences: [ownedBy(service)] };
    lifecycle.create(
      resource,
      namespace,
      { metadata, subsets },
      { manager: 'endpoint-controller' },
    );
  }
}

function subsetOf(slice: KubeObject): Dict[] {
  const addresses: Dict[] = [];
  const notReadyAddresses: Dict[] = [];
  for (const endpoint of dicts(slice['endpoints'])) {
    const into = dict(endpoint['conditions'])['ready'] === false ? notReadyAddresses : addresses;
    for (const ip of list(endpoint['addresses'])) {
      const { nodeName, targetRef } = endpoint;
      into.push({ ip: text(ip), nodeName, targetRef });
    }
  }
  if (addresses.length === 0 && notReadyAddresses.length === 0) return [];
  const ports = dicts(slice['ports']).map((port) => ({
    ...port,
    name: text(port['name']) === '' ? undefined : port['name'],
  }));
  return [
    {
      ...(addresses.length === 0 ? {} : { addresses }),
      ...(notReadyAddresses.length === 0 ? {} : { notReadyAddresses }),
      ports,
    },
  ];
}
