// Workloads of Istio's workload API: pods, addresses of selectorless services and
// endpoints of ServiceEntries.
import { create } from '@bufbuild/protobuf';
import type { MessageInitShape } from '@bufbuild/protobuf';
import { l7SightExtension, nodeLocalExtension } from '../workload/extensions.ts';
import {
  NetworkMode,
  PortListSchema,
  TunnelProtocol,
  WorkloadSchema,
  WorkloadStatus,
  WorkloadType,
  type Workload,
} from '../workload/gen/workload_pb.ts';
import { parseIp } from '../workload/ip.ts';
import { entryPorts } from './endpoints.ts';
import type { Endpoints, OpaqueEndpoint, PortMapping } from './endpoints.ts';
import type { PodEntity, ServiceEntity, StaticEndpoint, WorkloadEntryEntity } from './entities.ts';
import type { MeshModel } from './mesh-model.ts';
import type { WaypointBinding } from './types.ts';
import type { ResourceMeta } from '../resources/resource.ts';
import { resolveWaypoint } from './waypoint-binding.ts';
import {
  canonicalName,
  canonicalNameOf,
  canonicalRevision,
  workloadName,
} from './workload-name.ts';

const REDIRECTION = 'ambient.istio.io/redirection';
const TUNNEL_LABEL = 'networking.istio.io/tunnel';
const DEFAULT_TRUST_DOMAIN = 'cluster.local';

type ServicesField = Workload['services'];

/** What other parts of the compiler know of a pod. */
export interface PodRules {
  /** Names of the selector policies that apply to a pod or WorkloadEntry. */
  policiesOf(pod: ResourceMeta): readonly string[];
  /** Whether its traffic may take the same-node path. */
  allowsNodeLocal(pod: PodEntity): boolean;
  /** How many of its connections are observed, in percent. */
  l7PercentOf(pod: PodEntity): number;
}

/** Builds every workload. */
export function buildWorkloads(
  model: MeshModel,
  endpoints: Endpoints,
  rules: PodRules,
): { readonly workloads: Workload[]; readonly bindings: WaypointBinding[] } {
  const workloads: Workload[] = [];
  const bindings: WaypointBinding[] = [];
  for (const pod of model.pods) {
    model.log.guard('Pod', pod.pod, () => {
      const services = servicesField(endpoints.byPod.get(pod.uid) ?? new Map());
      const { workload, binding } = podWorkload(model, pod, services);
      workload.authorizationPolicies = [...rules.policiesOf(pod)];
      if (isCaptured(pod)) {
        const l7Percent = rules.l7PercentOf(pod);
        workload.extensions = [
          ...(rules.allowsNodeLocal(pod) ? [nodeLocalExtension()] : []),
          ...(l7Percent > 0 ? [l7SightExtension(l7Percent)] : []),
        ];
      }
      workloads.push(workload);
      if (binding !== undefined) bindings.push(binding);
    });
  }
  workloads.push(...endpoints.opaque.map((endpoint) => opaqueWorkload(model, endpoint)));
  for (const service of model.services) {
    workloads.push(...service.staticEndpoints.map((end) => staticWorkload(model, service, end)));
  }
  for (const entry of model.workloadEntries) {
    const services = servicesField(endpoints.byEntry.get(entry.uid) ?? new Map());
    const made = entryWorkload(model, entry, services, rules.policiesOf(entry));
    workloads.push(made.workload);
    if (made.binding !== undefined) bindings.push(made.binding);
  }
  return { workloads, bindings };
}

function podWorkload(
  model: MeshModel,
  pod: PodEntity,
  services: ServicesField,
): { readonly workload: Workload; readonly binding: WaypointBinding | undefined } {
  const { mesh } = model;
  const { spec, status } = pod.pod;
  const isReady = status?.conditions?.some(
    (condition) => condition.type === 'Ready' && condition.status === 'True',
  );
  const isLeaving = pod.pod.metadata?.deletionTimestamp !== undefined;
  const tunnelsItself = pod.isWaypoint || pod.labels[TUNNEL_LABEL] === 'http';
  const attachment = pod.isWaypoint ? undefined : resolveWaypoint(model, pod, 'workload');
  const workload = create(WorkloadSchema, {
    uid: pod.uid,
    name: pod.name,
    namespace: pod.namespace,
    addresses: pod.ips.flatMap((ip) => parseIp(ip) ?? []),
    network: mesh.network,
    tunnelProtocol: tunnelsItself || isCaptured(pod) ? TunnelProtocol.HBONE : TunnelProtocol.NONE,
    nativeTunnel: tunnelsItself,
    trustDomain: trustDomainField(model),
    serviceAccount: spec?.serviceAccountName ?? 'default',
    node: spec?.nodeName ?? '',
    canonicalName: canonicalName(pod),
    canonicalRevision: canonicalRevision(pod),
    // Always POD in Istio; the owner shows in workloadName only.
    workloadType: WorkloadType.POD,
    workloadName: workloadName(pod),
    status: isReady === true && !isLeaving ? WorkloadStatus.HEALTHY : WorkloadStatus.UNHEALTHY,
    clusterId: mesh.clusterId,
    services,
    networkMode: spec?.hostNetwork === true ? NetworkMode.HOST_NETWORK : NetworkMode.STANDARD,
    ...localityField(model, spec?.nodeName),
  });
  if (attachment?.address !== undefined) workload.waypoint = attachment.address;
  return { workload, binding: attachment?.binding };
}

