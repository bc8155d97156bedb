// The node's DNS server on the cluster's DNS addresses, IPv4 and IPv6, UDP and TCP (RFC 7766). The addresses sit on
// the loopback interface of the node's netns, so pods reach it without leaving their node.
import { createSocket, type Socket } from 'node:dgram';
import { createServer, isIPv6, type Server, type Socket as TcpSocket } from 'node:net';
import { decodeQuestion, encodeAnswer, type DnsAnswer } from '../../common/dns/codec.ts';
import { frameMessage, MessageReader } from '../../common/dns/tcp-framing.ts';
import { errorMessage } from '../../common/errors.ts';
import { log } from './log.ts';
import { tryCommand } from './run-command.ts';

const MAX_TCP_BYTES = 65_535;
const TCP_IDLE_MS = 10_000;
const MAX_TCP_CONNECTIONS = 500;

export type Resolve = (name: string, type: string) => DnsAnswer;

function answer(query: Buffer, resolve: Resolve, isUdp: boolean): Buffer {
  const question = decodeQuestion(query);
  const limit = isUdp ? question.udpBytes : MAX_TCP_BYTES;
  return encodeAnswer(question, resolve(question.name, question.type), limit);
}

export class ClusterDns {
  readonly #resolve: Resolve;
  readonly #sockets: (Socket | Server)[] = [];

  constructor(resolve: Resolve) {
    this.#resolve = resolve;
  }

  /** Puts an address of either family into this netns and listens on it, by UDP and TCP. */
  async open(address: string): Promise<void> {
    const own = isIPv6(address) ? [`${address}/128`, 'nodad'] : [`${address}/32`];
    await tryCommand(['ip', 'addr', 'add', ...own, 'dev', 'lo']);
    await this.listen(address, 53);
  }

  /** Listens on an address that this netns has, on the same port by UDP and TCP; 0 takes a free one. */
  async listen(address: string, port: number): Promise<number> {
    const tcp = createServer((socket) => this.#serve(socket));
    tcp.maxConnections = MAX_TCP_CONNECTIONS;
    await new Promise<void>((resolve, reject) => {
      tcp.once('error', reject);
      tcp.listen(port, address, resolve);
    });
    this.#sockets.push(tcp);
    const bound = tcp.address();
    const taken = typeof bound === 'object' && bound !== null ? bound.port : port;
    await this.#bind(address, taken);
    return taken;
  }

  close(): void {
    for (const socket of this.#sockets.splice(0)) socket.close();
  }

  /** An answer leaves from the socket that was asked: the client knows the address it comes from. */
  async #bind(address: string, port: number): Promise<void> {
    const udp = createSocket(isIPv6(address) ? 'udp6' : 'udp4', (query, peer) => {
      try {
        udp.send(answer(query, this.#resolve, true), peer.port, peer.address);
      } catch (err) {
        log.debug({ peer: peer.address, err: errorMessage(err) }, 'bad DNS query');
      }
    });
    this.#sockets.push(udp);
    await new Promise<void>((resolve, reject) => {
      udp.once('error', reject);
      udp.bind(port, address, resolve);
    });
    udp.on('error', (err) => log.warn({ err: err.message }, 'DNS socket failed'));
  }

  #serve(socket: TcpSocket): void {
    const reader = new MessageReader();
    socket.setTimeout(TCP_IDLE_MS, () => socket.destroy());
    socket.on('error', () => socket.destroy());
    socket.on('data', (chunk) => {
      try {
        for (const query of reader.push(chunk)) {
          socket.write(frameMessage(answer(query, this.#resolve, false)));
        }
      } catch {
        socket.destroy();
      }
    });
  }
}
