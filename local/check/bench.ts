// What the statements work with: the API, commands inside pods (as `kubectl exec` runs them), load with a report,
// metrics, logs and packets on the bridge.
import { spawn, type ChildProcess } from 'node:child_process';
import { readFileSync } from 'node:fs';
import { join } from 'node:path';
import { sleep, systemClock } from '../../common/clock.ts';
import { MeshError } from '../../common/errors.ts';
import { isReady, type ClusterApi, type Pod } from '../cluster-api.ts';
import type { Cluster } from '../cluster.ts';
import { REPOSITORY } from '../options.ts';
import { scrapeProxies, type ProxyMetrics } from '../scrape.ts';

const EXEC_TIMEOUT_MS = 60_000;
const MAX_OUTPUT = 4 << 20;

export interface Output {
  readonly code: number;
  readonly stdout: string;
  readonly stderr: string;
}

/** What the load program reports at its end. */
export interface LoadReport {
  readonly sent: number;
  readonly ok: number;
  readonly failed: number;
  readonly statuses: Readonly<Record<string, number>>;
  readonly matches: Readonly<Record<string, number>>;
  readonly failures: readonly { readonly at: number; readonly error: string }[];
  readonly lastFailureAt: number;
  readonly firstOkAfterFailureAt: number;
  readonly p50: number;
  readonly p99: number;
}

/** A running load; `stop` ends it and returns what happened. */
export interface RunningLoad {
  stop(): Promise<LoadReport>;
}

export interface Bench {
  readonly api: ClusterApi;
  readonly signal: AbortSignal;
  readonly stateDir: string;
  /** The one ready pod of `app=<app>`. */
  readonly pod: (namespace: string, app: string) => Promise<Pod>;
  /** The process of a pod's first container. */
  readonly pidOf: (pod: Pod) => number;
  readonly exec: (pod: Pod, argv: readonly string[]) => Promise<Output>;
  /** Status code and body of a GET by curl inside a pod; status 0 when there was no answer. */
  readonly get: (
    pod: Pod,
    url: string,
  ) => Promise<{ readonly status: number; readonly body: string }>;
  /** Runs the load program in a pod to its end. */
  readonly load: (pod: Pod, args: readonly string[]) => Promise<LoadReport>;
  readonly startLoad: (pod: Pod, args: readonly string[]) => RunningLoad;
  /** Ends the loads of a statement that has failed before it stopped them. */
  readonly endLoads: () => void;
  readonly metrics: () => Promise<ProxyMetrics>;
  /** The log of a pod's first container. */
  readonly log: (pod: Pod) => string;
  readonly until: <T>(
    what: string,
    probe: () => Promise<T | undefined>,
    timeoutMs?: number,
  ) => Promise<T>;
  readonly sleep: (ms: number) => Promise<void>;
}

/** Fails a statement. */
export function fail(reason: string): never {
  throw new MeshError('check_failed', reason);
}

/** Fails a statement unless the condition holds. */
export function require(condition: boolean, reason: string): asserts condition {
  if (!condition) fail(reason);
}

function start(argv: readonly string[]): { child: ChildProcess; done: Promise<Output> } {
  const [file = '', ...args] = argv;
  const child = spawn(file, args, { stdio: ['ignore', 'pipe', 'pipe'] });
  const output = { stdout: '', stderr: '' };
  for (const name of ['stdout', 'stderr'] as const) {
    child[name].setEncoding('utf8').on('data', (text: string) => {
      if (output[name].length < MAX_OUTPUT) output[name] += text;
    });
  }
  const done = new Promise<Output>((resolve, reject) => {
    child.on('error', reject);
    child.on('close', (code) => resolve({ code: code ?? 128, ...output }));
  });
  return { child, done };
}

/** Runs a command of this machine. */
export async function runHost(argv: readonly string[]): Promise<Output> {
  const { child, done } = start(argv);
  const timer = setTimeout(() => child.kill('SIGKILL'), EXEC_TIMEOUT_MS);
  try {
    return await done;
  } finally {
    clearTimeout(timer);
  }
}

function pidOf(pod: Pod): number {
  const id = pod.status?.containerStatuses?.[0]?.containerID ?? '';
  const pid = Number(/^local:\/\/(\d+)$/.exec(id)?.[1]);
  require(pid > 0, `pod ${pod.metadata?.name ?? ''} has no running process`);
  return pid;
}

const inPod = (pod: Pod, argv: readonly string[]): string[] => [
  ...['nsenter', '-t', String(pidOf(pod)), '-m', '-u', '-n', '-w', '--'],
  ...argv,
];
const CURL = join(REPOSITORY, 'local/apps/bin/curl');
const LOAD = [process.execPath, join(REPOSITORY, 'local/apps/load.ts')];

function parseReport({ stdout, stderr }: Output): LoadReport {
  const line = stdout.trim().split('\n').at(-1) ?? '';
  if (!line.startsWith('{')) fail(`the load gave no report: ${stderr.slice(0, 300)}`);
  return JSON.parse(line) as LoadReport;
}

function startLoad(pod: Pod, args: readonly string[], running: Set<ChildProcess>): RunningLoad {
  const { child, done } = start(inPod(pod, [...LOAD, ...args]));
  running.add(child);
  child.once('exit', () => running.delete(child));
  return {
    async stop() {
      // nsenter without -F and without a new process namespace executes the program itself.
      child.kill('SIGTERM');
      return parseReport(await done);
    },
  };
}

/** The bench of a running cluster. */
export function openBench(cluster: Cluster, stateDir: string, signal: AbortSignal): Bench {
  const { api } = cluster;
  const loads = new Set<ChildProcess>();
  return {
    api,
    signal,
    stateDir,
    async pod(namespace, app) {
      const pods = (await api.pods(namespace, `app=${app}`)).filter(isReady);
      return pods[0] ?? fail(`no ready pod of ${app} in ${namespace}`);
    },
    pidOf,
    exec: (pod, argv) => runHost(inPod(pod, argv)),
    async get(pod, url) {
      const format = ['-s', '-m', '10', '-w', '\\n%{http_code}'];
      const { stdout } = await runHost(inPod(pod, [CURL, ...format, url]));
      const end = stdout.lastIndexOf('\n');
      return { status: Number(stdout.slice(end + 1)), body: stdout.slice(0, Math.max(0, end)) };
    },
    load: async (pod, args) => parseReport(await runHost(inPod(pod, [...LOAD, ...args]))),
    startLoad: (pod, args) => startLoad(pod, args, loads),
    endLoads() {
      for (const child of loads) child.kill('SIGTERM');
    },
    metrics: () => scrapeProxies(api),
    log(pod) {
      return readFileSync(join(stateDir, 'logs', logName(pod)), 'utf8');
    },
    until: (what, probe, timeoutMs = 20_000) => api.until(what, probe, timeoutMs, signal),
    sleep: (ms) => sleep(systemClock, ms, signal),
  };
}

function logName(pod: Pod): string {
  const container = pod.status?.containerStatuses?.[0]?.name ?? '';
  return `${pod.metadata?.namespace ?? ''}_${pod.metadata?.name ?? ''}_${container}.log`;
}