/** Its traffic goes through the node proxy. */
function isCaptured(pod: PodEntity): boolean {
  return pod.annotations[REDIRECTION] === 'enabled';
}

function servicesField(ports: ReadonlyMap<string, readonly PortMapping[]>): ServicesField {
  const field: ServicesField = {};
  for (const [key, list] of ports) field[key] = create(PortListSchema, { ports: [...list] });
  return field;
}

function trustDomainField(model: MeshModel): string {
  const { trustDomain } = model.mesh;
  return trustDomain === DEFAULT_TRUST_DOMAIN ? '' : trustDomain;
}

interface LocalityField {
  readonly locality?: { region: string; zone: string; subzone: string };
}

function localityField(model: MeshModel, node: string | undefined): LocalityField {
  const labels = model.nodes.get(node ?? '')?.labels ?? {};
  const region = labels['topology.kubernetes.io/region'] ?? '';
  const zone = labels['topology.kubernetes.io/zone'] ?? '';
  const subzone = labels['topology.istio.io/subzone'] ?? '';
  return region === '' && zone === '' && subzone === ''
    ? {}
    : { locality: { region, zone, subzone } };
}

// Host network mode keeps node proxies from finding it by address: nothing is known of who owns it.
function opaqueWorkload(model: MeshModel, endpoint: OpaqueEndpoint): Workload {
  return create(WorkloadSchema, {
    uid: endpoint.uid,
    name: endpoint.sliceName,
    namespace: endpoint.namespace,
    addresses: [parseIp(endpoint.address)].filter((ip) => ip !== undefined),
    network: model.mesh.network,
    node: endpoint.node,
    trustDomain: trustDomainField(model),
    canonicalName: endpoint.sliceName,
    canonicalRevision: 'latest',
    workloadType: WorkloadType.POD,
    workloadName: endpoint.sliceName,
    status: endpoint.isHealthy ? WorkloadStatus.HEALTHY : WorkloadStatus.UNHEALTHY,
    clusterId: model.mesh.clusterId,
    services: servicesField(endpoint.services),
    networkMode: NetworkMode.HOST_NETWORK,
  });
}

/** An inline endpoint of a ServiceEntry. */
function staticWorkload(
  model: MeshModel,
  service: ServiceEntity,
  endpoint: StaticEndpoint,
): Workload {
  const { clusterId } = model.mesh;
  const { namespace, name, key } = service;
  return create(WorkloadSchema, {
    ...endpointFields(model, endpoint),
    uid: `${clusterId}/networking.istio.io/ServiceEntry/${namespace}/${name}/${endpoint.address}`,
    name,
    namespace,
    canonicalName: endpoint.labels['app'] ?? name,
    canonicalRevision: endpoint.labels['version'] ?? 'latest',
    workloadName: name,
    services: servicesField(new Map([[key, entryPorts(endpoint, service)]])),
  });
}

function entryWorkload(
  model: MeshModel,
  entry: WorkloadEntryEntity,
  services: ServicesField,
  policies: readonly string[],
): { readonly workload: Workload; readonly binding: WaypointBinding | undefined } {
  const { uid, name, namespace, endpoint, labels } = entry;
  const attachment = resolveWaypoint(model, entry, 'workload');
  const workload = create(WorkloadSchema, {
    ...endpointFields(model, endpoint),
    uid,
    name,
    namespace,
    canonicalName: canonicalNameOf(entry, name),
    canonicalRevision: canonicalRevision(entry),
    workloadName: labels['service.istio.io/workload-name'] ?? name,
    services,
    authorizationPolicies: [...policies],
  });
  if (attachment.address !== undefined) workload.waypoint = attachment.address;
  return { workload, binding: attachment.binding };
}

/** What an endpoint without a pod says of itself. */
function endpointFields(
  model: MeshModel,
  endpoint: StaticEndpoint,
): MessageInitShape<typeof WorkloadSchema> {
  const { mesh } = model;
  const ip = parseIp(endpoint.address);
  const tunnels = endpoint.labels[TUNNEL_LABEL] === 'http';
  return {
    addresses: ip === undefined ? [] : [ip],
    hostname: ip === undefined ? endpoint.address : '',
    network: endpoint.network === '' ? mesh.network : endpoint.network,
    tunnelProtocol: tunnels ? TunnelProtocol.HBONE : TunnelProtocol.NONE,
    nativeTunnel: tunnels,
    trustDomain: trustDomainField(model),
    serviceAccount: endpoint.serviceAccount,
    workloadType: WorkloadType.POD,
    clusterId: mesh.clusterId,
    ...staticLocality(endpoint.locality),
    ...(endpoint.weight > 0 ? { capacity: endpoint.weight } : {}),
  };
}

function staticLocality(text: string): LocalityField {
  if (text === '') return {};
  const [region = '', zone = '', subzone = ''] = text.split('/');
  return { locality: { region, zone, subzone } };
}
