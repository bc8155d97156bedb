// The sockets of admin, metrics and readiness where a holder keeps them: probes and scrapes wait in the backlog while
// one proxy takes over from another, instead of being refused.
import type { EndpointConfig, EndpointSockets } from '../../common/telemetry/proxy-endpoints.ts';
import { openTcpListener } from '../../engine/reactor/socket-options.ts';
import type { HolderClient, TakenPod } from '../holder/holder-client.ts';
import { OWN_UID_PREFIX } from '../inpod/pod-starter.ts';

const UID = `${OWN_UID_PREFIX}endpoints`;
const NAMES = ['admin', 'stats', 'readiness'];
const NO_POD = { name: '', namespace: '', serviceAccount: '' };

/** Takes the sockets from the holder, or binds them and lets it keep them. */
export async function openEndpointSockets(
  holder: HolderClient,
  config: EndpointConfig & { readonly isIpv6: boolean },
): Promise<EndpointSockets> {
  const taken = await holder.take(UID);
  if (taken !== undefined) return named(taken);
  const host = config.isIpv6 ? '::' : '0.0.0.0';
  const bind = (address: string, port: number): number => openTcpListener({ address, port }).fd;
  const sockets = {
    admin: bind('127.0.0.1', config.adminPort),
    stats: bind(host, config.statsPort),
    readiness: bind(host, config.readinessPort),
  };
  const fds = [sockets.admin, sockets.stats, sockets.readiness];
  await holder.keep({ uid: UID, netnsId: '', pod: NO_POD, names: NAMES }, fds);
  return sockets;
}

function named({ fds }: TakenPod): EndpointSockets {
  const fd = (name: string): number => fds.get(name) ?? -1;
  return { admin: fd('admin'), stats: fd('stats'), readiness: fd('readiness') };
}
