// Fairness: what a pod feels while another pod of its node opens connections without pause. `npm run soak -- fairness`
// prints latencies of the quiet pod alone, beside the storm, and after it; see docs/performance.md.
import { spawnSync } from 'node:child_process';
import { once } from 'node:events';
import { NetnsMesh } from '../support/netns-mesh.ts';
import type { Latency } from './latency.ts';

/** What one load saw. */
export interface LoadReport {
  readonly opened: number;
  readonly seconds: number;
  readonly fresh: Latency;
  readonly kept: Latency;
  readonly errors: Readonly<Record<string, number>>;
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
}

interface Load {
  readonly rate: number;
  readonly seconds: number;
  readonly kept: number;
  readonly isFavoured: boolean;
}

const SERVER = '10.77.0.3';
/** 2,000 new connections in ten seconds: a p99 is the twentieth, not a single one. */
const QUIET_RATE = 200;
const KEPT = 4;
const PROXY_PRIORITY = 1;
const PEER_PRIORITY = 2;

/** The quiet pod alone, beside the storm, after it; and the storm itself. */
export async function measureFairness(
  options: FairnessOptions,
): Promise<Record<string, LoadReport>> {
  const mesh = new NetnsMesh();
  try {
    await mesh.start();
    const pods = [
      { name: 'quiet', ip: '10.77.0.1', node: 'a' },
      { name: 'noisy', ip: '10.77.0.2', node: 'a' },
      { name: 'server', ip: SERVER, node: 'b' },
      { name: 'sink', ip: '10.77.0.4', node: 'b' },
    ];
    for (const pod of pods) mesh.addPod(pod);
    const server = await mesh.serve('server');
    await mesh.serve('sink');
    await mesh.startNode('a');
    await mesh.startNode('b');
    for (const node of ['a', 'b']) await mesh.admin(node, '/logging?level=off', 'POST');
    for (const { name } of pods) {
      await mesh.putPod(name);
      await mesh.enrol(name);
    }
    const { seconds, stormRate, isFavoured } = options;
    if (isFavoured) {
      for (const node of ['a', 'b']) favour(mesh.pid(node), PROXY_PRIORITY);
      favour(server.pid ?? 0, PEER_PRIORITY);
    }
    const quiet = { rate: QUIET_RATE, seconds, kept: KEPT, isFavoured };
    await load(mesh, 'quiet', SERVER, { ...quiet, seconds: 2 });
    const alone = await load(mesh, 'quiet', SERVER, quiet);
    const storm = load(mesh, 'noisy', '10.77.0.4', {
      rate: stormRate,
      seconds: seconds + 2,
      kept: 0,
      isFavoured: false,
    });
    await new Promise((resolve) => setTimeout(resolve, 1000));
    const beside = await load(mesh, 'quiet', SERVER, quiet);
    const noisy = await storm;
    const after = await load(mesh, 'quiet', SERVER, quiet);
    return { alone, beside, after, noisy };
  } finally {
    await mesh.close();
  }
}

async function load(
  mesh: NetnsMesh,
  pod: string,
  host: string,
  { rate, seconds, kept, isFavoured }: Load,
): Promise<LoadReport> {
  const child = mesh.script(pod, ['test/soak/storm-client.ts', host, 8080, rate, seconds, kept]);
  if (isFavoured) favour(child.pid ?? 0, PEER_PRIORITY);
  let text = '';
  child.stdout?.on('data', (chunk: Buffer) => {
    text += chunk.toString();
  });
  await once(child, 'close');
  return JSON.parse(text) as LoadReport;
}

/**
 * Gives a process the processor before others (real time), where the machine can. What measures comes before the proxies:
 * threads of one priority take turns of 100 ms.
 */
function favour(pid: number, priority: number): void {
  spawnSync('chrt', ['--all-tasks', '--rr', '--pid', String(priority), String(pid)]);
}
