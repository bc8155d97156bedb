// Keeps a ZDS session with the node's cni agent: connect, hello, one answer for each request, reconnect for ever.
// A lost session changes nothing for running pods. A broken message ends the session, never the process.
import { errorMessage } from '../../common/errors.ts';
import type { Clock } from '../../common/clock.ts';
import { sleep } from '../../common/clock.ts';
import type { Logger } from '../../common/telemetry/logger.ts';
import { encodeAck, encodeHello } from '../../common/zds/codec.ts';
import { connectSeqpacket } from '../../engine/reactor/seqpacket.ts';
import type { SeqpacketMessage, SeqpacketSocket } from '../../engine/reactor/seqpacket.ts';
import { adoptNetns } from './pod-source.ts';
import type { PodNetns, PodSource } from './pod-source.ts';
import type { PodRegistry } from './zds-session.ts';

/** Options of {@link ZdsClient}. */
export interface ZdsClientOptions {
  readonly path: string;
  readonly registry: PodRegistry<PodNetns>;
  readonly clock: Clock;
  readonly logger: Logger;
}

const FIRST_DELAY_MS = 20;
const MAX_DELAY_MS = 5000;
const PENDING_RETRY_MS = 5000;

/** One client for the life of the process. */
export class ZdsClient implements PodSource {
  readonly #options: ZdsClientOptions;
  readonly #abort = new AbortController();
  #socket: SeqpacketSocket | undefined;
  #isConnected = false;
  #delayMs = FIRST_DELAY_MS;

  constructor(options: ZdsClientOptions) {
    this.#options = options;
  }

  /** Connected, snapshot received, all pods up. */
  get isReady(): boolean {
    return this.#isConnected && this.#options.registry.isReady;
  }

  /** Runs until {@link close}. */
  async run(): Promise<void> {
    const { clock, logger } = this.#options;
    while (!this.#abort.signal.aborted) {
      try {
        await this.#session();
        this.#delayMs = FIRST_DELAY_MS;
      } catch (err) {
        logger.warn({ err: errorMessage(err), retryMs: this.#delayMs }, 'zds session failed');
      }
      this.#isConnected = false;
      await sleep(clock, this.#delayMs, this.#abort.signal).catch(() => undefined);
      this.#delayMs = Math.min(MAX_DELAY_MS, this.#delayMs * 2);
    }
  }

  /** Ends the session; pods stay as they are. */
  close(): void {
    this.#abort.abort(new Error('closed'));
    this.#socket?.close();
  }

  async #session(): Promise<void> {
    const { path, registry, logger } = this.#options;
    const socket = connectSeqpacket(path);
    this.#socket = socket;
    const retry = setInterval(() => {
      registry.retryPending().catch((err: unknown) => {
        logger.error({ err: errorMessage(err) }, 'retry of pending pods failed');
      });
    }, PENDING_RETRY_MS);
    try {
      socket.send(encodeHello());
      registry.beginSession();
      this.#isConnected = true;
      logger.info({ path }, 'zds session open');
      await this.#serve(socket);
      logger.info({}, 'zds session ended');
    } finally {
      clearInterval(retry);
      socket.close();
      this.#socket = undefined;
    }
  }

  async #serve(socket: SeqpacketSocket): Promise<void> {
    for (;;) {
      const message = await receive(socket);
      if (message === undefined) return;
      const handles = message.fds.map(adoptNetns);
      let ack: Uint8Array;
      try {
        ack = await this.#options.registry.handle(message.data, handles);
      } catch (err) {
        socket.send(encodeAck(errorMessage(err)));
        throw err;
      }
      // Such a session has worked: what ends it is not one more failure in a row.
      if (this.#options.registry.hasSnapshot) this.#delayMs = FIRST_DELAY_MS;
      if (socket.isClosed) return;
      socket.send(ack);
    }
  }
}

/** The next request. One that is too long is answered with the reason before the session ends. */
async function receive(socket: SeqpacketSocket): Promise<SeqpacketMessage | undefined> {
  try {
    return await socket.receive();
  } catch (err) {
    if (!socket.isClosed) socket.send(encodeAck(`failure to read message : ${errorMessage(err)}`));
    throw err;
  }
}
