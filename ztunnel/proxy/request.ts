// Decides what to do with an outbound connection. Pure: the store and a random source in, a
// decision out; `outbound.ts` acts on it. Every refusal carries a stable reason code.
import { chooseEndpoint } from '../../common/workload/load-balance.ts';
import { isIpv6, isLoopback, joinHostPort } from '../../common/workload/ip.ts';
import { serviceKey, workloadIdentity } from '../../common/workload/model.ts';
import type { GatewayAddress, Service, Workload } from '../../common/workload/model.ts';
import { allowsFamily } from '../../common/workload/store.ts';
import type { WorkloadStore } from '../../common/workload/store.ts';
import type { RefusalReason } from './reasons.ts';

const OWN_PORTS: ReadonlySet<number> = new Set([15001, 15006, 15008]);
const HBONE_PORT = 15008;
const SOCKS5_PORT = 15080;

/** Whether a port is one of our listeners': a connection to it through us would loop. */
export function isOwnPort(port: number, isSocks5 = false): boolean {
  return OWN_PORTS.has(port) || (isSocks5 && port === SOCKS5_PORT);
}

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
  /** There is a SOCKS5 listener, whose port is then one of ours. */
  readonly isSocks5?: boolean;
  /** Addresses of a hostname as far as they are known; undefined asks for them (`resolve`). */
  readonly addressesOf?: (hostname: string) => readonly string[] | undefined;
}

