// Which workloads are endpoints of which services, and on which port. A service with a selector selects pods and
// WorkloadEntries; one without is read from its EndpointSlices; a ServiceEntry selects or lists its own.
import type { PodEntity, ServiceEntity, StaticEndpoint } from './entities.ts';
import { selects, type MeshModel } from './mesh-model.ts';
import { appProtocol } from './port-protocol.ts';
import type { AppProtocol } from '../workload/gen/workload_pb.ts';
import type { EndpointSlice } from './types.ts';

export interface PortMapping {
  readonly servicePort: number;
  readonly targetPort: number;
  readonly appProtocol: AppProtocol;
}

/** An address of a selectorless service that belongs to no known pod. */
export interface OpaqueEndpoint {
  readonly uid: string;
  readonly namespace: string;
  readonly sliceName: string;
  readonly address: string;
  readonly node: string;
  readonly isHealthy: boolean;
  readonly services: ReadonlyMap<string, readonly PortMapping[]>;
}

export interface Endpoints {
  /** Pod uid to service key to ports. */
  readonly byPod: ReadonlyMap<string, ReadonlyMap<string, readonly PortMapping[]>>;
  /** WorkloadEntry uid to service key to ports. */
  readonly byEntry: ReadonlyMap<string, ReadonlyMap<string, readonly PortMapping[]>>;
  readonly opaque: readonly OpaqueEndpoint[];
  /** Service key to its pods. */
  readonly podsOf: ReadonlyMap<string, readonly PodEntity[]>;
}

type PortTable = Map<string, Map<string, readonly PortMapping[]>>;

/** Finds all endpoints of all services. */
export function findEndpoints(model: MeshModel, slices: readonly EndpointSlice[]): Endpoints {
  const byPod: PortTable = new Map();
  const podsOf = new Map<string, PodEntity[]>();
  const link = (pod: PodEntity, service: ServiceEntity, ports: readonly PortMapping[]): void => {
    const services = byPod.get(pod.uid) ?? new Map<string, readonly PortMapping[]>();
    byPod.set(pod.uid, services.set(service.key, ports));
    const pods = podsOf.get(service.key);
    if (pods === undefined) podsOf.set(service.key, [pod]);
    else pods.push(pod);
  };
  const selector = new PodSelector(model);
  for (const service of model.services) {
    for (const pod of selector.podsOf(service)) {
      model.log.guard('Pod', pod.pod, () => link(pod, service, podPorts(pod, service)));
    }
  }
  const opaque = readSlices(model, slices, link);
  return { byPod, byEntry: linkEntries(model), opaque, podsOf };
}

function linkEntries(model: MeshModel): PortTable {
  const byEntry: PortTable = new Map();
  const services = model.services.filter(hasSelector);
  for (const entry of model.workloadEntries) {
    const own = services.filter(
      ({ namespace, selector }) =>
        namespace === entry.namespace && selects(selector, entry.endpoint.labels),
    );
    const ports = own.map((service) => [service.key, entryPorts(entry.endpoint, service)] as const);
    byEntry.set(entry.uid, new Map(ports));
  }
  return byEntry;
}

/** Ports of an endpoint that no container describes: its own by the service's port name, else the service's. */
export function entryPorts(endpoint: StaticEndpoint, service: ServiceEntity): PortMapping[] {
  return service.ports.flatMap((port) => {
    const target =
      endpoint.ports[port.name] ??
      (typeof port.targetPort === 'string' ? endpoint.ports[port.targetPort] : undefined) ??
      Number(port.targetPort ?? port.port);
    if (!Number.isInteger(target) || target === 0) return [];
    const protocol = appProtocol(port.protocol);
    return [{ servicePort: port.port, targetPort: target, appProtocol: protocol }];
  });
}

// Pods by one label, so that a service does not look at every pod of a large namespace.
class PodSelector {
  readonly #byLabel = new Map<string, PodEntity[]>();

  constructor(model: MeshModel) {
    for (const pod of model.pods) {
      for (const [key, value] of Object.entries(pod.labels)) {
        const at = labelKey(pod.namespace, key, value);
        const bucket = this.#byLabel.get(at);
        if (bucket === undefined) this.#byLabel.set(at, [pod]);
        else bucket.push(pod);
      }
    }
  }

