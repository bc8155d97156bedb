// The control thread's handle on a data thread: requests with answers, events, and the wake-up that a reactor
// asleep in epoll needs after each message.
import { Worker } from 'node:worker_threads';
import { MeshError } from '../common/errors.ts';
import { wakeReactor } from '../engine/reactor/reactor.ts';
import type { DataCommand, DataEvent, DataThreadOptions } from './messages.ts';

type Done = Extract<DataEvent, { kind: 'done' }>;
type Event = Exclude<DataEvent, { kind: 'done' } | { kind: 'ready' }>;
/** Callbacks of {@link DataThread}. */
export interface DataThreadEvents {
  readonly onEvent: (event: Event) => void;
  /** The thread has died: the process cannot go on. */
  readonly onError: (err: unknown) => void;
}

interface Waiter {
  readonly resolve: (done: Done) => void;
  readonly reject: (err: Error) => void;
}

/** One data thread. */
export class DataThread {
  readonly #worker: Worker;
  readonly #wakeFd: number;
  readonly #pending = new Map<number, Waiter>();
  #seq = 0;
  #isClosed = false;

  private constructor(worker: Worker, wakeFd: number, events: DataThreadEvents) {
    this.#worker = worker;
    this.#wakeFd = wakeFd;
    worker.on('message', (event: DataEvent) => this.#onMessage(event, events));
    worker.on('error', (err) => events.onError(err));
    worker.on('exit', () => {
      this.#isClosed = true;
      for (const { reject } of this.#pending.values()) {
        reject(new MeshError('data_thread_gone', 'the data thread has ended'));
      }
      this.#pending.clear();
    });
    // The reactor sleeps outside libuv; without this wake-up the process would wait for it at exit.
    process.on('exit', () => this.#wake());
  }

  /** Starts the thread and waits until its reactor runs. */
  static start(options: DataThreadOptions, events: DataThreadEvents): Promise<DataThread> {
    const worker = new Worker(new URL('./data-thread.ts', import.meta.url), {
      workerData: options,
      // Descriptors of sockets and namespaces are made by the engine; Node must not count or close them.
      trackUnmanagedFds: false,
      // Requests leave little behind: a larger young generation only keeps more garbage resident (10 MB, measured).
      resourceLimits: { maxYoungGenerationSizeMb: 12 },
    });
    const early: DataEvent[] = [];
    return new Promise((resolve, reject) => {
      const onError = (err: unknown): void => {
        reject(err instanceof Error ? err : new MeshError('data_thread_gone', String(err)));
      };
      const onMessage = (event: DataEvent): void => {
        if (event.kind !== 'ready') {
          early.push(event);
          return;
        }
        worker.off('message', onMessage);
        worker.off('error', onError);
        const thread = new DataThread(worker, event.wakeFd, events);
        for (const message of early) thread.#onMessage(message, events);
        resolve(thread);
      };
      worker.on('message', onMessage);
      worker.once('error', onError);
    });
  }

  /** Sends a request; rejects when the data thread reports an error. */
  async request(command: DataCommand): Promise<Done> {
    const done = await this.#send(command);
    if (done.error !== undefined) throw new MeshError('data_thread', done.error);
    return done;
  }

  /** Ends the thread at once. */
  async terminate(): Promise<void> {
    this.#isClosed = true;
    const ended = this.#worker.terminate();
    this.#wake();
    await ended;
  }

  #send(command: DataCommand): Promise<Done> {
    if (this.#isClosed) {
      return Promise.reject(new MeshError('data_thread_gone', 'the data thread has ended'));
    }
    const seq = ++this.#seq;
    return new Promise((resolve, reject) => {
      this.#pending.set(seq, { resolve, reject });
      this.#worker.postMessage({ ...command, seq });
      this.#wake();
    });
  }

  #onMessage(event: DataEvent, events: DataThreadEvents): void {
    if (event.kind === 'done') {
      this.#pending.get(event.seq)?.resolve(event);
      this.#pending.delete(event.seq);
    } else if (event.kind !== 'ready') {
      events.onEvent(event);
    }
  }

  #wake(): void {
    try {
      wakeReactor(this.#wakeFd);
    } catch {
      // The reactor has closed its descriptor: it is ending by itself.
    }
  }
}