/** Where a connection goes in the end: labels and log fields. */
export interface RequestTarget {
  /** The workload we connect to: an endpoint, or the pod of a waypoint or network gateway. */
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
  /** A tunnel to the gateway of another network, and in it one to the destination or its waypoint. */
  | (RequestTarget & {
      readonly kind: 'double_hbone';
      readonly address: string;
      readonly port: number;
      /** `service hostname:service port`, of both tunnels. */
      readonly authority: string;
      /** Of the gateway. */
      readonly expectedIdentities: readonly string[];
      /** Of whoever ends the inner tunnel. */
      readonly innerIdentities: readonly string[];
      /** The endpoint or waypoint of the other network for which the gateway was taken. */
      readonly remote: Workload;
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
  /** The endpoint is known by name only: decide again when `addressesOf` has its addresses. */
  | (RequestTarget & { readonly kind: 'resolve'; readonly hostname: string })
  | (RequestTarget & {
      readonly kind: 'refuse';
      readonly reason: RefusalReason;
      readonly detail: string;
    });

/** A decision to connect. */
export type ConnectDecision = Exclude<RequestDecision, { kind: 'refuse' | 'resolve' }>;

/** A pod to connect to, the port there, and the service through which it was chosen. */
interface Upstream {
  readonly workload: Workload;
  readonly port: number;
  readonly service: Service | undefined;
}

/** Decides. Never throws. */
export function buildRequest(context: RequestContext): RequestDecision {
  const { store, source, destination, isSocks5 = false } = context;
  if (isLoopback(destination.ip) && isOwnPort(destination.port, isSocks5)) {
    return refuse('recursive_call', `recursive call to ${formatDst(destination)}`);
  }
  const service = store.findServiceByVip(source.network, destination.ip, source.namespace);
  if (service !== undefined) return buildServiceRequest(context, service);
  const workload = store.findWorkload(source.network, destination.ip);
  if (workload === undefined) return passthrough(destination);
  if (workload.waypoint !== undefined && !isPartOf(store, workload.waypoint, source)) {
    return buildWaypointRequest(context, workload.waypoint, undefined);
  }
  const { port } = destination;
  return buildEndpointRequest(context, { workload, port, service: undefined }, undefined);
}

function buildServiceRequest(context: RequestContext, service: Service): RequestDecision {
  const { store, source, destination, random } = context;
  const waypoint = sampleWaypoint(service, random);
  if (waypoint !== undefined && !isOwnWaypoint(store, service, source)) {
    return buildWaypointRequest(context, waypoint, service);
  }
  if (service.loadBalancer.mode === 'PASSTHROUGH') return passthrough(destination);
  const exclude = new Set(context.exclude);
  for (let last: RequestDecision | undefined; ;) {
    const query = { service, servicePort: destination.port, source, random, exclude };
    const chosen = chooseEndpoint(store, query);
    if (chosen === undefined) {
      const detail = `no healthy upstream for ${service.hostname}:${destination.port}`;
      return last ?? refuse('no_healthy_upstream', detail, { service });
    }
    const decision = buildEndpointRequest(context, { ...chosen, service }, service);
    if (decision.kind !== 'refuse') return decision;
    // Beyond a gateway that is not there, or without an address: another endpoint may do.
    last ??= decision;
    exclude.add(chosen.workload.uid);
  }
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

/** A waypoint's own connections are not sent to it again, nor to another waypoint of the set. */
function isOwnWaypoint(store: WorkloadStore, service: Service, source: Workload): boolean {
  if (service.waypoint !== undefined && isPartOf(store, service.waypoint, source)) return true;
  return service.weightedWaypoints.some(({ destination }) => isPartOf(store, destination, source));
}

function isPartOf(store: WorkloadStore, waypoint: GatewayAddress, source: Workload): boolean {
  const found = store.findGateway(waypoint);
  if (found === undefined) return false;
  if (found.kind === 'workload') return found.workload.uid === source.uid;
  return store.endpoints(serviceKey(found.service)).has(source.uid);
}

function buildWaypointRequest(
  context: RequestContext,
  reference: GatewayAddress,
  service: Service | undefined,
): RequestDecision {
  const { store, source, destination } = context;
  const name = nameOf(reference);
  if (store.findGateway(reference) === undefined) {
    return refuse('unknown_waypoint', `waypoint ${name} is not known`, { service });
  }
  const waypoint = followReference(context, reference);
  if (waypoint === undefined) {
    const detail = `waypoint ${name} has no healthy endpoint`;
    return refuse('no_healthy_waypoint', detail, { service });
  }
  const { workload, port } = waypoint;
  if (workload.network !== source.network) {
    return buildRemoteRequest(context, waypoint, service, 'waypoint');
  }
  const address = pickReferenceIp(waypoint, reference, destination);
  if (address === undefined) {
    const target = { workload, service };
    return refuse('no_address', `waypoint ${workload.name} has no address`, target);
  }
  return {
    kind: 'hbone',
    address,
    port,
    authority: formatDst(destination),
    expectedIdentities: expectedIdentities(waypoint),
    hop: 'waypoint',
    workload,
    service,
  };
}

/** A pod of a waypoint or of a network gateway. */
function followReference(
  context: RequestContext,
  reference: GatewayAddress,
  isGateway = false,
): Upstream | undefined {
  const { store, source, random, exclude } = context;
  const found = store.findGateway(reference);
  if (found === undefined) return undefined;
  if (found.kind === 'workload') {
    return { workload: found.workload, port: reference.port, service: undefined };
  }
  const { service } = found;
  const chosen = chooseEndpoint(store, {
    service,
    servicePort: reference.port,
    source,
    random,
    isWaypoint: true,
    isGateway,
    ...(exclude === undefined ? {} : { exclude }),
  });
  return chosen && { ...chosen, service };
}

/** A reference by address decides the family itself; one by name leaves it to the application's choice. */
function pickReferenceIp(
  { workload, service }: Upstream,
  reference: GatewayAddress,
  destination: OriginalDst,
): string | undefined {
  const wanted = reference.kind === 'address' ? reference.ip : destination.ip;
  return pickIp(workload, wanted, service);
}

/** To an endpoint or waypoint in another network: only for services, and only through that network's gateway. */
function buildRemoteRequest(
  context: RequestContext,
  upstream: Upstream,
  service: Service | undefined,
  hop: 'workload' | 'waypoint',
): RequestDecision {
  const { store, destination } = context;
  const { workload } = upstream;
  const target = { workload, service };
  const reference = workload.networkGateway;
  if (service === undefined || reference === undefined) {
    return refuse('cross_network', `${workload.name} is in network ${workload.network}`, target);
  }
  const gateway = followReference(context, reference, true);
  const address = gateway && pickReferenceIp(gateway, reference, destination);
  const isTried = gateway !== undefined && context.exclude?.has(gateway.workload.uid) === true;
  if (gateway === undefined || address === undefined || isTried) {
    const detail = `network ${workload.network} has no usable gateway ${nameOf(reference)}`;
    return refuse('no_healthy_gateway', detail, target);
  }
  return {
    kind: 'double_hbone',
    address,
    port: gateway.port,
    authority: joinHostPort(service.hostname, destination.port),
    expectedIdentities: expectedIdentities(gateway),
    innerIdentities: remoteIdentities(store, upstream),
    remote: workload,
    hop,
    workload: gateway.workload,
    service,
  };
}

/**
 * Who may end an inner tunnel. The gateway chooses the pod, so it is any of the service in that network: by the
 * service's names, and by the identities of the endpoints known there (a record for many has no account).
 */
function remoteIdentities(store: WorkloadStore, upstream: Upstream): string[] {
  const { workload, service } = upstream;
  const found = new Set(service?.subjectAltNames);
  const all = service === undefined ? [workload] : store.endpoints(serviceKey(service)).values();
  for (const endpoint of all) {
    if (endpoint.network !== workload.network || endpoint.serviceAccount === '') continue;
    found.add(workloadIdentity(endpoint));
  }
  return [...found];
}

function buildEndpointRequest(
  context: RequestContext,
  upstream: Upstream,
  service: Service | undefined,
): RequestDecision {
  const { source } = context;
  const { workload, port } = upstream;
  if (workload.network !== source.network) {
    return buildRemoteRequest(context, upstream, service, 'workload');
  }
  const target = { workload, service };
  let address = pickIp(workload, context.destination.ip, service);
  if (address === undefined && workload.hostname !== '') {
    const known = context.addressesOf?.(workload.hostname);
    if (known === undefined) return { kind: 'resolve', hostname: workload.hostname, ...target };
    address = pickResolved(context, known);
  }
  if (address === undefined) {
    return refuse('no_address', `${workload.name} has no usable address`, target);
  }
  if (workload.protocol === 'TCP') return { kind: 'tcp', address, port, ...target };
  return {
    kind: 'hbone',
    address,
    port: HBONE_PORT,
    authority: joinHostPort(address, port),
    expectedIdentities: expectedIdentities(upstream),
    hop: 'workload',
    ...target,
  };
}

function expectedIdentities({ workload, service }: Upstream): string[] {
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

/** Any of a hostname's addresses, of the dialled family if there are some. */
function pickResolved(
  { destination, random }: RequestContext,
  known: readonly string[],
): string | undefined {
  const same = known.filter((ip) => isIpv6(ip) === isIpv6(destination.ip));
  const usable = same.length > 0 ? same : known;
  return usable[Math.floor(random() * usable.length)];
}

function nameOf(reference: GatewayAddress): string {
  return reference.kind === 'hostname' ? reference.hostname : reference.ip;
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
