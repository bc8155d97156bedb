// All data threads as the control thread sees them: each has every pod, all that the others know and its own share of
// the connections, so a request goes to all and their answers are put together.
import type { CpuProfileRequest, HeapProfileAction } from '../common/telemetry/profiler.ts';
import type { ReactorThreadEvents } from '../engine/reactor/reactor-thread.ts';
import type { Config } from './config.ts';
import { startDataThread, type DataThread } from './data-handle.ts';
import { closePodSockets, duplicatePodSockets } from './inpod/pod-sockets.ts';
import type { PodSocket } from './inpod/pod-sockets.ts';
import type { ConnectionReport, DataCommand, DataEvent, PodDump } from './messages.ts';
import { mergeReports } from './proxy/connection-report.ts';
import { podShareMemory } from './proxy/pod-share.ts';

/** Requests that all threads serve; profiles are of one. */
export type SharedCommand = Exclude<DataCommand, { kind: 'cpuProfile' | 'heapProfile' }>;

/** What all threads together answer. */
export interface DataAnswer {
  readonly pods?: readonly PodDump[];
  readonly report?: ConnectionReport;
}

type AddPod = Extract<DataCommand, { kind: 'addPod' }>;
type Event = Exclude<DataEvent, { kind: 'done' } | { kind: 'ready' }>;

/** Callbacks of {@link DataThreads}. */
export interface DataThreadEvents {
  /** What the thread of this number says. */
  readonly onEvent: (event: Event, thread: number) => void;
  /** One has died: the process cannot go on. */
  readonly onError: ReactorThreadEvents<Event>['onError'];
}

/** One for the process. */
export class DataThreads {
  readonly #threads: readonly DataThread[];

  private constructor(threads: readonly DataThread[]) {
    this.#threads = threads;
  }

  /** Starts as many as the configuration says and waits until their reactors run. */
  static async start(config: Config, events: DataThreadEvents): Promise<DataThreads> {
    const starting = Array.from({ length: config.dataThreads }, (_none, thread) =>
      startDataThread(
        { config, thread },
        { onEvent: (event) => events.onEvent(event, thread), onError: events.onError },
      ),
    );
    return new DataThreads(await Promise.all(starting));
  }

  get count(): number {
    return this.#threads.length;
  }

  /** Resolves when all threads have done it; rejects when one reports an error. */
  async request(command: SharedCommand): Promise<DataAnswer> {
    if (command.kind === 'addPod') {
      await this.#addPod(command);
      return {};
    }
    const answers = await Promise.all(this.#threads.map((thread) => thread.request(command)));
    if (command.kind === 'dump') return { pods: mergeDumps(answers.map(({ pods = [] }) => pods)) };
    if (command.kind !== 'connections') return {};
    return { report: mergeReports(answers.map(({ report }) => report).filter(isThere), command) };
  }

  /** A `.cpuprofile` of one thread. */
  async cpuProfile(thread: number, request: CpuProfileRequest): Promise<string> {
    const answer = await this.#threads[thread]?.request({ kind: 'cpuProfile', ...request });
    return answer?.profile ?? '';
  }

  /** A `.heapprofile` of one thread, or its sampling switched. */
  async heapProfile(thread: number, action: HeapProfileAction): Promise<string> {
    const answer = await this.#threads[thread]?.request({ kind: 'heapProfile', action });
    return answer?.profile ?? '';
  }

  /** Ends all at once. */
  async terminate(): Promise<void> {
    await Promise.all(this.#threads.map((thread) => thread.terminate()));
  }

  /** Every thread accepts on the same sockets, each by descriptors of its own. In all threads, or in none. */
  async #addPod(command: AddPod): Promise<void> {
    const sets = shareSockets(command.sockets, this.#threads.length);
    const shared = this.#threads.length > 1 ? podShareMemory(this.#threads.length) : undefined;
    const added = await Promise.allSettled(
      this.#threads.map((thread, at) =>
        thread.request({ ...command, sockets: sets[at] ?? [], shared }),
      ),
    );
    const failed = added.find(({ status }) => status === 'rejected');
    if (failed?.status !== 'rejected') return;
    await this.request({ kind: 'removePod', uid: command.uid });
    throw failed.reason;
  }
}

/** The sockets and copies of them, a set for each thread. Throws with all of them closed. */
function shareSockets(sockets: readonly PodSocket[], count: number): (readonly PodSocket[])[] {
  const sets = [sockets];
  try {
    while (sets.length < count) sets.push(duplicatePodSockets(sockets));
  } catch (err) {
    for (const set of sets) closePodSockets(set);
    throw err;
  }
  return sets;
}

/** The same pods as several threads have them, each with its connections in all of them. */
function mergeDumps(dumps: readonly (readonly PodDump[])[]): readonly PodDump[] {
  const [only, ...others] = dumps;
  if (only === undefined || others.length === 0) return only ?? [];
  const merged = new Map<string, PodDump>();
  for (const dump of dumps.flat()) {
    const known = merged.get(dump.uid);
    merged.set(dump.uid, {
      ...dump,
      inbound: [...(known?.inbound ?? []), ...dump.inbound],
      outbound: [...(known?.outbound ?? []), ...dump.outbound],
    });
  }
  return [...merged.values()];
}

const isThere = <T>(value: T | undefined): value is T => value !== undefined;
