// The DNS sockets of one pod, made in its network namespace: UDP and TCP on each address (the loopback ones by
// default). Plain descriptors with a name, so that a holder process can keep them while proxies come and go.
import { readFileSync } from 'node:fs';
import { isIpv6, isLoopback } from '../../common/workload/ip.ts';
import { runInNetns } from '../../engine/reactor/netns.ts';
import type { Netns } from '../../engine/reactor/netns.ts';
import { openTcpListener, openUdpSocket } from '../../engine/reactor/socket-options.ts';
import { closeDescriptor } from '../../engine/reactor/tcp-stream.ts';
import type { DnsTransport } from './upstream-attempt.ts';

const TCP_BACKLOG = 128;
const NAME = /^dns\/(udp|tcp)\/([46])$/;

/** A bound socket; who has it owns the descriptor. */
export interface DnsSocket {
  readonly transport: DnsTransport;
  readonly family: 4 | 6;
  readonly fd: number;
}

/** How sockets are made. */
export interface DnsSocketOptions {
  readonly addresses: readonly string[];
  readonly port: number;
  readonly mark: number | undefined;
  readonly isPortReuse: boolean;
}

/** Binds them; throws with nothing left open. `::1` is left out where the namespace has none. */
export function openDnsSockets(netns: Netns | undefined, options: DnsSocketOptions): DnsSocket[] {
  const sockets: DnsSocket[] = [];
  const hasIpv6 = runInNetns(netns, hasLoopbackIpv6);
  try {
    for (const address of options.addresses) {
      const isV6 = isIpv6(address);
      if (isV6 && isLoopback(address) && !hasIpv6) continue;
      const bound = {
        address,
        reusePort: options.isPortReuse,
        // The wildcard stands alone where it is configured: it takes IPv4 too.
        v6Only: isV6 && address !== '::',
        backlog: TCP_BACKLOG,
        ...(netns === undefined ? {} : { netns }),
        ...(options.mark === undefined ? {} : { mark: options.mark }),
      };
      const family = isV6 ? 6 : 4;
      const { fd, port } = openUdpSocket({ ...bound, port: options.port });
      sockets.push({ transport: 'udp', family, fd });
      sockets.push({ transport: 'tcp', family, fd: openTcpListener({ ...bound, port }).fd });
    }
  } catch (err) {
    closeDnsSockets(sockets);
    throw err;
  }
  return sockets;
}

/** Closes them all. */
export function closeDnsSockets(sockets: readonly DnsSocket[]): void {
  for (const { fd } of sockets) closeDescriptor(fd);
}

/** A socket's name for the holder. */
export function dnsSocketName({ transport, family }: DnsSocket): string {
  return `dns/${transport}/${family}`;
}

/** The sockets among held descriptors. */
export function dnsSocketsOf(fds: Iterable<readonly [string, number]>): DnsSocket[] {
  const sockets: DnsSocket[] = [];
  for (const [name, fd] of fds) {
    const [, transport, family] = NAME.exec(name) ?? [];
    if (transport === undefined) continue;
    sockets.push({
      transport: transport === 'udp' ? 'udp' : 'tcp',
      family: family === '4' ? 4 : 6,
      fd,
    });
  }
  return sockets;
}

/** Whether this namespace has ::1; assumed when it cannot be read. */
function hasLoopbackIpv6(): boolean {
  try {
    return readFileSync('/proc/sys/net/ipv6/conf/lo/disable_ipv6', 'utf8').trim() !== '1';
  } catch {
    return true;
  }
}
