// ZDS: hands pods' network namespaces to the node proxies that connect (Istio's protocol: SEQPACKET, lock-step,
// a descriptor with each add). The newest connection gets new pods, all get removals; when the newest goes, the
// one before it gets the pods it does not know yet.
import { sleep, type Clock } from '../../common/clock.ts';
import { errorMessage, MeshError } from '../../common/errors.ts';
import type { Logger } from '../../common/telemetry/logger.ts';
import { decodeAck, decodeHello, encodeRequest, type ZdsRequest } from '../../common/zds/codec.ts';
import { closeDescriptor } from '../../engine/reactor/tcp-stream.ts';
import { SeqpacketServer, type SeqpacketSocket } from '../../engine/reactor/seqpacket.ts';

const ACK_TIMEOUT_MS = 5000;
const MIN_ACCEPT_MS = 200;

/** A pod as the proxies are told of it. `fd` is undefined when its namespace could not be found. */
export interface ZdsPod {
  readonly uid: string;
  readonly name: string;
  readonly namespace: string;
  readonly serviceAccount: string;
  readonly fd: number | undefined;
}

export interface ZdsServerOptions {
  readonly path: string;
  readonly logger: Logger;
  readonly clock: Clock;
  /** All enrolled pods, for the snapshot of a new connection. */
  readonly pods: () => readonly ZdsPod[];
  readonly onConnections: (count: number) => void;
}

/** One connected proxy: requests run one at a time. */
class ZdsConnection {
  readonly #socket: SeqpacketSocket;
  readonly known = new Set<string>();
  #queue: Promise<unknown> = Promise.resolve();
  #waiting: ((message: Buffer | undefined) => void) | undefined;
  readonly closed: Promise<void>;

  constructor(socket: SeqpacketSocket) {
    this.#socket = socket;
    this.closed = this.#read();
  }

  /** The proxy's first packet. */
  async hello(): Promise<void> {
    decodeHello(await this.#next());
  }

  /** Sends a request and waits for its answer: the error text, or undefined for success. */
  send(request: ZdsRequest, fd?: number): Promise<string | undefined> {
    const result = this.#queue.then(async () => {
      const answer = this.#next();
      try {
        this.#socket.send(encodeRequest(request), fd === undefined ? [] : [fd]);
        return decodeAck(await answer);
      } catch (err) {
        answer.catch(() => undefined);
        this.close();
        throw new MeshError('zds_failed', `node proxy: ${errorMessage(err)}`, { cause: err });
      }
    });
    this.#queue = result.catch(() => undefined);
    return result;
  }

  close(): void {
    this.#socket.close();
  }

  async #read(): Promise<void> {
    for (;;) {
      const message = await this.#socket.receive().catch(() => undefined);
      message?.fds.forEach(closeDescriptor);
      const waiting = this.#waiting;
      this.#waiting = undefined;
      waiting?.(message?.data);
      // A packet nobody asked for, or one with descriptors, breaks the protocol.
      if (message === undefined || waiting === undefined || message.fds.length > 0) break;
    }
    this.close();
  }

  #next(): Promise<Buffer> {
    return new Promise((resolve, reject) => {
      const timer = setTimeout(() => {
        this.#waiting = undefined;
        this.close();
        reject(new MeshError('zds_failed', 'no answer in time'));
      }, ACK_TIMEOUT_MS);
      this.#waiting = (message) => {
        clearTimeout(timer);
        if (message === undefined) reject(new MeshError('zds_failed', 'connection closed'));
        else resolve(message);
      };
    });
  }
}

export class ZdsServer {
  readonly #options: ZdsServerOptions;
  /** In the order of connecting; the last one is the newest. */
  readonly #connections: ZdsConnection[] = [];
  #server: SeqpacketServer | undefined;

  constructor(options: ZdsServerOptions) {
    this.#options = options;
  }

  get connected(): number {
    return this.#connections.length;
  }

