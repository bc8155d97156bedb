// Decides what an inbound HBONE CONNECT is for (ztunnel-spec 4.3): is the authority ours, and which port of the pod
// is meant. Pure. The address is always the pod's own; only the port comes from the request.
import { isIP } from 'node:net';
import { joinHostPort, normalizeIp, splitHostPort } from '../../common/workload/ip.ts';
import { findTargetPort, serviceKey } from '../../common/workload/model.ts';
import type { Service, Workload } from '../../common/workload/model.ts';
import type { WorkloadStore } from '../../common/workload/store.ts';
import type { FailureReason } from './reasons.ts';
import { ILLEGAL_PORTS } from './request.ts';

/** What the decision looks at. */
export interface InboundContext {
  readonly store: WorkloadStore;
  /** The pod whose listener took the connection. */
  readonly workload: Workload;
  readonly authority: string;
  /** Local address of the tunnel's TCP connection. */
  readonly localIp: string;
}

/** Where to dial, or the HTTP status to answer. */
export type InboundDecision =
  | { readonly kind: 'accept'; readonly port: number; readonly service: Service | undefined }
  | {
      readonly kind: 'refuse';
      readonly status: 400 | 503;
      readonly reason: FailureReason;
      readonly detail: string;
    };

/** Decides. Never throws. */
export function buildInboundRequest(context: InboundContext): InboundDecision {
  const { authority, localIp, workload } = context;
  const target = splitHostPort(authority);
  if (target === undefined) return refuse(400, 'bad_authority', `bad authority "${authority}"`);
  const isAddress = isIP(target.host) !== 0;
  if (isAddress && !isForUs(context, normalizeIp(target.host) ?? target.host)) {
    return refuse(400, 'ip_mismatch', `ip mismatch: ${localIp} != ${target.host}`);
  }
  const resolved = isAddress
    ? { port: target.port, service: serviceOfPort(context, target.port) }
    : resolveHostname(context, target.host, target.port);
  if (resolved === undefined) {
    return refuse(503, 'unknown_destination', `no port of this workload for ${authority}`);
  }
  if (ILLEGAL_PORTS.has(resolved.port)) {
    const detail = `recursive call to ${joinHostPort(localIp, resolved.port)}`;
    return refuse(503, 'recursive_call', detail);
  }
  const tunnel = workload.applicationTunnel;
  const port = tunnel !== undefined && tunnel.port > 0 ? tunnel.port : resolved.port;
  return { kind: 'accept', port, service: resolved.service };
}

function isForUs(context: InboundContext, ip: string): boolean {
  const { store, workload, localIp } = context;
  if (ip === localIp || workload.applicationTunnel !== undefined) return true;
  // A waypoint in front of the addressed workload or service may be this very pod (sandwich).
  const service = store.findServiceByVip(workload.network, ip);
  const reference = service?.waypoint ?? store.findWorkload(workload.network, ip)?.waypoint;
  const gateway = reference && store.findGateway(reference);
  if (gateway === undefined) return false;
  if (gateway.kind === 'workload') return gateway.workload.ips.includes(localIp);
  return store.endpoints(serviceKey(gateway.service)).has(workload.uid);
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
  const port = own ?? findTargetPort(service.ports, servicePort);
  return port === undefined || port === 0 ? undefined : { port, service };
}

function refuse(status: 400 | 503, reason: FailureReason, detail: string): InboundDecision {
  return { kind: 'refuse', status, reason, detail };
}
