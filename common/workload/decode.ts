// Decodes Istio's workload API (`istio.workload.Address`) into the lean model. A resource that cannot be understood
// is refused with a reason (it becomes a NACK), never half taken: unknown enum numbers, bad addresses, bad keys.
import { fromBinary } from '@bufbuild/protobuf';
import { MeshError } from '../errors.ts';
import {
  AddressSchema,
  AppProtocol,
  ApplicationTunnel_Protocol,
  IPFamilies,
  LoadBalancing_HealthPolicy,
  LoadBalancing_Mode,
  LoadBalancing_Scope,
  NetworkMode,
  Service_Visibility,
  TunnelProtocol,
  WorkloadStatus,
  WorkloadType,
} from './gen/workload_pb.ts';
import type * as pb from './gen/workload_pb.ts';
import { NODE_LOCAL_EXTENSION, readL7Percent } from './extensions.ts';
import { formatIp } from './ip.ts';
import type {
  AddressResource,
  GatewayAddress,
  LoadBalancer,
  PortMapping,
  RoutingScope,
  Service,
  Workload,
} from './model.ts';
import { TextPool, ValuePool } from './sharing.ts';

export const ADDRESS_TYPE_URL = 'type.googleapis.com/istio.workload.Address';

const texts = new TextPool();
const localities = new ValuePool<Workload['locality']>();
const serviceRecords = new ValuePool<Workload['services']>();
const NO_SERVICES: Workload['services'] = {};
const NO_POLICIES: readonly string[] = [];

/** Decodes one Address resource; `name` is the resource's. Throws `MeshError('bad_resource')`. */
export function decodeAddress(bytes: Uint8Array, name?: string): AddressResource {
  let address: pb.Address;
  try {
    address = fromBinary(AddressSchema, bytes);
  } catch (err) {
    throw new MeshError('bad_resource', 'not an istio.workload.Address', { cause: err });
  }
  switch (address.type.case) {
    case 'workload':
      return { kind: 'workload', workload: toWorkload(address.type.value, name) };
    case 'service':
      return { kind: 'service', service: toService(address.type.value) };
    case undefined:
      throw bad('address has neither workload nor service');
  }
}

function bad(reason: string): MeshError {
  return new MeshError('bad_resource', reason);
}

function toIp(bytes: Uint8Array): string {
  const text = formatIp(bytes);
  if (text === undefined) throw bad(`address of ${bytes.length} bytes`);
  return text;
}

/** Looks an enum number up in a table; a number without a row is refused. */
function pick<T>(table: Readonly<Record<number, T>>, value: number, field: string): T {
  const found = table[value];
  if (found === undefined) throw bad(`unknown ${field} ${value}`);
  return found;
}

const WORKLOAD_TYPES = {
  [WorkloadType.DEPLOYMENT]: 'deployment',
  [WorkloadType.CRONJOB]: 'cronjob',
  [WorkloadType.POD]: 'pod',
  [WorkloadType.JOB]: 'job',
} as const;
const PROTOCOLS = { [TunnelProtocol.NONE]: 'TCP', [TunnelProtocol.HBONE]: 'HBONE' } as const;
const TUNNEL_PROTOCOLS = {
  [ApplicationTunnel_Protocol.NONE]: 'NONE',
  [ApplicationTunnel_Protocol.PROXY]: 'PROXY',
} as const;
const STATUSES = { [WorkloadStatus.HEALTHY]: true, [WorkloadStatus.UNHEALTHY]: false } as const;
const NETWORK_MODES = { [NetworkMode.STANDARD]: false, [NetworkMode.HOST_NETWORK]: true } as const;
const SCOPES: Readonly<Record<number, RoutingScope>> = {
  [LoadBalancing_Scope.REGION]: 'REGION',
  [LoadBalancing_Scope.ZONE]: 'ZONE',
  [LoadBalancing_Scope.SUBZONE]: 'SUBZONE',
  [LoadBalancing_Scope.NODE]: 'NODE',
  [LoadBalancing_Scope.CLUSTER]: 'CLUSTER',
  [LoadBalancing_Scope.NETWORK]: 'NETWORK',
};
const MODES = {
  [LoadBalancing_Mode.UNSPECIFIED_MODE]: 'STANDARD',
  [LoadBalancing_Mode.STRICT]: 'STRICT',
  [LoadBalancing_Mode.FAILOVER]: 'FAILOVER',
  [LoadBalancing_Mode.PASSTHROUGH]: 'PASSTHROUGH',
} as const;
const HEALTH_POLICIES = {
  [LoadBalancing_HealthPolicy.ONLY_HEALTHY]: 'ONLY_HEALTHY',
  [LoadBalancing_HealthPolicy.ALLOW_ALL]: 'ALLOW_ALL',
} as const;
const FAMILIES = {
  [IPFamilies.AUTOMATIC]: 'AUTOMATIC',
  [IPFamilies.IPV4_ONLY]: 'IPV4_ONLY',
  [IPFamilies.IPV6_ONLY]: 'IPV6_ONLY',
  [IPFamilies.DUAL]: 'DUAL',
} as const;

function hasExtension({ extensions }: pb.Workload, wanted: string): boolean {
  return extensions.some(({ name }) => name === wanted);
}

