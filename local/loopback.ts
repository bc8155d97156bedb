// Loopback ports of the local cluster: the wished port or, where it is taken, any free one; and a forwarder that
// passes each connection on to an address that may change or not be known yet.
import { connect, createServer, type Server, type Socket } from 'node:net';

export interface Address {
  readonly host: string;
  readonly port: number;
}

function listen(port: number): Promise<Server> {
  const server = createServer({ allowHalfOpen: true, pauseOnConnect: true });
  return new Promise((resolve, reject) => {
    server.once('error', reject);
    server.listen(port, '127.0.0.1', () => {
      server.removeListener('error', reject);
      resolve(server);
    });
  });
}

/** Listens on 127.0.0.1, on the wished port if it is free. */
export async function listenLoopback(wished: number): Promise<Server> {
  try {
    return await listen(wished);
  } catch (err) {
    if ((err as NodeJS.ErrnoException).code !== 'EADDRINUSE') throw err;
    return listen(0);
  }
}

/** Takes over a listening socket that a parent process opened. */
export function inheritListener(fd: number): Promise<Server> {
  const server = createServer({ allowHalfOpen: true, pauseOnConnect: true });
  return new Promise((resolve, reject) => {
    server.once('error', reject);
    server.listen({ fd }, () => resolve(server));
  });
}

/** The port a server listens on. */
export function portOf(server: Server): number {
  const address = server.address();
  return typeof address === 'object' && address !== null ? address.port : 0;
}

/** Passes the connections of a listener on. Without a target a connection is closed. */
export class Forwarder {
  readonly #server: Server;
  readonly #sockets = new Set<Socket>();
  /** Where connections go from now on. */
  target: Address | undefined;

  constructor(server: Server, target?: Address) {
    this.#server = server;
    this.target = target;
    server.on('connection', (socket) => this.#pass(socket));
  }

  get port(): number {
    return portOf(this.#server);
  }

  close(): void {
    this.#server.close();
    for (const socket of this.#sockets) socket.destroy();
  }

  #pass(from: Socket): void {
    from.on('error', () => from.destroy());
    const { target } = this;
    if (target === undefined) {
      from.destroy();
      return;
    }
    const to = connect({ ...target, allowHalfOpen: true });
    for (const [one, other] of [
      [from, to],
      [to, from],
    ] as const) {
      this.#sockets.add(one);
      one.on('error', () => other.destroy());
      one.on('close', () => {
        this.#sockets.delete(one);
        other.destroy();
      });
    }
    from.pipe(to);
    to.pipe(from);
    from.resume();
  }
}
