// One supervised child: its own process group, its output in a log file, started again when it ends unasked,
// ended with TERM and, after a while, KILL for the whole group.
import { spawn, type ChildProcess } from 'node:child_process';
import { closeSync, openSync } from 'node:fs';
import { join } from 'node:path';
import { REPOSITORY } from './options.ts';

const RESTART_DELAY_MS = 500;
const MAX_FAST_FAILURES = 5;
const FAST_MS = 5000;

export interface ChildOptions {
  readonly name: string;
  readonly script: string;
  readonly args: readonly string[];
  readonly stateDir: string;
  readonly env?: Readonly<Record<string, string>>;
  /** How long it may take to end. */
  readonly stopMs: number;
  /** Called when it keeps ending at once. */
  onGiveUp(reason: string): void;
}

export class ChildProgram {
  readonly #options: ChildOptions;
  readonly logFile: string;
  #child: ChildProcess | undefined;
  #stopping = false;
  #failures = 0;

  constructor(options: ChildOptions) {
    this.#options = options;
    this.logFile = join(options.stateDir, 'logs', `${options.name}.log`);
    this.#start();
  }

  get pid(): number | undefined {
    return this.#child?.pid;
  }

  async stop(): Promise<void> {
    this.#stopping = true;
    const child = this.#child;
    if (child?.pid === undefined || child.exitCode !== null || child.signalCode !== null) return;
    const ended = new Promise<void>((resolve) => child.once('exit', () => resolve()));
    this.#signal('SIGTERM', child.pid, false);
    const timer = setTimeout(() => this.#signal('SIGKILL', child.pid, true), this.#options.stopMs);
    await ended;
    clearTimeout(timer);
    this.#signal('SIGKILL', child.pid, true);
  }

  #start(): void {
    const { script, args, stateDir, env } = this.#options;
    const startedAt = Date.now();
    const log = openSync(this.logFile, 'a');
    const child = spawn(process.execPath, [join(REPOSITORY, script), ...args], {
      detached: true,
      stdio: ['ignore', log, log],
      env: { ...process.env, NODE_COMPILE_CACHE: join(stateDir, 'compile-cache'), ...env },
    });
    closeSync(log);
    this.#child = child;
    child.on('error', (err) => this.#options.onGiveUp(err.message));
    child.on('exit', (code, signal) => {
      if (this.#stopping) return;
      this.#failures = Date.now() - startedAt < FAST_MS ? this.#failures + 1 : 0;
      const how = signal ?? `code ${code ?? 0}`;
      if (this.#failures >= MAX_FAST_FAILURES) {
        this.#options.onGiveUp(`${this.#options.name} keeps ending (${how}): see ${this.logFile}`);
      } else {
        setTimeout(() => {
          if (!this.#stopping) this.#start();
        }, RESTART_DELAY_MS);
      }
    });
  }

  #signal(signal: NodeJS.Signals, pid: number | undefined, isGroup: boolean): void {
    if (pid === undefined) return;
    try {
      process.kill(isGroup ? -pid : pid, signal);
    } catch {
      // It has ended.
    }
  }
}
