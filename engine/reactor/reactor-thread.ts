// The control thread's handle on a thread that runs a reactor: requests with answers, events, and the wake-up that a
// reactor asleep in epoll needs after each message, also when the process exits.
import { Worker, type ResourceLimits } from 'node:worker_threads';
import { wakeReactor } from './reactor.ts';

/** The thread's first message: its reactor runs, and is woken by this descriptor. */
export interface ReadyMessage {
  readonly kind: 'ready';
  readonly wakeFd: number;
}

/** The answer to the request of the same `seq`; with `error` it failed. */
export interface DoneMessage {
  readonly kind: 'done';
  readonly seq: number;
  readonly error?: string;
}

/** A request that failed in the thread (`data_thread`), or could not reach it (`data_thread_gone`). */
export class ReactorThreadError extends Error {
  readonly code: 'data_thread' | 'data_thread_gone';

  constructor(code: 'data_thread' | 'data_thread_gone', message: string) {
    super(message);
    this.name = 'ReactorThreadError';
    this.code = code;
  }
}

/** Callbacks of {@link ReactorThread}. */
export interface ReactorThreadEvents<Event> {
  readonly onEvent: (event: Event) => void;
  /** The thread has died: the process cannot go on. */
  readonly onError: (err: unknown) => void;
}

/** How to start a thread. */
export interface ReactorThreadOptions {
  readonly workerData: unknown;
  readonly resourceLimits?: ResourceLimits;
}

interface Waiter<Done> {
  readonly resolve: (done: Done) => void;
  readonly reject: (err: Error) => void;
}

const isReady = (message: { readonly kind: string }): message is ReadyMessage =>
  message.kind === 'ready';
const isDone = (message: { readonly kind: string }): message is DoneMessage =>
  message.kind === 'done';
const gone = (): Error => new ReactorThreadError('data_thread_gone', 'the data thread has ended');

/** What wakes the reactors of the threads that run, so that none holds up the end of the process. */
const wakes = new Set<() => void>();

function wakeAllAtExit(): void {
  for (const wake of wakes) wake();
}

/**
 * One thread. `Command` is a request without its `seq`; `Done` its answer; `Event` what the thread says unasked, of
 * other kinds than `ready` and `done`.
 */
export class ReactorThread<
  Command extends object,
  Done extends DoneMessage,
  Event extends { readonly kind: string },
> {
  readonly #worker: Worker;
  readonly #wakeFd: number;
  readonly #pending = new Map<number, Waiter<Done>>();
  #seq = 0;
  #isClosed = false;

  private constructor(worker: Worker, wakeFd: number, events: ReactorThreadEvents<Event>) {
    this.#worker = worker;
    this.#wakeFd = wakeFd;
    worker.on('message', (message: Done | Event) => this.#onMessage(message, events));
    worker.on('error', (err) => events.onError(err));
    const wake = (): void => this.#wake();
    worker.on('exit', () => {
      wakes.delete(wake);
      const isExpected = this.#isClosed;
      this.#isClosed = true;
      for (const { reject } of this.#pending.values()) reject(gone());
      this.#pending.clear();
      if (!isExpected) events.onError(gone());
    });
    // The reactor sleeps outside libuv; without this wake-up the process would wait for it at exit.
    if (wakes.size === 0 && !process.listeners('exit').includes(wakeAllAtExit))
      process.on('exit', wakeAllAtExit);
    wakes.add(wake);
  }

  /** Starts the script and waits until its reactor runs. */
  static start<
    Command extends object,
    Done extends DoneMessage,
    Event extends { readonly kind: string },
  >(
    script: URL,
    options: ReactorThreadOptions,
    events: ReactorThreadEvents<Event>,
  ): Promise<ReactorThread<Command, Done, Event>> {
    const worker = new Worker(script, {
      ...options,
      // Descriptors of sockets and namespaces are made by the engine; Node must not count or close them.
      trackUnmanagedFds: false,
    });
    const early: (Done | Event)[] = [];
    return new Promise((resolve, reject) => {
      const onError = (err: unknown): void =>
        reject(
          err instanceof Error ? err : new ReactorThreadError('data_thread_gone', String(err)),
        );
      const onMessage = (message: ReadyMessage | Done | Event): void => {
        if (!isReady(message)) {
          early.push(message);
          return;
        }
        worker.off('message', onMessage);
        worker.off('error', onError);
        const thread = new ReactorThread<Command, Done, Event>(worker, message.wakeFd, events);
        for (const each of early) thread.#onMessage(each, events);
        resolve(thread);
      };
      worker.on('message', onMessage);
      worker.once('error', onError);
    });
  }

  /** Sends a request; rejects when the thread reports an error. */
  async request(command: Command): Promise<Done> {
    const done = await this.#send(command);
    if (done.error !== undefined) throw new ReactorThreadError('data_thread', done.error);
    return done;
  }

  /** Ends the thread at once. */
  async terminate(): Promise<void> {
    this.#isClosed = true;
    const ended = this.#worker.terminate();
    this.#wake();
    await ended;
  }

  #send(command: Command): Promise<Done> {
    if (this.#isClosed) return Promise.reject(gone());
    const seq = ++this.#seq;
    return new Promise((resolve, reject) => {
      this.#pending.set(seq, { resolve, reject });
      this.#worker.postMessage({ ...command, seq });
      this.#wake();
    });
  }

  #onMessage(message: Done | Event, events: ReactorThreadEvents<Event>): void {
    if (!isDone(message)) {
      events.onEvent(message);
      return;
    }
    this.#pending.get(message.seq)?.resolve(message);
    this.#pending.delete(message.seq);
  }

  #wake(): void {
    try {
      wakeReactor(this.#wakeFd);
    } catch {
      // The reactor has closed its descriptor: it is ending by itself.
    }
  }
}
