// One container of a pod: a process in the pod's netns with a mount namespace of its own, started again as the
// restart policy says. The process leads its own process group; signals go to the group.
import { spawn, type ChildProcess, type StdioOptions } from 'node:child_process';
import { closeSync, existsSync, mkdirSync, openSync, readFileSync, renameSync } from 'node:fs';
import { constants as os } from 'node:os';
import { dirname } from 'node:path';
import { Readable } from 'node:stream';
import { sleep, systemClock } from '../../common/clock.ts';
import { errorMessage, MeshError } from '../../common/errors.ts';
import { ENTERED_FD } from './container-root.ts';
import type { Container, ContainerState, ContainerStatus } from './objects.ts';

const BACKOFF_FIRST_MS = 1000;
const BACKOFF_MAX_MS = 30_000;
/** A container that ran this long starts with a fresh back-off. */
const STABLE_RUN_MS = 10_000;

export interface LaunchPlan {
  readonly argv: readonly string[];
  readonly env: Readonly<Record<string, string>>;
  readonly script: string;
  /** Undefined runs the container in the kubelet's own netns: the node's. */
  readonly netns: string | undefined;
}

export interface ContainerHost {
  readonly logFile: string;
  /** Builds what to run; a failure is retried. */
  plan(): Promise<LaunchPlan>;
  onChange(): void;
  onStarted(): void;
  onEvent(type: 'Normal' | 'Warning', reason: string, message: string): void;
}

type RestartPolicy = 'Always' | 'OnFailure' | 'Never';

/** Starts a process as a container does. Exported for the tests. */
export function launch(plan: LaunchPlan, logFile: string): ChildProcess {
  const enter = plan.netns === undefined ? [] : ['nsenter', `--net=/var/run/netns/${plan.netns}`];
  const [file = '', ...args] = [
    ...enter,
    ...['unshare', '-m', '-u', '--propagation', 'slave', 'sh', '-c', plan.script, 'sh'],
    ...plan.argv,
  ];
  const fd = openSync(logFile, 'a');
  try {
    // The fourth ends when the script gives way to the program: see whenEntered.
    const stdio: StdioOptions = ['ignore', fd, fd, 'pipe'];
    return spawn(file, args, { detached: true, env: plan.env, stdio });
  } finally {
    closeSync(fd);
  }
}

/** Calls back once the container's namespaces are complete and its program runs, unless it ended before. */
function whenEntered(child: ChildProcess, then: () => void): void {
  const pipe = child.stdio[ENTERED_FD];
  if (!(pipe instanceof Readable)) return;
  pipe.on('error', () => pipe.destroy());
  pipe.on('close', () => {
    if (child.exitCode === null && child.signalCode === null) then();
  });
  pipe.resume();
}

/** The environment a container was started with, for commands run beside it. */
export function containerEnv(pid: number): Record<string, string> {
  let text: string;
  try {
    text = readFileSync(`/proc/${pid}/environ`, 'utf8');
  } catch {
    return {};
  }
  return Object.fromEntries(
    text
      .split('\0')
      .filter((entry) => entry.includes('='))
      .map((entry) => [entry.slice(0, entry.indexOf('=')), entry.slice(entry.indexOf('=') + 1)]),
  );
}

/** The argv that runs a command inside a container's namespaces. */
export function enterArgv(pid: number, argv: readonly string[]): string[] {
  return ['nsenter', '-t', String(pid), '-m', '-u', '-n', '-w', '--', ...argv];
}

/** Runs a container until it is finished for good or stopped. */
export class ContainerRunner {
  readonly container: Container;
  readonly #policy: RestartPolicy;
  readonly #host: ContainerHost;
  readonly #stop = new AbortController();
  #child: ChildProcess | undefined;
  /** Commands that were started in the container beside its program; each leads its group. */
  readonly #guests = new Set<ChildProcess>();
  #state: ContainerState = { waiting: { reason: 'ContainerCreating' } };
  #lastState: ContainerState = {};
  #restarts = 0;
  /** Restarts without a long enough run between them. */
  #crashes = 0;
  /** Set by the probes. */
  isStarted = false;
  isReady = false;
  readonly done: Promise<void>;

