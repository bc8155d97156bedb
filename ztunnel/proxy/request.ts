// Decides what to do with an outbound connection (ztunnel-spec 4.1). Pure: the store and a random source in, a
// decision out; `outbound.ts` acts on it. Every refusal carries a stable reason code.
import { chooseEndpoint } from '../../common/workload/load-balance.ts';
import { isIpv6, isLoopback, joinHostPort } from '../../common/workload/ip.ts';
import { serviceKey, workloadIdentity } from '../../common/workload/model.ts';
import type { GatewayAddress, Service, Workload } from '../../common/workload/model.ts';
import { allowsFamily } from '../../common/workload/store.ts';
import type { WorkloadStore } from '../../common/workload/store.ts';
import type { RefusalReason } from './reasons.ts';

/** Ports of our own listeners: a connection to them through us would loop. */
export const ILLEGAL_PORTS: ReadonlySet<number> = new Set([15001, 15006, 15008]);
const HBONE_PORT = 15008;

/** An address as the application dialled it. */
export interface OriginalDst {
  readonly ip: string;
  readonly port: number;
}

/** What the decision looks at. */
export interface RequestContext {
  readonly store: WorkloadStore;
  /** The pod whose connection this is. */
  readonly source: Workload;
  readonly destination: OriginalDst;
  readonly random: () => number;
  /** Workloads (uid) whose connect failed for this connection. */
  readonly exclude?: ReadonlySet<string>;
}

/** Where a connection goes in the end: labels and log fields. */
export interface RequestTarget {
  /** The workload we connect to: an endpoint, or a waypoint's pod. */
  readonly workload: Workload | undefined;
  /** The service the application addressed. */
  readonly service: Service | undefined;
}

/** The decision. `address` and `port` are what we connect to. */
export type RequestDecision =
  | (RequestTarget & {
      readonly kind: 'hbone';
      readonly address: string;
      readonly port: number;
      readonly authority: string;
      /** Host of the `forwarded` header. */
      readonly expectedIdentities: readonly string[];
      readonly hop: 'workload' | 'waypoint';
    })
  | (RequestTarget & { readonly kind: 'tcp'; readonly address: string; readonly port: number })
  | {
      readonly kind: 'passthrough';
      readonly address: string;
      readonly port: number;
      readonly workload: undefined;
      readonly service: undefined;
    }
  | (RequestTarget & {
      readonly kind: 'refuse';
      readonly reason: RefusalReason;
      readonly detail: string;
    });

/** Decides. Never throws. */
export function buildRequest(context: RequestContext): RequestDecision {
  const { store, source, destination } = context;
  if (isLoopback(destination.ip) && ILLEGAL_PORTS.has(destination.port)) {
    return refuse('recursive_call', `recursive call to ${formatDst(destination)}`);
  }
  const service = store.findServiceByVip(source.network, destination.ip, source.namespace);
  if (service !== undefined) return buildServiceRequest(context, service);
  const workload = store.findWorkload(source.network, destination.ip);
  if (workload === undefined) return passthrough(destination);
  if (workload.waypoint !== undefined && !isWaypointItself(store, workload.waypoint, source)) {
    return buildWaypointRequest(context, workload.waypoint, undefined);
  }
  return buildEndpointRequest(context, { workload, port: destination.port }, undefined);
}

function buildServiceRequest(context: RequestContext, service: Service): RequestDecision {
  const { store, source, destination, random } = context;
  const waypoint = sampleWaypoint(service, random);
  if (waypoint !== undefined && !isWaypointItself(store, waypoint, source)) {
    return buildWaypointRequest(context, waypoint, service);
  }
  if (service.loadBalancer.mode === 'PASSTHROUGH') return passthrough(destination);
  const chosen = chooseEndpoint(store, {
    service,
    servicePort: destination.port,
    source,
    random,
    ...(context.exclude === undefined ? {} : { exclude: context.exclude }),
  });
  if (chosen === undefined) {
    const detail = `no healthy upstream for ${service.hostname}:${destination.port}`;
    return refuse('no_healthy_upstream', detail, { service });
  }
  return buildEndpointRequest(context, chosen, service);
}