  podsOf(service: ServiceEntity): readonly PodEntity[] {
    const { selector } = service;
    const buckets = Object.entries(selector).map(
      ([key, value]) => this.#byLabel.get(labelKey(service.namespace, key, value)) ?? [],
    );
    const smallest = buckets.sort((a, b) => a.length - b.length)[0] ?? [];
    return smallest.filter((pod) => selects(selector, pod.labels));
  }
}

function labelKey(namespace: string, key: string, value: string): string {
  return `${namespace}\0${key}\0${value}`;
}

function podPorts(pod: PodEntity, service: ServiceEntity): PortMapping[] {
  return service.ports.flatMap((port) => {
    const target = targetPort(pod, port.targetPort ?? port.port);
    if (target === undefined) return [];
    const protocol = appProtocol(port.protocol);
    return [{ servicePort: port.port, targetPort: target, appProtocol: protocol }];
  });
}

// Named ports are looked up in the containers, sidecar containers included; 0 is not a port.
function targetPort(pod: PodEntity, target: number | string): number | undefined {
  if (typeof target === 'number') return target === 0 ? undefined : target;
  if (/^\d+$/.test(target)) return Number(target);
  const { containers = [], initContainers = [] } = pod.pod.spec ?? {};
  const sidecars = initContainers.filter((container) => container.restartPolicy === 'Always');
  return [...containers, ...sidecars]
    .flatMap((container) => container.ports ?? [])
    .find((port) => port.name === target && (port.protocol ?? 'TCP') === 'TCP')?.containerPort;
}

function readSlices(
  model: MeshModel,
  slices: readonly EndpointSlice[],
  link: (pod: PodEntity, service: ServiceEntity, ports: readonly PortMapping[]) => void,
): OpaqueEndpoint[] {
  const services = new Map(
    model.services.flatMap((service) =>
      service.service === undefined || hasSelector(service)
        ? []
        : [[`${service.namespace}/${service.name}`, service]],
    ),
  );
  const pods = new Map(model.pods.map((pod) => [`${pod.namespace}/${pod.name}`, pod]));
  const opaque: OpaqueEndpoint[] = [];
  for (const slice of slices) {
    model.log.guard('EndpointSlice', slice, () => {
      const { namespace = '', labels = {} } = slice.metadata ?? {};
      const owner = labels['kubernetes.io/service-name'] ?? '';
      const service = services.get(`${namespace}/${owner}`);
      if (service === undefined || slice.addressType === 'FQDN') return;
      const ports = slicePorts(slice, service);
      for (const endpoint of slice.endpoints ?? []) {
        const { targetRef } = endpoint;
        const pod =
          targetRef?.kind === 'Pod'
            ? pods.get(`${targetRef.namespace ?? namespace}/${targetRef.name ?? ''}`)
            : undefined;
        if (pod !== undefined) link(pod, service, ports);
        else opaque.push(...opaqueEndpoints(model, slice, endpoint, [service.key, ports]));
      }
    });
  }
  return opaque;
}

function hasSelector(service: ServiceEntity): boolean {
  return Object.keys(service.selector).length > 0;
}

function slicePorts(slice: EndpointSlice, service: ServiceEntity): PortMapping[] {
  return service.ports.flatMap((port) => {
    const found = (slice.ports ?? []).find((entry) => (entry.name ?? '') === port.name);
    if (found?.port === undefined || (found.protocol ?? 'TCP') !== 'TCP') return [];
    const protocol = appProtocol(port.protocol);
    return [{ servicePort: port.port, targetPort: found.port, appProtocol: protocol }];
  });
}

type SliceEndpoint = NonNullable<EndpointSlice['endpoints']>[number];

function opaqueEndpoints(
  model: MeshModel,
  slice: EndpointSlice,
  endpoint: SliceEndpoint,
  [serviceKey, ports]: readonly [string, readonly PortMapping[]],
): OpaqueEndpoint[] {
  const { name = '', namespace = '' } = slice.metadata ?? {};
  return (endpoint.addresses ?? []).map((address) => ({
    uid: `${model.mesh.clusterId}/discovery.k8s.io/EndpointSlice/${namespace}/${name}/${address}`,
    namespace,
    sliceName: name,
    address,
    node: endpoint.nodeName ?? '',
    isHealthy: endpoint.conditions?.ready !== false,
    services: new Map([[serviceKey, ports]]),
  }));
}
