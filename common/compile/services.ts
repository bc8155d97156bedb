// Services of Istio's workload API, each with the waypoint it is bound to.
import { create } from '@bufbuild/protobuf';
import {
  IPFamilies,
  LoadBalancing_HealthPolicy,
  LoadBalancing_Mode,
  LoadBalancing_Scope,
  ServiceSchema,
  type LoadBalancing,
  type Service,
} from '../workload/gen/workload_pb.ts';
import { LoadBalancingSchema } from '../workload/gen/workload_pb.ts';
import { parseIp } from '../workload/ip.ts';
import type { ServiceEntity } from './entities.ts';
import type { MeshModel } from './mesh-model.ts';
import { appProtocol } from './port-protocol.ts';
import { resolveWaypoint, type Attachment } from './waypoint-binding.ts';

const TRAFFIC_DISTRIBUTION = 'networking.istio.io/traffic-distribution';
const INGRESS_USE_WAYPOINT = 'istio.io/ingress-use-waypoint';
const { REGION, ZONE, SUBZONE, NODE, NETWORK } = LoadBalancing_Scope;

const PREFERENCES: Readonly<Record<string, readonly LoadBalancing_Scope[]>> = {
  PreferClose: [NETWORK, REGION, ZONE],
  PreferSameZone: [NETWORK, REGION, ZONE],
  PreferSameNode: [NETWORK, REGION, ZONE, SUBZONE, NODE],
};

/** How every service is bound, by service key. Waypoints' own services never are. */
export function attachServices(model: MeshModel): ReadonlyMap<string, Attachment> {
  return new Map(
    model.services
      .filter((service) => !service.isWaypoint)
      .map((service) => [service.key, resolveWaypoint(model, service, 'service')]),
  );
}

/** Builds every service. */
export function buildServices(
  model: MeshModel,
  attachments: ReadonlyMap<string, Attachment>,
): Service[] {
  const services: Service[] = [];
  for (const entity of model.services) {
    model.log.guard(entity.kind, entity.service, () => {
      const service = buildService(model, entity);
      const address = attachments.get(entity.key)?.address;
      if (address !== undefined) service.waypoint = address;
      services.push(service);
    });
  }
  return services;
}

function buildService(model: MeshModel, entity: ServiceEntity): Service {
  const balancing = loadBalancing(model, entity);
  return create(ServiceSchema, {
    name: entity.name,
    namespace: entity.namespace,
    hostname: entity.hostname,
    addresses: entity.addresses.flatMap((address) => networkAddress(model, address)),
    ports: entity.ports.map((port) => ({
      servicePort: port.port,
      targetPort: typeof port.targetPort === 'string' ? 0 : (port.targetPort ?? port.port),
      appProtocol: appProtocol(port.protocol),
    })),
    subjectAltNames: [...entity.subjectAltNames],
    ipFamilies: ipFamilies(entity),
    canonical: isCanonical(model, entity),
    ingressUseWaypoint: ingressUsesWaypoint(model, entity),
    ...(balancing === undefined ? {} : { loadBalancing: balancing }),
  });
}

function networkAddress(
  model: MeshModel,
  text: string,
): { network: string; address: Uint8Array; length?: number }[] {
  const [ip = '', length] = text.split('/');
  const address = parseIp(ip);
  if (address === undefined) return [];
  const at = { network: model.mesh.network, address };
  return [length === undefined ? at : { ...at, length: Number(length) }];
}

function ipFamilies(entity: ServiceEntity): IPFamilies {
  const families = entity.service?.spec?.ipFamilies ?? [];
  if (families.length > 1) return IPFamilies.DUAL;
  if (families[0] === 'IPv4') return IPFamilies.IPV4_ONLY;
  return families[0] === 'IPv6' ? IPFamilies.IPV6_ONLY : IPFamilies.AUTOMATIC;
}

// Kubernetes' services always; of several ServiceEntries with one host, the oldest.
function isCanonical(model: MeshModel, entity: ServiceEntity): boolean {
  if (entity.service !== undefined) return true;
  const rivals = model.servicesByHost.get(entity.hostname) ?? [];
  return rivals.every(
    (rival) =>
      rival === entity ||
      (rival.service === undefined &&
        (rival.created > entity.created ||
          (rival.created === entity.created && rival.key > entity.key))),
  );
}

function ingressUsesWaypoint(model: MeshModel, entity: ServiceEntity): boolean {
  const own = entity.labels[INGRESS_USE_WAYPOINT];
  const inherited = model.namespaces.get(entity.namespace)?.labels[INGRESS_USE_WAYPOINT];
  return (own ?? inherited) === 'true';
}

function loadBalancing(model: MeshModel, entity: ServiceEntity): LoadBalancing | undefined {
  const { spec } = entity.service ?? {};
  const healthPolicy =
    spec?.publishNotReadyAddresses === true || entity.isPassthrough
      ? LoadBalancing_HealthPolicy.ALLOW_ALL
      : LoadBalancing_HealthPolicy.ONLY_HEALTHY;
  if (entity.isPassthrough) {
    return create(LoadBalancingSchema, { mode: LoadBalancing_Mode.PASSTHROUGH, healthPolicy });
  }
  if (spec?.internalTrafficPolicy === 'Local') {
    const mode = LoadBalancing_Mode.STRICT;
    return create(LoadBalancingSchema, { mode, routingPreference: [NODE], healthPolicy });
  }
  const distribution =
    spec?.trafficDistribution ??
    entity.annotations[TRAFFIC_DISTRIBUTION] ??
    model.namespaces.get(entity.namespace)?.annotations[TRAFFIC_DISTRIBUTION] ??
    '';
  const preference = Object.hasOwn(PREFERENCES, distribution)
    ? PREFERENCES[distribution]
    : undefined;
  if (preference !== undefined) {
    const mode = LoadBalancing_Mode.FAILOVER;
    return create(LoadBalancingSchema, { mode, routingPreference: [...preference], healthPolicy });
  }
  return healthPolicy === LoadBalancing_HealthPolicy.ALLOW_ALL
    ? create(LoadBalancingSchema, { healthPolicy })
    : undefined;
}
