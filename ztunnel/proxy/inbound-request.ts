// Decides what an inbound HBONE CONNECT is for: is the authority ours, which port of the pod
// is meant, and what an application tunnel is told. Pure. The address is always the pod's own, or its loopback for an
// application tunnel; only the port comes from the request.
import { isIP } from 'node:net';
import { isIpv6, joinHostPort, normalizeIp, splitHostPort } from '../../common/workload/ip.ts';
import { findTargetPort, serviceKey } from '../../common/workload/model.ts';
import type { Service, Workload } from '../../common/workload/model.ts';
import type { WorkloadStore } from '../../common/workload/store.ts';
import type { FailureReason } from './reasons.ts';
import { isOwnPort } from './request.ts';
import type { OriginalDst } from './request.ts';

/** What the decision looks at. */
export interface InboundContext {
  readonly store: WorkloadStore;
  /** The pod whose listener took the connection. */
  readonly workload: Workload;
  readonly authority: string;
  /** Local address of the tunnel's TCP connection. */
  readonly localIp: string;
  readonly isSocks5?: boolean;
  /** Application tunnels with PROXY protocol are dialled on loopback. Default true. */
  readonly isTunnelOnLoopback?: boolean;
}

/** Where to dial, or the HTTP status to answer. */
export type InboundDecision =
  | {
      readonly kind: 'accept';
      readonly address: string;
      readonly port: number;
      readonly service: Service | undefined;
      /** The destination that a PROXY header names; undefined: no header. */
      readonly proxyTarget: OriginalDst | undefined;
    }
  | {
      readonly kind: 'refuse';
      readonly status: 400 | 503;
      readonly reason: FailureReason;
      readonly detail: string;
    };

/** Decides. Never throws. */
export function buildInboundRequest(context: InboundContext): InboundDecision {
  const { authority, localIp, workload, isSocks5 = false, isTunnelOnLoopback = true } = context;
  const target = splitHostPort(authority);
  if (target === undefined) return refuse(400, 'bad_authority', `bad authority "${authority}"`);
  const ip = normalizeIp(target.host);
  // A zone means something on the machine that wrote it only.
  if (ip === undefined && isIP(target.host) !== 0) {
    return refuse(400, 'bad_authority', `address with a zone "${authority}"`);
  }
  if (ip !== undefined && !isForUs(context, ip)) {
    return refuse(400, 'ip_mismatch', `ip mismatch: ${localIp} != ${target.host}`);
  }
  const resolved =
    ip === undefined
      ? resolveHostname(context, target.host, target.port)
      : { port: target.port, service: serviceOfPort(context, target.port) };
  if (resolved === undefined) {
    return refuse(503, 'unknown_destination', `no port of this workload for ${authority}`);
  }
  if (isOwnPort(resolved.port, isSocks5)) {
    const detail = `recursive call to ${joinHostPort(localIp, resolved.port)}`;
    return refuse(503, 'recursive_call', detail);
  }
  const tunnel = workload.applicationTunnel;
  const port = tunnel !== undefined && tunnel.port > 0 ? tunnel.port : resolved.port;
  const { service } = resolved;
  if (tunnel?.protocol !== 'PROXY') {
    return { kind: 'accept', address: localIp, port, service, proxyTarget: undefined };
  }
  const proxyIp = ip ?? vipOf(service, workload.network);
  if (proxyIp === undefined) {
    return refuse(503, 'unknown_destination', `${target.host} has no address to tell the tunnel`);
  }
  const loopback = isIpv6(localIp) ? '::1' : '127.0.0.1';
  return {
    kind: 'accept',
    address: isTunnelOnLoopback ? loopback : localIp,
    port,
    service,
    proxyTarget: { ip: proxyIp, port: target.port },
  };
}

/** The address that stands for a service in a PROXY header: of our network, IPv4 before IPv6, else any. */
function vipOf(service: Service | undefined, network: string): string | undefined {
  const vips = service?.vips ?? [];
  const own = vips.filter((vip) => vip.network === network);
  return (own.find(({ ip }) => !isIpv6(ip)) ?? own[0] ?? vips[0])?.ip;
}

function isForUs(context: InboundContext, ip: string): boolean {
  const { store, workload, localIp } = context;
  if (ip === localIp || workload.applicationTunnel !== undefined) return true;
  // A waypoint in front of the addressed workload or service may be this very pod (sandwich).
  const service = store.findServiceByVip(workload.network, ip);
  const references = [
    service?.waypoint,
    ...(service?.weightedWaypoints.map(({ destination }) => destination) ?? []),
    store.findWorkload(workload.network, ip)?.waypoint,
  ];
  return references.some((reference) => {
    const gateway = reference && store.findGateway(reference);
    if (gateway === undefined) return false;
    if (gateway.kind === 'workload') return gateway.workload.ips.includes(localIp);
    return store.endpoints(serviceKey(gateway.service)).has(workload.uid);
  });
}

/** The workload's own service that has this target port, for labels. */
function serviceOfPort(context: InboundContext, port: number): Service | undefined {
  const { store, workload } = context;
  for (const [key, ports] of Object.entries(workload.services)) {
    const service = store.service(key);
    if (service === undefined) continue;
    const hasPort = [...ports, ...service.ports].some(({ targetPort }) => targetPort === port);
    if (hasPort) return service;
  }
  return undefined;
}

function resolveHostname(
  context: InboundContext,
  hostname: string,
  servicePort: number,
): { port: number; service: Service } | undefined {
  const { store, workload } = context;
  const service = store.findServiceByHostname(hostname, workload.namespace);
  if (service === undefined) return undefined;
  const own = findTargetPort(workload.services[serviceKey(service)] ?? [], servicePort);
  // 0 is a named port: the endpoint says which.
  const port = own !== undefined && own > 0 ? own : findTargetPort(service.ports, servicePort);
  return port === undefined || port === 0 ? undefined : { port, service };
}

function refuse(status: 400 | 503, reason: FailureReason, detail: string): InboundDecision {
  return { kind: 'refuse', status, reason, detail };
}