/** The waypoint of a service: one of the weighted set, else the plain one. */
function sampleWaypoint(service: Service, random: () => number): GatewayAddress | undefined {
  const total = service.weightedWaypoints.reduce((sum, { weight }) => sum + weight, 0);
  if (total === 0) return service.waypoint;
  let at = random() * total;
  for (const { destination, weight } of service.weightedWaypoints) {
    at -= weight;
    if (at < 0) return destination;
  }
  return service.waypoint;
}

/** A waypoint's own connections are not sent to it again. */
function isWaypointItself(
  store: WorkloadStore,
  waypoint: GatewayAddress,
  source: Workload,
): boolean {
  const found = store.findGateway(waypoint);
  if (found === undefined) return false;
  if (found.kind === 'workload') return found.workload.uid === source.uid;
  return store.endpoints(serviceKey(found.service)).has(source.uid);
}

function buildWaypointRequest(
  context: RequestContext,
  gateway: GatewayAddress,
  service: Service | undefined,
): RequestDecision {
  const { store, source, destination, random } = context;
  const found = store.findGateway(gateway);
  const name = gateway.kind === 'hostname' ? gateway.hostname : gateway.ip;
  if (found === undefined) {
    return refuse('unknown_waypoint', `waypoint ${name} is not known`, { service });
  }
  const chosen =
    found.kind === 'workload'
      ? { workload: found.workload, port: gateway.port }
      : chooseEndpoint(store, {
          service: found.service,
          servicePort: gateway.port,
          source,
          random,
          isWaypoint: true,
          ...(context.exclude === undefined ? {} : { exclude: context.exclude }),
        });
  if (chosen === undefined) {
    const detail = `waypoint ${name} has no healthy endpoint`;
    return refuse('no_healthy_waypoint', detail, { service });
  }
  const { workload, port } = chosen;
  const target = { workload, service };
  if (workload.network !== source.network) {
    return refuse('cross_network', `waypoint ${name} is in network ${workload.network}`, target);
  }
  const waypointService = found.kind === 'service' ? found.service : undefined;
  const address = pickIp(workload, destination.ip, waypointService);
  if (address === undefined) {
    return refuse('no_address', `waypoint ${workload.name} has no address`, target);
  }
  return {
    kind: 'hbone',
    address,
    port,
    authority: formatDst(destination),
    expectedIdentities: expectedIdentities(workload, waypointService),
    hop: 'waypoint',
    ...target,
  };
}

function buildEndpointRequest(
  context: RequestContext,
  chosen: { readonly workload: Workload; readonly port: number },
  service: Service | undefined,
): RequestDecision {
  const { source, destination } = context;
  const { workload, port } = chosen;
  const target = { workload, service };
  if (workload.network !== source.network) {
    return refuse('cross_network', `${workload.name} is in network ${workload.network}`, target);
  }
  const address = pickIp(workload, destination.ip, service);
  if (address === undefined) {
    return refuse('no_address', `${workload.name} has no usable address`, target);
  }
  if (workload.protocol === 'TCP') return { kind: 'tcp', address, port, ...target };
  return {
    kind: 'hbone',
    address,
    port: HBONE_PORT,
    authority: joinHostPort(address, port),
    expectedIdentities: expectedIdentities(workload, service),
    hop: 'workload',
    ...target,
  };
}

function expectedIdentities(workload: Workload, service: Service | undefined): string[] {
  return [...(service?.subjectAltNames ?? []), workloadIdentity(workload)];
}

/** The dialled address if the workload has it, else one of an allowed family, the dialled family first. */
function pickIp(
  workload: Workload,
  dialled: string,
  service: Service | undefined,
): string | undefined {
  if (workload.ips.includes(dialled)) return dialled;
  const families = service?.ipFamilies ?? 'AUTOMATIC';
  const allowed = workload.ips.filter((ip) => allowsFamily(families, ip));
  return allowed.find((ip) => isIpv6(ip) === isIpv6(dialled)) ?? allowed[0];
}

function passthrough(destination: OriginalDst): RequestDecision {
  return {
    kind: 'passthrough',
    address: destination.ip,
    port: destination.port,
    workload: undefined,
    service: undefined,
  };
}

function refuse(
  reason: RefusalReason,
  detail: string,
  target: Partial<RequestTarget> = {},
): RequestDecision {
  return { kind: 'refuse', reason, detail, workload: target.workload, service: target.service };
}

function formatDst(destination: OriginalDst): string {
  return joinHostPort(destination.ip, destination.port);
}
