// The long run: two nodes under a holder each, mixed load, and everything that changes in a mesh changing: policies, certificates,
// workloads, pods that join and leave. Samples memory, sockets, other descriptors and threads; the verdict is that none grows.
// `npm run soak -- --minutes 60 --out soak.svg`.
import type { ChildProcess } from 'node:child_process';
import { once } from 'node:events';
import { readdirSync, readFileSync, readlinkSync } from 'node:fs';
import { setPriority } from 'node:os';
import { errorMessage } from '../../common/errors.ts';
import { Action, Scope } from '../../common/policy/gen/authorization_pb.ts';
import { NetnsMesh } from '../support/netns-mesh.ts';
import { drawCharts } from './chart.ts';
import { NODES, SERVER_IP, openSoakMesh, pause, residentMb } from './soak-mesh.ts';
import { floorOf, trendOf } from './trend.ts';
import type { Sample, Trend } from './trend.ts';

/** What the load did, and what went wrong. */
interface LoadCounts {
  readonly counts: Readonly<Record<string, number>>;
  readonly errors: Readonly<Record<string, number>>;
}

/** The outcome of a run. */
export interface MixedReport {
  readonly minutes: number;
  readonly load: LoadCounts;
  /** Policies, workloads, pods that came and went, slow readers, scanned addresses. */
  readonly changes: Readonly<Record<string, number>>;
  /** Changes that failed. */
  readonly troubles: readonly string[];
  readonly trends: readonly Trend[];
  readonly isFlat: boolean;
  readonly svg: string;
}

const SAMPLE_MS = 5000;
/** Longer than a scan, which has a thousand sockets, lasts. */
const FLOOR_SEC = 30;
/** Certificates are renewed about every 90 s: they are valid from two minutes before they are asked for. */
const SECRET_TTL = '300s';
const GUEST = { name: 'guest', ip: '10.77.0.9', node: 'a' };
const WORKLOADS = 200;
const CLIENT = 'test/soak/memory-client.ts';
/**
 * MB, sockets, other descriptors, threads that a second half may rise by: what 200 connections more or less at a sample's
 * time cost. Others do not come with connections, but for pipes of a splice.
 */
const ALLOWED = { memory: 6, sockets: 40, descriptors: 8, threads: 1 } as const;

/** Runs for so many minutes, at the lowest priority where `isNice`. */
export async function runMixed(minutes: number, isNice: boolean): Promise<MixedReport> {
  if (isNice) setPriority(19);
  const mesh = new NetnsMesh();
  mesh.proxyEnv['SECRET_TTL'] = SECRET_TTL;
  const run = new MixedRun(mesh);
  try {
    await openSoakMesh(mesh, 'holder');
    mesh.addPod(GUEST);
    await mesh.putPods(WORKLOADS);
    return await run.go(minutes);
  } finally {
    run.stop();
    await mesh.close();
  }
}

class MixedRun {
  readonly #mesh: NetnsMesh;
  readonly #series = new Map<string, Sample[]>();
  readonly #changes: Record<string, number> = {};
  readonly #troubles: string[] = [];
  #isStopped = false;

  constructor(mesh: NetnsMesh) {
    this.#mesh = mesh;
  }

