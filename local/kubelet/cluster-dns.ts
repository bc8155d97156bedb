// The node's DNS server on the cluster's DNS address, UDP and TCP (RFC 7766). The address sits on the
// loopback interface of the node's netns, so pods reach it without leaving their node.
import { createSocket, type Socket } from 'node:dgram';
import { createServer, type Server, type Socket as TcpSocket } from 'node:net';
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
  readonly #udp: Socket;
  readonly #tcp: Server;

  constructor(resolve: Resolve) {
    this.#resolve = resolve;
    this.#udp = createSocket('udp4', (query, peer) => {
      try {
        this.#udp.send(answer(query, this.#resolve, true), peer.port, peer.address);
      } catch (err) {
        log.debug({ peer: peer.address, err: errorMessage(err) }, 'bad DNS query');
      }
    });
    this.#tcp = createServer((socket) => this.#serve(socket));
    this.#tcp.maxConnections = MAX_TCP_CONNECTIONS;
  }

  /** Puts the address into this netns and listens on it. Port 0 and any local address are for tests. */
  async open(address: string, port = 53): Promise<void> {
    await tryCommand(['ip', 'addr', 'add', `${address}/32`, 'dev', 'lo']);
    await new Promise<void>((resolve, reject) => {
      this.#udp.once('error', reject);
      this.#udp.bind(port, address, resolve);
    });
    this.#udp.on('error', (err) => log.warn({ err: err.message }, 'DNS socket failed'));
    await new Promise<void>((resolve, reject) => {
      this.#tcp.once('error', reject);
      this.#tcp.listen(port, address, resolve);
    });
  }

  close(): void {
    this.#udp.close();
    this.#tcp.close();
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