  constructor(container: Container, policy: RestartPolicy, host: ContainerHost) {
    this.container = container;
    this.#policy = policy;
    this.#host = host;
    this.done = this.#run().finally(() => {
      this.isOver = true;
    });
  }

  get pid(): number | undefined {
    return this.#state.running === undefined ? undefined : this.#child?.pid;
  }

  /** True when it will not run again. */
  isOver = false;

  get exitCode(): number | undefined {
    return this.#state.terminated?.exitCode;
  }

  isStopping(): boolean {
    return this.#stop.signal.aborted;
  }

  status(): ContainerStatus {
    const image = this.container.image ?? '';
    const pid = this.#child?.pid;
    return {
      name: this.container.name,
      image,
      imageID: image,
      ...(pid === undefined ? {} : { containerID: `local://${pid}` }),
      ready: this.isReady && this.#state.running !== undefined,
      started: this.isStarted && this.#state.running !== undefined,
      restartCount: this.#restarts,
      state: this.#state,
      lastState: this.#lastState,
    };
  }

  /** A command that runs in the container ends with it. */
  addGuest(child: ChildProcess): void {
    this.#guests.add(child);
    child.once('exit', () => this.#guests.delete(child));
  }

  /** Ends the process (TERM, then KILL after the grace period) and does not start it again. */
  async stop(graceMs: number): Promise<void> {
    this.#stop.abort(new MeshError('stopped', 'the container is being stopped'));
    await this.kill(graceMs);
    await this.done;
  }

  /** Ends the process; the restart policy decides what follows. */
  async kill(graceMs: number): Promise<void> {
    const child = this.#child;
    if (child?.pid === undefined || child.exitCode !== null || child.signalCode !== null) return;
    const ended = new Promise<void>((resolve) => child.once('exit', () => resolve()));
    if (graceMs > 0) signalGroup(child.pid, 'SIGTERM');
    else signalGroup(child.pid, 'SIGKILL');
    const timer = setTimeout(() => signalGroup(child.pid, 'SIGKILL'), graceMs);
    await ended;
    clearTimeout(timer);
  }

  async #run(): Promise<void> {
    // Yields once, so that the owner holds this object before the first callback.
    await Promise.resolve();
    while (!this.isStopping()) {
      const plan = await this.#plan();
      if (plan === undefined) {
        await sleep(systemClock, 1000, this.#stop.signal).catch(() => undefined);
        continue;
      }
      if (this.isStopping()) return;
      const startedAt = new Date();
      const exit = await this.#execute(plan, startedAt);
      this.#finish(exit, startedAt);
      if (this.isStopping() || !this.#mustRestart(exit.code)) return;
      await this.#backOff(Date.now() - startedAt.getTime());
    }
  }

  async #plan(): Promise<LaunchPlan | undefined> {
    try {
      return await this.#host.plan();
    } catch (err) {
      const message = errorMessage(err);
      const isImage = err instanceof MeshError && err.code === 'no_program';
      const reason = isImage ? 'ErrImagePull' : 'CreateContainerConfigError';
      const known = this.#state.waiting;
      if (known?.reason !== reason || known.message !== message) {
        this.#state = { waiting: { reason, message } };
        this.#host.onEvent('Warning', 'Failed', message);
        this.#host.onChange();
      }
      return undefined;
    }
  }

  #execute(
    plan: LaunchPlan,
    startedAt: Date,
  ): Promise<{ code: number; signal: NodeJS.Signals | null }> {
    const { logFile } = this.#host;
    mkdirSync(dirname(logFile), { recursive: true });
    if (this.#restarts > 0 && existsSync(logFile)) renameSync(logFile, `${logFile}.previous`);
    const child = launch(plan, logFile);
    this.#child = child;
    return new Promise((resolve) => {
      child.once('error', (err) => {
        this.#host.onEvent('Warning', 'Failed', err.message);
        resolve({ code: 128, signal: null });
      });
      whenEntered(child, () => {
        this.#state = { running: { startedAt: startedAt.toISOString() } };
        this.#host.onStarted();
        this.#host.onChange();
      });
      child.once('exit', (code, signal) => {
        // What the program left behind in its group must not outlive it.
        for (const { pid } of [child, ...this.#guests]) signalGroup(pid, 'SIGKILL');
        const number = signal === null ? 0 : os.signals[signal];
        resolve({ code: code ?? 128 + number, signal });
      });
    });
  }

  #finish(exit: { code: number; signal: NodeJS.Signals | null }, startedAt: Date): void {
    this.isStarted = false;
    this.isReady = false;
    this.#state = {
      terminated: {
        exitCode: exit.code,
        ...(exit.signal === null ? {} : { signal: os.signals[exit.signal] }),
        reason: exit.code === 0 ? 'Completed' : 'Error',
        startedAt: startedAt.toISOString(),
        finishedAt: new Date().toISOString(),
      },
    };
    this.#host.onChange();
  }

  #mustRestart(code: number): boolean {
    return this.#policy === 'Always' || (this.#policy === 'OnFailure' && code !== 0);
  }

  async #backOff(ranMs: number): Promise<void> {
    this.#crashes = ranMs >= STABLE_RUN_MS ? 0 : this.#crashes;
    const delayMs =
      this.#crashes === 0
        ? 0
        : Math.min(BACKOFF_FIRST_MS * 2 ** (this.#crashes - 1), BACKOFF_MAX_MS);
    this.#lastState = this.#state;
    this.#restarts++;
    this.#crashes++;
    if (delayMs > 0) {
      const message = `back-off ${delayMs / 1000}s restarting failed container=${this.container.name}`;
      this.#state = { waiting: { reason: 'CrashLoopBackOff', message } };
      this.#host.onEvent('Warning', 'BackOff', message);
      this.#host.onChange();
      await sleep(systemClock, delayMs, this.#stop.signal).catch(() => undefined);
    }
  }
}

function signalGroup(pid: number | undefined, signal: NodeJS.Signals): void {
  if (pid === undefined) return;
  try {
    process.kill(-pid, signal);
  } catch {
    // Nobody of the group is left.
  }
}
