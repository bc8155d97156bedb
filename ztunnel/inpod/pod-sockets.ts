// The listening sockets of a pod, made in its network namespace on the control thread. They are plain descriptors with
// a name, so that a holder process (ztunnel/holder) can keep them while proxies come and go.
import { writeFileSync } from 'node:fs';
import { errorMessage } from '../../common/errors.ts';
import type { Netns } from '../../engine/reactor/netns.ts';
import { duplicateDescriptor, openTcpListener } from '../../engine/reactor/socket-options.ts';
import { closeDescriptor } from '../../engine/reactor/tcp-stream.ts';
import { keepaliveOf, type KeepaliveConfig } from '../proxy/keepalive.ts';

export const OUTBOUND_PORT = 15001;
export const PLAINTEXT_PORT = 15006;
export const HBONE_PORT = 15008;
export const SOCKS5_PORT = 15080;

/** As Istio's: tunnels have PING instead. */
const KEPT_ALIVE: ReadonlySet<number> = new Set([OUTBOUND_PORT, PLAINTEXT_PORT]);
const TCP_PORTS = [OUTBOUND_PORT, PLAINTEXT_PORT, HBONE_PORT];

/** A listening socket; who has it owns the descriptor. */
export interface PodSocket {
  readonly port: number;
  readonly fd: number;
}

/** The parts of the configuration that sockets depend on. */
export interface PodSocketOptions extends KeepaliveConfig {
  readonly packetMark: number | undefined;
  readonly isSourcePreserved: boolean;
  readonly isPortReuse: boolean;
  readonly isIpv6: boolean;
  readonly isSocks5: boolean;
}

/** Binds all ports of a pod; throws with nothing left open. */
export function openPodSockets(netns: Netns, options: PodSocketOptions): PodSocket[] {
  const sockets: PodSocket[] = [];
  if (options.isPortReuse) migrateBacklogs(netns);
  try {
    const ports = options.isSocks5 ? [...TCP_PORTS, SOCKS5_PORT] : TCP_PORTS;
    for (const port of ports) sockets.push({ port, fd: bind(netns, port, options) });
  } catch (err) {
    closePodSockets(sockets);
    throw err;
  }
  return sockets;
}

/** Second descriptors of the same sockets, for another owner; throws with none left open. */
export function duplicatePodSockets(sockets: readonly PodSocket[]): PodSocket[] {
  const copies: PodSocket[] = [];
  try {
    for (const { port, fd } of sockets) copies.push({ port, fd: duplicateDescriptor(fd) });
  } catch (err) {
    closePodSockets(copies);
    throw err;
  }
  return copies;
}

/** Closes them all. */
export function closePodSockets(sockets: readonly PodSocket[]): void {
  for (const { fd } of sockets) closeDescriptor(fd);
}

function bind(netns: Netns, port: number, options: PodSocketOptions): number {
  const bound = {
    port,
    netns,
    // What is redirected here needs no mark: with one, the pod's rules would restore it on every packet of the connection,
    // the application's too, and the kernel would route each of them anew.
    mark: port === HBONE_PORT ? options.packetMark : undefined,
    transparent: options.isSourcePreserved,
    reusePort: options.isPortReuse,
    // What is accepted inherits it.
    ...(KEPT_ALIVE.has(port) ? keepaliveOf(options) : {}),
  };
  // Only for the pod itself.
  if (port === SOCKS5_PORT) return openTcpListener({ ...bound, address: '127.0.0.1' }).fd;
  if (!options.isIpv6) return openTcpListener({ ...bound, address: '0.0.0.0' }).fd;
  try {
    return openTcpListener({ ...bound, address: '::' }).fd;
  } catch (err) {
    // A pod may have IPv6 turned off where its node has it.
    if (!/EADDRNOTAVAIL|EAFNOSUPPORT/.test(errorMessage(err))) throw err;
    return openTcpListener({ ...bound, address: '0.0.0.0' }).fd;
  }
}

/**
 * When two proxies share the ports (SO_REUSEPORT) and one closes its socket, what waits in that backlog moves to the
 * other. Where /proc/sys is read-only the node agent has done it, or connections of that instant are reset.
 */
function migrateBacklogs(netns: Netns): void {
  try {
    netns.runSync(() => writeFileSync('/proc/sys/net/ipv4/tcp_migrate_req', '1'));
  } catch {
    // See above: not worth a failed start.
  }
}
