// One try of one question at one name server, over UDP or TCP, from the pod's network namespace with the proxy's
// mark, so that the pod's NetworkPolicy applies and the packets are not redirected again. Every try has a socket and
// so a random source port of its own, and takes answers from that server only.
import { createSocket } from 'node:dgram';
import { Socket } from 'node:net';
import { frameMessage, MessageReader } from '../../common/dns/tcp-framing.ts';
import { isIpv6, isLoopback } from '../../common/workload/ip.ts';
import type { Netns } from '../../engine/reactor/netns.ts';
import { openUdpSocket } from '../../engine/reactor/socket-options.ts';
import { startTcpConnect } from '../../engine/reactor/tcp-connect.ts';
import type { NameServer } from './upstream-servers.ts';

export type DnsTransport = 'udp' | 'tcp';

/** Where the packets leave from. */
export interface UpstreamOrigin {
  /** The pod's; undefined for this process's own. */
  readonly netns: Netns | undefined;
  readonly mark: number | undefined;
}

/** How a try ends; messages may be forged or late and are judged by the caller. */
export interface AttemptEvents {
  onMessage(message: Buffer): void;
  onFailure(err: Error): void;
}

/** Sends `query` to a server. Failures come by `onFailure`, later. Call the returned function to end the try. */
export function startAttempt(
  transport: DnsTransport,
  server: NameServer,
  query: Buffer,
  origin: UpstreamOrigin,
  events: AttemptEvents,
): () => void {
  const start = transport === 'udp' ? startUdp : startTcp;
  try {
    // A resolver on our own loopback is not the pod's.
    const netns = isLoopback(server.address) ? undefined : origin.netns;
    return start(server, query, { ...origin, netns }, events);
  } catch (err) {
    // No such route, no descriptors left.
    queueMicrotask(() => events.onFailure(err instanceof Error ? err : new Error(String(err))));
    return () => undefined;
  }
}

function startUdp(
  server: NameServer,
  query: Buffer,
  { netns, mark }: UpstreamOrigin,
  events: AttemptEvents,
): () => void {
  const isV6 = isIpv6(server.address);
  const { fd } = openUdpSocket({
    address: isV6 ? '::' : '0.0.0.0',
    port: 0,
    ...optional(netns, mark),
  });
  const socket = createSocket({ type: isV6 ? 'udp6' : 'udp4', lookup: literalLookup(isV6) });
  let isOpen = true;
  socket.on('error', (err) => events.onFailure(err));
  socket.on('message', (message) => events.onMessage(message));
  socket.bind({ fd });
  // Connected: the kernel drops what others send, and tells of a closed port.
  socket.once('connect', () => {
    if (!isOpen) return;
    socket.send(query, (err) => {
      if (err !== null && isOpen) events.onFailure(err);
    });
  });
  socket.connect(server.port, server.address);
  return () => {
    if (!isOpen) return;
    isOpen = false;
    socket.close();
  };
}

/** The address as it is: dgram asks the system's resolver even for literals. */
function literalLookup(isV6: boolean) {
  return (
    hostname: string,
    _options: unknown,
    done: (err: NodeJS.ErrnoException | null, address: string, family: number) => void,
  ): void => done(null, hostname, isV6 ? 6 : 4);
}

function startTcp(
  server: NameServer,
  query: Buffer,
  { netns, mark }: UpstreamOrigin,
  events: AttemptEvents,
): () => void {
  const fd = startTcpConnect({
    address: server.address,
    port: server.port,
    ...optional(netns, mark),
  });
  const socket = new Socket({ fd });
  const reader = new MessageReader();
  socket.on('error', (err) => events.onFailure(err));
  socket.on('end', () => events.onFailure(new Error('name server closed the connection')));
  socket.on('data', (chunk) => {
    for (const message of reader.push(chunk)) events.onMessage(message);
  });
  socket.write(frameMessage(query));
  return () => socket.destroy();
}

function optional(
  netns: Netns | undefined,
  mark: number | undefined,
): { netns?: Netns; mark?: number } {
  return { ...(netns === undefined ? {} : { netns }), ...(mark === undefined ? {} : { mark }) };
}
