// Serves the DNS sockets of one pod (port 15053 in its network namespace, where cni redirects its port 53) on the
// control thread's own loop.
import { createSocket } from 'node:dgram';
import type { Socket } from 'node:dgram';
import { errorMessage } from '../../common/errors.ts';
import type { PodInfo } from '../../common/zds/codec.ts';
import type { Netns } from '../../engine/reactor/netns.ts';
import type { DnsSocket } from './dns-sockets.ts';
import { QueryHandler } from './query-handler.ts';
import type { DnsParts } from './query-handler.ts';
import { TcpClients } from './tcp-clients.ts';

/** Whom to serve, and from where its questions are forwarded. */
export interface DnsPod {
  readonly pod: PodInfo;
  /** Taken over. Undefined: this process's own namespace. */
  readonly netns: Netns | undefined;
  readonly mark: number | undefined;
}

/** Serves one pod. */
export class PodDns {
  readonly #parts: DnsParts;
  readonly #handler: QueryHandler;
  readonly #netns: Netns | undefined;
  readonly #udp: Socket[] = [];
  readonly #tcp: TcpClients[] = [];
  #isClosed = false;

  /** Takes over the sockets. */
  constructor(parts: DnsParts, pod: DnsPod, sockets: readonly DnsSocket[]) {
    this.#parts = parts;
    this.#netns = pod.netns;
    this.#handler = new QueryHandler(parts, pod.pod, pod);
    for (const socket of sockets) {
      if (socket.transport === 'udp') this.#serveUdp(socket);
      else this.#serveTcp(socket.fd);
    }
  }

  /** Addresses of a name that is the mesh's for this pod; undefined: it is not. */
  addressesOf(hostname: string): readonly string[] | undefined {
    return this.#handler.addressesOf(hostname);
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

  #serveUdp({ family, fd }: DnsSocket): void {
    const socket = createSocket(family === 6 ? 'udp6' : 'udp4');
    this.#udp.push(socket);
    socket.on('error', this.#onError);
    socket.on('message', (query, peer) => {
      this.#handler
        .answer(query, 'udp')
        .then((answer) => {
          if (answer === undefined || this.#isClosed) return;
          socket.send(answer, peer.port, peer.address);
        })
        .catch(this.#onError);
    });
    socket.bind({ fd });
  }

  #serveTcp(fd: number): void {
    const answer = (query: Buffer): Promise<Buffer | undefined> =>
      this.#handler.answer(query, 'tcp');
    this.#tcp.push(new TcpClients(fd, answer, this.#onError));
  }

  readonly #onError = (err: unknown): void => {
    this.#parts.logger.warn({ err: errorMessage(err) }, 'dns socket failed');
  };
}
