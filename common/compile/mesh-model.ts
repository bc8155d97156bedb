// The compiler's view of the cluster: namespaces, pods, services, service entries and gateways with the
// indexes the later steps look things up by. Built once for each compilation.
import { hostMatches, serviceHost } from '../resources/host-name.ts';
import { compareText, readMeta, type ResourceMeta } from '../resources/resource.ts';
import { isRecord } from '../resources/read-message.ts';
import type {
  PodEntity,
  ServiceEntity,
  ServicePortEntity,
  WorkloadEntryEntity,
} from './entities.ts';
import { buildGateways, type GatewayEntity } from './gateways.ts';
import { portProtocol } from './port-protocol.ts';
import { readServiceEntries } from './service-entries.ts';
import type { CompileInput, MeshSettings, Namespace, Node, Pod, Service } from './types.ts';
import { readWorkloadEntries } from './workload-entries.ts';
import { VerdictLog } from './verdict-log.ts';

export interface MeshModel {
  readonly mesh: MeshSettings;
  readonly log: VerdictLog;
  readonly namespaces: ReadonlyMap<string, ResourceMeta>;
  readonly nodes: ReadonlyMap<string, ResourceMeta>;
  readonly pods: readonly PodEntity[];
  readonly podsByNamespace: ReadonlyMap<string, readonly PodEntity[]>;
  readonly workloadEntries: readonly WorkloadEntryEntity[];
  readonly services: readonly ServiceEntity[];
  readonly servicesByHost: ReadonlyMap<string, readonly ServiceEntity[]>;
  readonly gateways: ReadonlyMap<string, GatewayEntity>;
}

const MANAGED_LABEL = 'gateway.istio.io/managed';

/** Indexes the input. Objects that cannot be read get a verdict and are left out. */
export function buildModel(input: CompileInput): MeshModel {
  const log = new VerdictLog();
  const pods = readPods(input, log);
  const services = [
    ...readServices(input, log),
    ...readServiceEntries(input.serviceEntries ?? [], input.mesh, log),
  ];
  const unique = uniqueBy(services, (service) => service.key).sort((a, b) =>
    compareText(a.key, b.key),
  );
  return {
    mesh: input.mesh,
    log,
    namespaces: indexMeta('Namespace', input.namespaces ?? []),
    nodes: indexMeta('Node', input.nodes ?? []),
    pods,
    workloadEntries: readWorkloadEntries(input, log),
    podsByNamespace: groupBy(pods, (pod) => pod.namespace),
    services: unique,
    servicesByHost: groupBy(unique, (service) => service.hostname),
    gateways: buildGateways(input, log),
  };
}

/** The service a consumer in `namespace` means by a host name: its own namespace's first, then Kubernetes'. */
export function findService(
  model: MeshModel,
  hostname: string,
  namespace: string,
): ServiceEntity | undefined {
  const found = model.servicesByHost.get(hostname);
  return (
    found?.find((service) => service.namespace === namespace) ??
    found?.find((service) => service.service !== undefined) ??
    found?.[0]
  );
}

/** Services whose host name is covered by a resolved host, perhaps a wildcard. */
export function findServices(model: MeshModel, host: string): readonly ServiceEntity[] {
  if (!host.startsWith('*')) return model.servicesByHost.get(host) ?? [];
  return model.services.filter((service) => hostMatches(host, service.hostname));
}

/** True when every label of a selector is on the object. */
export function selects(
  selector: Readonly<Record<string, string>>,
  labels: Readonly<Record<string, string>>,
): boolean {
  for (const [key, value] of Object.entries(selector)) {
    if (!Object.hasOwn(labels, key) || labels[key] !== value) return false;
  }
  return true;
}

/** Groups values under their key, in order. */
export function groupBy<T>(values: readonly T[], keyOf: (value: T) => string): Map<string, T[]> {
  const groups = new Map<string, T[]>();
  for (const value of values) {
    const group = groups.get(keyOf(value));
    if (group === undefined) groups.set(keyOf(value), [value]);
    else group.push(value);
  }
  return groups;
}

function uniqueBy<T>(values: readonly T[], keyOf: (value: T) => string): T[] {
  const seen = new Map<string, T>();
  for (const value of values) if (!seen.has(keyOf(value))) seen.set(keyOf(value), value);
  return [...seen.values()];
}

function indexMeta(
  kind: string,
  objects: readonly (Namespace | Node)[],
): ReadonlyMap<string, ResourceMeta> {
  const metas = objects.map((object) => readMeta(kind, object));
  return new Map(metas.map((meta) => [meta.name, meta]));
}

function readPods(input: CompileInput, log: VerdictLog): PodEntity[] {
  const pods: PodEntity[] = [];
  for (const pod of input.pods ?? []) {
    log.guard('Pod', pod, () => {
      const meta = readMeta('Pod', pod);
      const phase = pod.status?.phase;
      if (meta.name === '' || phase === 'Succeeded' || phase === 'Failed') return;
      const ips = podIps(pod);
      if (ips.length === 0) return;
      const uid = `${input.mesh.clusterId}//Pod/${meta.namespace}/${meta.name}`;
      pods.push({ ...meta, pod, uid, ips, isWaypoint: Object.hasOwn(meta.labels, MANAGED_LABEL) });
    });
  }
  return pods.sort((a, b) => compareText(a.uid, b.uid));
}

function podIps(pod: Pod): string[] {
  const many = (pod.status?.podIPs ?? []).flatMap(({ ip }) => (ip ? [ip] : []));
  if (many.length > 0) return many;
  return pod.status?.podIP ? [pod.status.podIP] : [];
}

function readServices(input: CompileInput, log: VerdictLog): ServiceEntity[] {
  const services: ServiceEntity[] = [];
  for (const service of input.services ?? []) {
    log.guard('Service', service, () => {
      const meta = readMeta('Service', service);
      if (meta.name === '' || service.spec?.type === 'ExternalName') return;
      const hostname = serviceHost(meta.name, meta.namespace, input.mesh.domain);
      services.push({
        ...meta,
        hostname,
        key: `${meta.namespace}/${hostname}`,
        service,
        ports: readPorts(service),
        selector: service.spec?.selector ?? {},
        addresses: clusterIps(service),
        isPassthrough: false,
        subjectAltNames: [],
        staticEndpoints: [],
        isWaypoint: Object.hasOwn(meta.labels, MANAGED_LABEL),
      });
    });
  }
  return services;
}

function readPorts(service: Service): ServicePortEntity[] {
  return (service.spec?.ports ?? []).filter(isPort).map((port) => ({
    name: port.name ?? '',
    port: port.port,
    targetPort: port.targetPort,
    protocol: portProtocol(port),
  }));
}

function isPort(port: unknown): boolean {
  return isRecord(port) && Number.isInteger(port['port']);
}

function clusterIps(service: Service): string[] {
  const { clusterIPs, clusterIP } = service.spec ?? {};
  const all = clusterIPs !== undefined && clusterIPs.length > 0 ? clusterIPs : [clusterIP ?? ''];
  return all.filter((ip) => ip !== '' && ip !== 'None');
}
