// EndpointSlices of Services with a selector: every pod that has an address, with its ports resolved and its
// conditions (ready, serving, terminating). Pods whose named ports differ go to different slices.
import { createHash } from 'node:crypto';
import { isIPv4, isIPv6 } from 'node:net';
import { dict, dicts, field, list, number, sameJson, text } from '../objects.ts';
import type { Dict, KubeObject } from '../objects.ts';
import { BUCKETS } from '../registry/builtin.ts';
import { deleteObject } from '../api/delete.ts';
import { keyOf } from '../storage/store.ts';
import type { StoreEvent } from '../storage/store.ts';
import { WorkQueue, builtin, ownedBy, splitKey } from './controller.ts';
import type { Controller, ControllerContext } from './controller.ts';
import { isDeleting, isReady, phaseOf } from './pods.ts';

const SERVICE_LABEL = 'kubernetes.io/service-name';
const MANAGED_LABEL = 'endpointslice.kubernetes.io/managed-by';
const MANAGER = 'endpointslice-controller.k8s.io';
const ZONE_LABEL = 'topology.kubernetes.io/zone';

/** Endpoints of one family with the same ports: one slice. */
interface Group {
  readonly addressType: string;
  readonly ports: Dict[];
  readonly endpoints: Dict[];
}

/** Keeps the slices of every Service. */
export class EndpointSliceController implements Controller {
  readonly #context: ControllerContext;
  readonly #queue: WorkQueue;

  constructor(context: ControllerContext) {
    this.#context = context;
    this.#queue = new WorkQueue(context, (key) => this.#sync(key));
  }

  onEvent(event: StoreEvent): void {
    const { bucket, object, previous } = event;
    const { namespace, name } = object.metadata;
    if (bucket === BUCKETS.services) this.#queue.add(keyOf(namespace, name));
    if (bucket === BUCKETS.endpointSlices && event.type === 'DELETED') {
      const service = object.metadata.labels?.[SERVICE_LABEL];
      if (service !== undefined) this.#queue.add(keyOf(namespace, service));
    }
    if (bucket !== BUCKETS.pods || !isRelevant(event)) return;
    for (const service of this.#context.lifecycle.store.values(BUCKETS.services)) {
      if (service.metadata.namespace !== namespace) continue;
      if (selects(service, object) || (previous !== undefined && selects(service, previous))) {
        this.#queue.add(keyOf(namespace, service.metadata.name));
      }
    }
  }

  close(): void {
    this.#queue.close();
  }

  #sync(key: string): void {
    const { namespace, name } = splitKey(key);
    const { store } = this.#context.lifecycle;
    const service = store.get(BUCKETS.services, namespace, name);
    if (service === undefined || isDeleting(service)) return;
    const spec = dict(service['spec']);
    if (Object.keys(dict(spec['selector'])).length === 0 || spec['type'] === 'ExternalName') return;
    const groups = new Map<string, Group>();
    const families = list(spec['ipFamilies'] ?? ['IPv4']).map(text);
    // A service without pods keeps one slice, so that watchers see it become empty.
    for (const pod of store.list(BUCKETS.pods, namespace)) {
      if (!selects(service, pod)) continue;
      const ports = portsFor(spec, pod);
      for (const addressType of families) {
        const address = addressOf(pod, addressType);
        if (address === undefined) continue;
        const id = JSON.stringify([addressType, ports]);
        const group = groups.get(id) ?? { addressType, ports, endpoints: [] };
        group.endpoints.push(this.#endpoint(service, pod, address));
        groups.set(id, group);
      }
    }
    for (const addressType of families) {
      if ([...groups.values()].some((group) => group.addressType === addressType)) continue;
      groups.set(addressType, { addressType, ports: [], endpoints: [] });
    }
    this.#store(service, groups);
  }

