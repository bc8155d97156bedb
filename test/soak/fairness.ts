// Fairness: what a pod feels while another pod of its node opens connections without pause. `npm run soak -- fairness`
// prints latencies of the quiet pod alone, beside the storm and after it: through the mesh, on the direct path as a
// control, and through the mesh with the proxies on a processor of their own. See docs/performance.md.
import { spawnSync } from 'node:child_process';
import { once } from 'node:events';
import { readFileSync, readdirSync } from 'node:fs';
import { availableParallelism } from 'node:os';
import { NetnsMesh } from '../support/netns-mesh.ts';
import { KernelWatch } from './kernel-watch.ts';
import type { KernelReport } from './kernel-watch.ts';
import type { Latency } from './latency.ts';

/** What one load saw. */
export interface LoadReport {
  readonly opened: number;
  readonly seconds: number;
  readonly fresh: Latency;
  readonly kept: Latency;
  readonly errors: Readonly<Record<string, number>>;
}

/** `mesh`: as a node runs it. `direct`: pods without a mesh. `apart`: the mesh, its proxies alone on the last processor. */
export const FAIRNESS_SETUPS = ['mesh', 'direct', 'apart'] as const;
export type FairnessSetup = (typeof FAIRNESS_SETUPS)[number];

/** One set-up. */
export interface FairnessReport {
  readonly alone: LoadReport;
  readonly beside: LoadReport;
  readonly after: LoadReport;
  readonly noisy: LoadReport;
  /** While the storm ran. */
  readonly kernel: KernelReport;
  /** p99 beside the storm to p99 alone. */
  readonly ratios: { readonly request: number; readonly connection: number };
}

/** How hard, how long. */
export interface FairnessOptions {
  readonly stormRate: number;
  readonly seconds: number;
  /**
   * The processor is first for the proxies and the quiet pod's side, as with CPU shares in a cluster, where others use the
   * machine. A proxy that uses a whole core then loses a twentieth of each second, which is kept from real time.
   */
  readonly isFavoured: boolean;
  readonly setups: readonly FairnessSetup[];
}

interface Load {
  readonly rate: number;
  readonly seconds: number;
  readonly kept: number;
  readonly isFavoured: boolean;
  readonly isApart: boolean;
}

const SERVER = '10.77.0.3';
const SINK = '10.77.0.4';
/** 2,000 new connections in ten seconds: a p99 is the twentieth, not a single one. */
const QUIET_RATE = 200;
const KEPT = 4;
const PROXY_PRIORITY = 1;
const PEER_PRIORITY = 2;
const PODS = [
  { name: 'quiet', ip: '10.77.0.1', node: 'a' },
  { name: 'noisy', ip: '10.77.0.2', node: 'a' },
  { name: 'server', ip: SERVER, node: 'b' },
  { name: 'sink', ip: SINK, node: 'b' },
];

/** Every set-up that is asked for, one after the other. */
export async function measureFairness(
  options: FairnessOptions,
): Promise<Partial<Record<FairnessSetup, FairnessReport>>> {
  const reports: Partial<Record<FairnessSetup, FairnessReport>> = {};
  for (const setup of options.setups) reports[setup] = await measureSetup(setup, options);
  return reports;
}

async function measureSetup(
  setup: FairnessSetup,
  { seconds, stormRate, isFavoured }: FairnessOptions,
): Promise<FairnessReport> {
  const mesh = new NetnsMesh();
  const isApart = setup === 'apart';
  try {
    await mesh.start();
    for (const pod of PODS) mesh.addPod(pod);
    const servers = [await mesh.serve('server'), await mesh.serve('sink')];
    const watched: Record<string, number> = { server: servers[0]?.pid ?? 0 };
    if (setup !== 'direct') Object.assign(watched, await startProxies(mesh));
    for (const node of setup === 'direct' ? [] : ['a', 'b']) {
      if (isFavoured) favour(mesh.pid(node), PROXY_PRIORITY);
      if (isApart) pin(mesh.pid(node), [availableParallelism() - 1]);
    }
    if (isFavoured) favour(watched['server'] ?? 0, PEER_PRIORITY);
    if (isApart) for (const { pid } of servers) pin(pid ?? 0, others());
    const quiet = { rate: QUIET_RATE, seconds, kept: KEPT, isFavoured, isApart };
    await load(mesh, 'quiet', SERVER, { ...quiet, seconds: 2 });
    const alone = await load(mesh, 'quiet', SERVER, quiet);
    const stormSec = seconds + 2;
    const noise = { rate: stormRate, seconds: stormSec, kept: 0, isFavoured: false, isApart };
    const storm = load(mesh, 'noisy', SINK, noise);
    await new Promise((resolve) => setTimeout(resolve, 1000));
    const watch = new KernelWatch(watched);
    const beside = await load(mesh, 'quiet', SERVER, quiet, (pid) => watch.add('quiet', pid));
    const kernel = watch.end();
    const noisy = await storm;
    const after = await load(mesh, 'quiet', SERVER, quiet);
    const ratios = {
      request: ratio(beside.kept.p99, alone.kept.p99),
      connection: ratio(beside.fresh.p99, alone.fresh.p99),
    };
    return { alone, beside, after, noisy, kernel, ratios };
  } finally {
    await mesh.close();
  }
}

/** Both nodes' proxies, silent, with all pods; their processes by name. */
async function startProxies(mesh: NetnsMesh): Promise<Record<string, number>> {
  for (const node of ['a', 'b']) {
    await mesh.startNode(node);
    await mesh.admin(node, '/logging?level=off', 'POST');
  }
  for (const { name } of PODS) {
    await mesh.putPod(name);
    await mesh.enrol(name);
  }
  return { 'proxy a': mesh.pid('a'), 'proxy b': mesh.pid('b') };
}

async function load(
  mesh: NetnsMesh,
  pod: string,
  host: string,
  { rate, seconds, kept, isFavoured, isApart }: Load,
  onStart?: (pid: number) => void,
): Promise<LoadReport> {
  const child = mesh.script(pod, ['test/soak/storm-client.ts', host, 8080, rate, seconds, kept]);
  const pid = child.pid ?? 0;
  if (isFavoured) favour(pid, PEER_PRIORITY);
  if (isApart) pin(pid, others());
  onStart?.(pid);
  let text = '';
  child.stdout?.on('data', (chunk: Buffer) => {
    text += chunk.toString();
  });
  await once(child, 'close');
  return JSON.parse(text) as LoadReport;
}

/**
 * Gives a process the processor before others (real time), where the machine can. What measures comes before the proxies:
 * threads of one priority take turns of 100 ms. Not V8's helpers: they mark for 15 ms at a time, on every processor.
 */
function favour(pid: number, priority: number): void {
  for (const thread of readdirSync(`/proc/${pid}/task`)) {
    const name = readFileSync(`/proc/${pid}/task/${thread}/comm`, 'utf8');
    if (!name.startsWith('V8Worker'))
      spawnSync('chrt', ['--rr', '--pid', String(priority), thread]);
  }
}

/** All processors but the last. */
function others(): number[] {
  return Array.from({ length: Math.max(1, availableParallelism() - 1) }, (_, at) => at);
}

function pin(pid: number, processors: readonly number[]): void {
  const done = spawnSync('taskset', ['-a', '-p', '-c', processors.join(','), String(pid)]);
  if (done.status !== 0) throw new Error(`taskset: ${String(done.stderr)}`);
}

function ratio(value: number, base: number): number {
  return Math.round((value / base) * 10) / 10;
}