  async go(minutes: number): Promise<MixedReport> {
    const load = this.#mesh.script('client', [
      ...['test/soak/mixed-client.ts', SERVER_IP, 8080, 8081],
    ]);
    const changing = this.#startChanges();
    const started = performance.now();
    const endMs = started + minutes * 60_000;
    for (let at = started; at < endMs; at = performance.now()) {
      this.#sample((at - started) / 1000);
      await pause(SAMPLE_MS);
    }
    this.stop();
    await Promise.all(changing);
    const trends = [...this.#series].map(([name, samples]) =>
      trendOf(
        name,
        kindOf(name) === 'sockets' ? floorOf(samples, FLOOR_SEC) : samples,
        ALLOWED[kindOf(name)],
      ),
    );
    return {
      minutes,
      load: await countsOf(load),
      changes: this.#changes,
      troubles: this.#troubles,
      trends,
      isFlat: trends.every(({ isFlat }) => isFlat),
      svg: this.#draw(),
    };
  }

  stop(): void {
    this.#isStopped = true;
  }

  #sample(seconds: number): void {
    for (const node of NODES) {
      const pids = { proxy: this.#mesh.proxyPid(node), holder: this.#mesh.pid(node) };
      for (const [program, pid] of Object.entries(pids)) {
        // Not the pages of the program's file: they come and go with what runs.
        this.#add(`memory ${program} ${node}`, seconds, residentMb(pid, 'RssAnon'));
        const { sockets, others } = descriptorsOf(pid);
        this.#add(`sockets ${program} ${node}`, seconds, sockets);
        this.#add(`descriptors ${program} ${node}`, seconds, others);
        this.#add(`threads ${program} ${node}`, seconds, threadsOf(pid));
      }
    }
  }

  #add(name: string, seconds: number, value: number): void {
    const samples = this.#series.get(name) ?? [];
    samples.push([seconds, value]);
    this.#series.set(name, samples);
  }

  #startChanges(): Promise<void>[] {
    return [
      this.#every('policies', 3000, (turn) => this.#putPolicy(turn)),
      this.#every('workloads', 1000, (turn) => this.#putWorkload(turn)),
      this.#every('pods', 7000, () => this.#visit()),
      this.#every('slow readers', 20_000, () => this.#load('slow', SERVER_IP, 8081, 5)),
      this.#every('scans', 30_000, () => this.#load('scan', '10.78', 80, 500)),
      this.#every('idle connections', 15_000, () => this.#load('hold', SERVER_IP, 8080, 50)),
    ];
  }

  async #every(
    name: string,
    periodMs: number,
    change: (turn: number) => Promise<void>,
  ): Promise<void> {
    for (let turn = 0; !this.#isStopped; turn++) {
      try {
        await change(turn);
        this.#changes[name] = (this.#changes[name] ?? 0) + 1;
      } catch (err) {
        // Such as no acknowledgement in time; the load's own errors say whether that was felt.
        this.#troubles.push(`${name}: ${errorMessage(err)}`);
      }
      await pause(periodMs);
    }
  }

  /** Denies somebody who does not exist, or does not: every connection is looked at again. */
  async #putPolicy(turn: number): Promise<void> {
    const value = `cluster.local/ns/default/sa/nobody-${turn}`;
    const principals = [{ matchType: { case: 'exact' as const, value } }];
    await this.#mesh.putPolicy(
      'default/soak',
      turn % 5 === 4
        ? undefined
        : {
            ...{ name: 'soak', namespace: 'default' },
            ...{ scope: Scope.NAMESPACE, action: Action.DENY },
            rules: [{ clauses: [{ matches: [{ principals }] }] }],
          },
    );
  }

  /** The server's record, as a change of its revision; and one that comes and goes. */
  async #putWorkload(turn: number): Promise<void> {
    if (turn % 3 === 0) await this.#mesh.putPod('server', { canonicalRevision: `v${turn % 9}` });
    else if (turn % 3 === 1) await this.#mesh.putPod(GUEST.name);
    else await this.#mesh.putPods(1 + (turn % WORKLOADS));
  }

  /** A pod joins, asks for something, and leaves. */
  async #visit(): Promise<void> {
    await this.#mesh.putPod(GUEST.name);
    await this.#mesh.enrol(GUEST.name);
    await this.#mesh.ask(GUEST.name, SERVER_IP);
    await this.#mesh.unenrol(GUEST.name);
  }

  async #load(act: string, host: string, port: number, count: number): Promise<void> {
    const child = this.#mesh.script('client', [CLIENT, act, host, port, count]);
    if (child.stdout !== null) await once(child.stdout, 'data');
    child.stdin?.end();
    await once(child, 'close');
  }

  #draw(): string {
    const kinds = [
      ['memory', 'Memory', 'anonymous MB'],
      ['sockets', 'Sockets', 'open'],
      ['descriptors', 'Other descriptors', 'open'],
      ['threads', 'Threads', 'count'],
    ] as const;
    return drawCharts(
      kinds.map(([kind, title, yLabel]) => ({
        ...{ title, yLabel, xLabel: 'minutes' },
        lines: [...this.#series]
          .filter(([name]) => kindOf(name) === kind)
          .map(([name, samples]) => ({
            name: name.slice(kind.length + 1),
            points: samples.map(([seconds, value]) => [seconds / 60, value] as const),
          })),
      })),
    );
  }
}

function kindOf(name: string): keyof typeof ALLOWED {
  if (name.startsWith('memory')) return 'memory';
  if (name.startsWith('sockets')) return 'sockets';
  return name.startsWith('threads') ? 'threads' : 'descriptors';
}

/** Sockets come and go with connections; the rest (pipes, event queues, namespaces, files) should stay. */
function descriptorsOf(pid: number): { sockets: number; others: number } {
  const count = { sockets: 0, others: 0 };
  for (const fd of readdirSync(`/proc/${pid}/fd`)) {
    try {
      if (readlinkSync(`/proc/${pid}/fd/${fd}`).startsWith('socket:')) count.sockets++;
      else count.others++;
    } catch {
      // Closed since.
    }
  }
  return count;
}

function threadsOf(pid: number): number {
  return Number(/Threads:\s+(\d+)/.exec(readFileSync(`/proc/${pid}/status`, 'utf8'))?.[1] ?? '0');
}

async function countsOf(load: ChildProcess): Promise<LoadCounts> {
  if (load.stdout === null) throw new Error('load without output');
  load.stdin?.write('\n');
  const [line] = (await once(load.stdout, 'data')) as [Buffer];
  load.stdin?.end();
  return JSON.parse(line.toString()) as LoadCounts;
}