  /** Listens and serves until closed. */
  async run(): Promise<void> {
    const server = SeqpacketServer.listen(this.#options.path);
    this.#server = server;
    for (;;) {
      const socket = await server.accept();
      if (socket === undefined) return;
      void this.#serve(new ZdsConnection(socket));
      await sleep(this.#options.clock, MIN_ACCEPT_MS);
    }
  }

  close(): void {
    this.#server?.close();
    for (const connection of this.#connections) connection.close();
  }

  /** Gives the pod to the newest proxy; throws when there is none or it refuses. */
  async add(pod: ZdsPod): Promise<void> {
    const newest = this.#connections.at(-1);
    if (newest === undefined) {
      throw new MeshError('no_proxy', 'no node proxy (ztunnel) is connected to the agent');
    }
    await this.#addTo(newest, pod);
  }

  /** Gives the pod to the newest proxy if that one connected while the pod was being joined. */
  async ensure(pod: ZdsPod): Promise<void> {
    const newest = this.#connections.at(-1);
    if (newest !== undefined && !newest.known.has(pod.uid)) await this.#addTo(newest, pod);
  }

  /** Takes the pod from every proxy. */
  async remove(uid: string): Promise<void> {
    await Promise.all(
      this.#connections.map(async (connection) => {
        connection.known.delete(uid);
        try {
          const error = await connection.send({ kind: 'del', uid });
          if (error !== undefined) this.#warn(error, 'node proxy refused a removal');
        } catch (err) {
          this.#warn(errorMessage(err), 'removal not delivered');
        }
      }),
    );
  }

  async #addTo(connection: ZdsConnection, pod: ZdsPod): Promise<void> {
    const { uid, name, namespace, serviceAccount, fd } = pod;
    if (fd === undefined) throw new MeshError('no_netns', `netns of ${namespace}/${name} unknown`);
    const request: ZdsRequest = { kind: 'add', uid, pod: { name, namespace, serviceAccount } };
    const error = await connection.send(request, fd);
    if (error !== undefined) throw new MeshError('zds_refused', `node proxy refused: ${error}`);
    connection.known.add(uid);
  }

  async #serve(connection: ZdsConnection): Promise<void> {
    const { logger, onConnections } = this.#options;
    try {
      await connection.hello();
      await this.#snapshot(connection);
      logger.info({ pods: connection.known.size }, 'node proxy connected');
    } catch (err) {
      this.#warn(errorMessage(err), 'node proxy session failed');
      connection.close();
    }
    await connection.closed;
    const index = this.#connections.indexOf(connection);
    if (index < 0) return;
    const wasNewest = index === this.#connections.length - 1;
    this.#connections.splice(index, 1);
    onConnections(this.#connections.length);
    logger.info({ connected: this.#connections.length }, 'node proxy disconnected');
    const newest = this.#connections.at(-1);
    if (wasNewest && newest !== undefined) await this.#addMissing(newest);
  }

  /** The set of pods is taken and the connection made the newest in one turn: no pod falls between. */
  async #snapshot(connection: ZdsConnection): Promise<void> {
    const pods = this.#options.pods();
    this.#connections.push(connection);
    this.#options.onConnections(this.#connections.length);
    const sent = pods.map(async (pod) => {
      if (pod.fd === undefined) await connection.send({ kind: 'keep', uid: pod.uid });
      else await this.#addTo(connection, pod);
    });
    const end = connection.send({ kind: 'snapshotSent' });
    for (const result of await Promise.allSettled(sent)) {
      if (result.status === 'rejected') {
        this.#warn(errorMessage(result.reason), 'pod of the snapshot refused');
      }
    }
    await end;
  }

  async #addMissing(connection: ZdsConnection): Promise<void> {
    for (const pod of this.#options.pods()) {
      if (connection.known.has(pod.uid) || pod.fd === undefined) continue;
      await this.#addTo(connection, pod).catch((err: unknown) =>
        this.#warn(errorMessage(err), 'pod not handed over'),
      );
    }
  }

  #warn(reason: string, message: string): void {
    this.#options.logger.warn({ reason }, message);
  }
}