function toWorkload(source: pb.Workload, resourceName: string | undefined): Workload {
  if (source.uid === '') throw bad('workload without uid');
  const tunnel = source.applicationTunnel;
  return {
    // The client keeps the resource's name: one copy for both.
    uid: source.uid === resourceName ? resourceName : source.uid,
    name: source.name,
    namespace: texts.share(source.namespace),
    serviceAccount: texts.share(source.serviceAccount || 'default'),
    trustDomain: texts.share(source.trustDomain || 'cluster.local'),
    ips: source.addresses.map(toIp),
    hostname: source.hostname,
    network: texts.share(source.network),
    protocol: pick<Workload['protocol']>(PROTOCOLS, source.tunnelProtocol, 'tunnel protocol'),
    isNativeTunnel: source.nativeTunnel,
    isHostNetwork: pick<boolean>(NETWORK_MODES, source.networkMode, 'network mode'),
    isNodeLocalAllowed: hasExtension(source, NODE_LOCAL_EXTENSION),
    l7Percent: readL7Percent(source.extensions),
    waypoint: source.waypoint && toGateway(source.waypoint),
    networkGateway: source.networkGateway && toGateway(source.networkGateway),
    node: texts.share(source.node),
    workloadName: texts.share(source.workloadName),
    workloadType: pick<Workload['workloadType']>(
      WORKLOAD_TYPES,
      source.workloadType,
      'workload type',
    ),
    canonicalName: texts.share(source.canonicalName),
    canonicalRevision: texts.share(source.canonicalRevision),
    clusterId: texts.share(source.clusterId || 'Kubernetes'),
    locality: toLocality(source.locality),
    authorizationPolicies:
      source.authorizationPolicies.length === 0 ? NO_POLICIES : source.authorizationPolicies,
    isHealthy: pick<boolean>(STATUSES, source.status, 'status'),
    capacity: source.capacity ?? 1,
    services: toServices(source.services),
    applicationTunnel: tunnel && {
      protocol: pick<'NONE' | 'PROXY'>(TUNNEL_PROTOCOLS, tunnel.protocol, 'application tunnel'),
      port: checkPort(tunnel.port),
    },
  };
}

function toLocality(source: pb.Locality | undefined): Workload['locality'] {
  const { region = '', zone = '', subzone = '' } = source ?? {};
  return localities.share(`${region}\0${zone}\0${subzone}`, { region, zone, subzone });
}

/** The endpoints of a service have the same record, unless a pod belongs to several or has ports of its own. */
function toServices(source: pb.Workload['services']): Workload['services'] {
  const lists = Object.entries(source);
  if (lists.length === 0) return NO_SERVICES;
  const services: Record<string, readonly PortMapping[]> = {};
  let text = '';
  for (const [key, list] of lists) {
    if (!key.includes('/')) throw bad(`service key "${key}" is not namespace/hostname`);
    const ports = toPorts(list.ports);
    services[key] = ports;
    text += `${key}\0${ports.map(portText).join()}\0`;
  }
  return serviceRecords.share(text, services);
}

function portText({ servicePort, targetPort, isOpaque }: PortMapping): string {
  return `${servicePort}:${targetPort}${isOpaque === true ? 'o' : ''}`;
}

function toPorts(ports: readonly pb.Port[]): PortMapping[] {
  return ports.map(({ servicePort, targetPort, appProtocol }) => {
    const numbers = { servicePort: checkPort(servicePort), targetPort: checkPort(targetPort) };
    const isOpaque = appProtocol === AppProtocol.TCP || appProtocol === AppProtocol.TLS;
    return isOpaque ? { ...numbers, isOpaque } : numbers;
  });
}

function checkPort(port: number): number {
  if (port > 65535) throw bad(`port ${port} is out of range`);
  return port;
}

function toService(source: pb.Service): Service {
  const vips: { network: string; ip: string }[] = [];
  const cidrVips: { network: string; ip: string; length: number }[] = [];
  for (const { network, address, length } of source.addresses) {
    const ip = toIp(address);
    if (length === undefined || length === address.length * 8) vips.push({ network, ip });
    else if (length > address.length * 8) throw bad(`prefix length ${length} of ${ip}`);
    else cidrVips.push({ network, ip, length });
  }
  return {
    name: source.name,
    namespace: source.namespace,
    hostname: source.hostname,
    vips,
    cidrVips,
    ports: toPorts(source.ports),
    subjectAltNames: source.subjectAltNames,
    waypoint: source.waypoint && toGateway(source.waypoint),
    weightedWaypoints: source.weightedWaypoints.map(({ destination, weight }) => {
      if (destination === undefined) throw bad('weighted waypoint without destination');
      return { destination: toGateway(destination), weight };
    }),
    loadBalancer: toLoadBalancer(source.loadBalancing),
    ipFamilies: pick<Service['ipFamilies']>(FAMILIES, source.ipFamilies, 'ip families'),
    isCanonical: source.canonical,
    visibility: source.visibility === Service_Visibility.NAMESPACE ? 'NAMESPACE' : 'PUBLIC',
  };
}

function toLoadBalancer(source: pb.LoadBalancing | undefined): LoadBalancer {
  if (source === undefined) {
    return { mode: 'STANDARD', routingPreferences: [], healthPolicy: 'ONLY_HEALTHY' };
  }
  return {
    mode: pick<LoadBalancer['mode']>(MODES, source.mode, 'load balancing mode'),
    routingPreferences: source.routingPreference.map((scope) => pick(SCOPES, scope, 'scope')),
    healthPolicy: pick<LoadBalancer['healthPolicy']>(
      HEALTH_POLICIES,
      source.healthPolicy,
      'health policy',
    ),
  };
}

function toGateway(source: pb.GatewayAddress): GatewayAddress {
  const port = checkPort(source.hboneMtlsPort);
  const { destination } = source;
  switch (destination.case) {
    case 'hostname': {
      const { namespace, hostname } = destination.value;
      return { kind: 'hostname', namespace, hostname, port };
    }
    case 'address': {
      const { network, address } = destination.value;
      return { kind: 'address', network, ip: toIp(address), port };
    }
    case undefined:
      throw bad('gateway address without destination');
  }
}
