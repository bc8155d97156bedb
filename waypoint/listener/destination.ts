// From a tunnel's `:authority` to what it means here. Only what is bound to this waypoint is served: our identity
// must not carry anybody to a workload that did not ask for us.
import { splitHostPort } from '../../common/workload/ip.ts';
import type { GatewayAddress, Workload } from '../../common/workload/model.ts';
import { serviceKey } from '../../common/workload/model.ts';
import type { WorkloadStore } from '../../common/workload/store.ts';
import type { L7Config } from '../state/l7-config.ts';
import type { Destination } from './connection-context.ts';
import { normalizeIp } from '../../common/workload/ip.ts';

/** The meaning, or why there is none. */
export type DestinationAnswer =
  | { readonly destination: Destination; readonly ip: string | undefined }
  | { readonly problem: 'bad_authority' | 'unknown_destination' | 'not_bound' | 'unknown_port' };

/** What the answer depends on. */
export interface DestinationSources {
  readonly store: WorkloadStore;
  readonly l7: L7Config;
  readonly network: string;
  /** This waypoint's Gateway. */
  readonly gatewayNamespace: string;
  readonly gatewayName: string;
}

/** Resolves `ip:port` or `hostname:port`. */
export function resolveDestination(
  authority: string,
  sources: DestinationSources,
): DestinationAnswer {
  const target = splitHostPort(authority);
  if (target === undefined) return { problem: 'bad_authority' };
  const { store, network } = sources;
  const ip = normalizeIp(target.host);
  const service =
    ip === undefined
      ? store.findServiceByHostname(target.host, sources.gatewayNamespace)
      : store.findServiceByVip(network, ip, sources.gatewayNamespace);
  if (service !== undefined) {
    const key = serviceKey(service);
    const config = sources.l7.service(key);
    if (config === undefined) return { problem: 'not_bound' };
    if (!config.ports.has(target.port)) return { problem: 'unknown_port' };
    return { destination: { kind: 'service', key, port: target.port }, ip };
  }
  const workload = ip === undefined ? undefined : store.findWorkload(network, ip);
  if (workload === undefined) return { problem: 'unknown_destination' };
  if (!usesThisWaypoint(workload, sources)) return { problem: 'not_bound' };
  return { destination: { kind: 'workload', workload, port: target.port }, ip };
}

function usesThisWaypoint(workload: Workload, sources: DestinationSources): boolean {
  const { waypoint } = workload;
  if (waypoint === undefined) return false;
  const { gatewayName, gatewayNamespace } = sources;
  const named = nameOf(waypoint, sources);
  return named?.namespace === gatewayNamespace && named.name === gatewayName;
}

function nameOf(
  waypoint: GatewayAddress,
  { store }: DestinationSources,
): { namespace: string; name: string } | undefined {
  if (waypoint.kind === 'hostname') {
    return { namespace: waypoint.namespace, name: waypoint.hostname.split('.')[0] ?? '' };
  }
  const service = store.findServiceByVip(waypoint.network, waypoint.ip);
  return service && { namespace: service.namespace, name: service.name };
}
