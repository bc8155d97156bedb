// DNS over TCP from a pod's applications (RFC 7766): pipelined queries, answers in any order, half-close, limits.
import { createServer } from 'node:net';
import type { Server, Socket } from 'node:net';
import { frameMessage, MessageReader } from '../../common/dns/tcp-framing.ts';

const IDLE_MS = 5000;
const MAX_CONNECTIONS = 64;
/** Unanswered queries of a connection; the rest stays in the kernel. */
const MAX_IN_FLIGHT = 32;
/** A client that does not read. */
const MAX_UNSENT_BYTES = 1 << 20;

type Answer = (query: Buffer) => Promise<Buffer | undefined>;

/** Serves a listening descriptor. */
export class TcpClients {
  readonly #server: Server;
  readonly #connections = new Set<Connection>();

  constructor(fd: number, answer: Answer, onError: (err: Error) => void) {
    this.#server = createServer({ allowHalfOpen: true, noDelay: true }, (socket) => {
      const connection = new Connection(socket, answer, () => this.#connections.delete(connection));
      this.#connections.add(connection);
    });
    this.#server.maxConnections = MAX_CONNECTIONS;
    this.#server.on('error', onError);
    this.#server.listen({ fd });
  }

  /** No new connections or queries; those in flight are answered. */
  drain(): void {
    this.#server.close();
    for (const connection of this.#connections) connection.drain();
  }

  close(): void {
    this.#server.close();
    for (const connection of this.#connections) connection.close();
  }
}

class Connection {
  readonly #socket: Socket;
  readonly #answer: Answer;
  readonly #reader = new MessageReader();
  readonly #waiting: Buffer[] = [];
  #inFlight = 0;
  #hasEnded = false;

  constructor(socket: Socket, answer: Answer, onClose: () => void) {
    this.#socket = socket;
    this.#answer = answer;
    socket.setTimeout(IDLE_MS, () => {
      if (this.#inFlight === 0) socket.destroy();
    });
    socket.on('error', () => socket.destroy());
    socket.on('close', onClose);
    socket.on('data', (chunk) => {
      this.#waiting.push(...this.#reader.push(chunk));
      this.#serve();
    });
    socket.on('end', () => this.drain());
  }

  drain(): void {
    this.#hasEnded = true;
    if (this.#inFlight === 0 && this.#waiting.length === 0) this.#socket.end();
  }

  close(): void {
    this.#socket.destroy();
  }

  #serve(): void {
    while (this.#inFlight < MAX_IN_FLIGHT) {
      const query = this.#waiting.shift();
      if (query === undefined) break;
      this.#inFlight++;
      this.#answer(query)
        .then((answer) => this.#send(answer))
        .catch((err: unknown) => this.#socket.destroy(err instanceof Error ? err : undefined));
    }
    if (this.#waiting.length > 0) this.#socket.pause();
    else this.#socket.resume();
  }

  #send(answer: Buffer | undefined): void {
    this.#inFlight--;
    if (this.#socket.destroyed) return;
    // No answer is for what is no query: such a stream is not worth going on.
    if (answer === undefined || this.#socket.writableLength > MAX_UNSENT_BYTES) {
      this.#socket.destroy();
      return;
    }
    this.#socket.write(frameMessage(answer));
    this.#serve();
    if (this.#hasEnded) this.drain();
  }
}
