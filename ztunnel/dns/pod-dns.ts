// The DNS sockets of one pod: port 15053 on the loopback addresses of its network namespace, UDP and TCP. Made there
// by setns on this thread and then served by Node's own loop. cni redirects the pod's port 53 to them.
import { createSocket } from 'node:dgram';
import type { Socket } from 'node:dgram';
import { readFileSync } from 'node:fs';
import { errorMessage } from '../../common/errors.ts';
import { isIpv6, isLoopback } from '../../common/workload/ip.ts';
import type { PodInfo } from '../../common/zds/codec.ts';
import { runInNetns } from '../../engine/reactor/netns.ts';
import type { Netns } from '../../engine/reactor/netns.ts';
import { openTcpListener, openUdpSocket } from '../../engine/reactor/socket-options.ts';
import type { BindOptions } from '../../engine/reactor/socket-options.ts';
import { QueryHandler } from './query-handler.ts';
import type { DnsParts } from './query-handler.ts';
import { TcpClients } from './tcp-clients.ts';

const TCP_BACKLOG = 128;

/** How sockets are made. */
export interface DnsSocketOptions {
  readonly addresses: readonly string[];
  readonly port: number;
  readonly mark: number | undefined;
  readonly isPortReuse: boolean;
}

/** Serves one pod. */
export class PodDns {
  readonly #parts: DnsParts;
  readonly #handler: QueryHandler;
  readonly #netns: Netns | undefined;
  readonly #udp: Socket[] = [];
  readonly #tcp: TcpClients[] = [];
  #isClosed = false;

  private constructor(parts: DnsParts, pod: PodInfo, netns: Netns | undefined, mark?: number) {
    this.#parts = parts;
    this.#netns = netns;
    this.#handler = new QueryHandler(parts, pod, { netns, mark });
  }

  /** Opens the sockets; throws when one cannot be bound, with nothing left open. The netns is taken over. */
  static open(
    parts: DnsParts,
    pod: PodInfo,
    netns: Netns | undefined,
    options: DnsSocketOptions,
  ): PodDns {
    const dns = new PodDns(parts, pod, netns, options.mark);
    try {
      const hasIpv6 = runInNetns(netns, hasLoopbackIpv6);
      for (const address of options.addresses) {
        if (isIpv6(address) && isLoopback(address) && !hasIpv6) continue;
        dns.#listen({
          address,
          port: options.port,
          reusePort: options.isPortReuse,
          v6Only: isIpv6(address),
          backlog: TCP_BACKLOG,
          ...(netns === undefined ? {} : { netns }),
          ...(options.mark === undefined ? {} : { mark: options.mark }),
        });
      }
    } catch (err) {
      dns.close();
      throw err;
    }
    return dns;
  }

  /** The ports in use, UDP first: for tests that bind port 0. */
  get udpPorts(): number[] {
    return this.#udp.map((socket) => socket.address().port);
  }

  /** Graceful: queries in flight are answered, then everything closes. */
  async drain(): Promise<void> {
    for (const clients of this.#tcp) clients.drain();
    await this.#handler.whenIdle();
    this.close();
  }

  close(): void {
    if (this.#isClosed) return;
    this.#isClosed = true;
    for (const socket of this.#udp) socket.close();
    for (const clients of this.#tcp) clients.close();
    this.#netns?.close();
  }

  #listen(options: BindOptions): void {
    const { logger } = this.#parts;
    const onError = (err: Error): void => {
      logger.warn({ err: errorMessage(err), address: options.address }, 'dns socket failed');
    };
    const udp = openUdpSocket(options);
    const socket = createSocket(isIpv6(options.address) ? 'udp6' : 'udp4');
    this.#udp.push(socket);
    socket.on('error', onError);
    socket.on('message', (query, peer) => {
      this.#handler
        .answer(query, 'udp')
        .then((answer) => {
          if (answer === undefined || this.#isClosed) return;
          socket.send(answer, peer.port, peer.address);
        })
        .catch(onError);
    });
    socket.bind({ fd: udp.fd });
    const tcp = openTcpListener({ ...options, port: udp.port });
    this.#tcp.push(new TcpClients(tcp.fd, (query) => this.#handler.answer(query, 'tcp'), onError));
  }
}

/** Whether this namespace has ::1; assumed when it cannot be read. */
function hasLoopbackIpv6(): boolean {
  try {
    return readFileSync('/proc/sys/net/ipv6/conf/lo/disable_ipv6', 'utf8').trim() !== '1';
  } catch {
    return true;
  }
}