  #endpoint(service: KubeObject, pod: KubeObject, address: string): Dict {
    const { store } = this.#context.lifecycle;
    const ready = isReady(pod);
    const terminating = isDeleting(pod);
    const published = field(service, 'spec', 'publishNotReadyAddresses') === true;
    const nodeName = text(field(pod, 'spec', 'nodeName'));
    const zone = store.get(BUCKETS.nodes, undefined, nodeName)?.metadata.labels?.[ZONE_LABEL];
    const { name, namespace, uid } = pod.metadata;
    const hostname = text(field(pod, 'spec', 'hostname'));
    const isNamed = hostname !== '' && field(pod, 'spec', 'subdomain') === service.metadata.name;
    return {
      addresses: [address],
      conditions: {
        ready: published || (ready && !terminating),
        serving: published || ready,
        terminating,
      },
      ...(isNamed ? { hostname } : {}),
      nodeName,
      targetRef: { kind: 'Pod', name, namespace, uid },
      ...(zone === undefined ? {} : { zone }),
    };
  }

  #store(service: KubeObject, groups: ReadonlyMap<string, Group>): void {
    const { lifecycle } = this.#context;
    const { name, namespace } = service.metadata;
    const resource = builtin(this.#context, BUCKETS.endpointSlices);
    const known = lifecycle.store
      .list(BUCKETS.endpointSlices, namespace)
      .filter(
        ({ metadata }) =>
          metadata.labels?.[SERVICE_LABEL] === name && metadata.labels[MANAGED_LABEL] === MANAGER,
      );
    const spare = new Set(known);
    const missing: Group[] = [];
    for (const group of groups.values()) {
      const same = known.find(
        (slice) =>
          spare.has(slice) &&
          slice['addressType'] === group.addressType &&
          sameJson(slice['ports'], group.ports),
      );
      if (same === undefined) missing.push(group);
      else {
        spare.delete(same);
        this.#update(same, service, group);
      }
    }
    for (const group of missing) {
      const reused = [...spare].find((slice) => slice['addressType'] === group.addressType);
      if (reused !== undefined) {
        spare.delete(reused);
        this.#update(reused, service, group);
      } else {
        const body = sliceBody(service, group);
        lifecycle.create(resource, namespace, body, { manager: MANAGER });
      }
    }
    for (const slice of spare)
      deleteObject(this.#context, resource, slice, { policy: 'Background' });
  }

  #update(slice: KubeObject, service: KubeObject, group: Group): void {
    const resource = builtin(this.#context, BUCKETS.endpointSlices);
    this.#context.lifecycle.modify(resource, slice, (copy) => {
      Object.assign(copy, group);
      copy.metadata.labels = labelsOf(service);
    });
  }
}

/** A change of the pod that its endpoint shows. */
function isRelevant({ type, object, previous }: StoreEvent): boolean {
  if (type !== 'MODIFIED' || previous === undefined) return true;
  const shown = (pod: KubeObject): unknown => [
    pod.metadata.labels,
    pod.metadata.deletionTimestamp,
    field(pod, 'status', 'podIPs'),
    field(pod, 'spec', 'nodeName'),
    phaseOf(pod),
    isReady(pod),
  ];
  return !sameJson(shown(object), shown(previous));
}

/** The pod's address of a family; undefined when it has none, or has ended. */
function addressOf(pod: KubeObject, addressType: string): string | undefined {
  if (phaseOf(pod) === 'Succeeded' || phaseOf(pod) === 'Failed') return undefined;
  const all = [
    field(pod, 'status', 'podIP'),
    ...dicts(field(pod, 'status', 'podIPs')).map(({ ip }) => ip),
  ];
  const isWanted = addressType === 'IPv6' ? isIPv6 : isIPv4;
  return all.map(text).find(isWanted);
}

function selects(service: KubeObject, pod: KubeObject): boolean {
  const selector = Object.entries(dict(field(service, 'spec', 'selector')));
  const labels = pod.metadata.labels ?? {};
  return selector.length > 0 && selector.every(([key, value]) => labels[key] === value);
}

function labelsOf(service: KubeObject): Record<string, string> {
  const isHeadless = field(service, 'spec', 'clusterIP') === 'None';
  return {
    ...service.metadata.labels,
    [SERVICE_LABEL]: service.metadata.name,
    [MANAGED_LABEL]: MANAGER,
    ...(isHeadless ? { 'service.kubernetes.io/headless': '' } : {}),
  };
}

function sliceBody(service: KubeObject, group: Group): Dict {
  const { name } = service.metadata;
  const suffix = createHash('sha256')
    .update(JSON.stringify([group.addressType, group.ports]))
    .digest('hex')
    .slice(0, 5);
  return {
    metadata: {
      generateName: `${name}-${suffix}-`,
      labels: labelsOf(service),
      ownerReferences: [ownedBy(service)],
    },
    ...group,
  };
}

/** The service's ports with named target ports looked up in the pod; unknown names are left out. */
function portsFor(spec: Dict, pod: KubeObject): Dict[] {
  return dicts(spec['ports']).flatMap((port) => {
    const target = port['targetPort'] ?? port['port'];
    const resolved = typeof target === 'number' ? target : containerPort(pod, text(target), port);
    if (resolved === undefined) return [];
    const { appProtocol } = port;
    return [
      {
        name: text(port['name']),
        port: resolved,
        protocol: text(port['protocol']),
        ...(appProtocol === undefined ? {} : { appProtocol }),
      },
    ];
  });
}

function containerPort(pod: KubeObject, name: string, port: Dict): number | undefined {
  if (/^\d+$/.test(name)) return Number(name);
  const containers = ['containers', 'initContainers'].flatMap((kind) =>
    dicts(field(pod, 'spec', kind)),
  );
  for (const container of containers) {
    for (const item of dicts(container['ports'])) {
      const isSame = (item['protocol'] ?? 'TCP') === port['protocol'];
      if (item['name'] === name && isSame) return number(item['containerPort'], 0);
    }
  }
  return undefined;
}
