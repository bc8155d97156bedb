// Bounded memory: how much the proxies grow under what a node may have to bear. `npm run soak -- memory` takes the sizes of
// the promise (10,000 idle connections, 100,000 workloads, a /16); test/cluster/memory.test.ts smaller ones.
import type { ChildProcess } from 'node:child_process';
import { once } from 'node:events';
import { eventually, NetnsMesh } from '../support/netns-mesh.ts';
import { NODES, SERVER_IP, openSoakMesh, pause, residentMb } from './soak-mesh.ts';

/** How much of each. */
export interface MemoryOptions {
  readonly idleConnections: number;
  /** Tunnels that a peer opens and does not end; each is a connection. */
  readonly openStreams: number;
  readonly slowReaders: number;
  readonly scannedAddresses: number;
  readonly workloads: number;
}

/** Anonymous resident memory in MB of the two proxies: before, at its highest, after; and what was promised for the growth. */
export interface MemoryReport {
  readonly name: string;
  readonly before: readonly [client: number, server: number];
  readonly highest: readonly [client: number, server: number];
  readonly after: readonly [client: number, server: number];
  readonly budgetMb: number;
  readonly isWithin: boolean;
}

/** Beyond what connections and workloads may cost. */
const ALLOWANCE_MB = 64;
const CONNECTION_MB = 12 / 1024;
const WORKLOAD_MB = 1.2 / 1024;
const SAMPLE_MS = 100;

/** Runs every case on two nodes. */
export async function measureMemory(options: MemoryOptions): Promise<MemoryReport[]> {
  const mesh = new NetnsMesh();
  try {
    await openSoakMesh(mesh);
    mesh.addPod({ name: 'outside', ip: '10.77.0.4', node: 'b' });
    const run = new MemoryRun(mesh);
    await run.warmUp();
    const { idleConnections, openStreams, slowReaders, scannedAddresses, workloads } = options;
    await run.measure(`${slowReaders} slow readers of an endless answer`, 0, () =>
      mesh.script('client', [CLIENT, 'slow', SERVER_IP, 8081, slowReaders]),
    );
    await run.measure(`a scan of ${scannedAddresses} addresses`, 0, () =>
      mesh.script('client', [CLIENT, 'scan', '10.78', 80, scannedAddresses]),
    );
    await run.measure(`${openStreams} streams of one peer`, openStreams * CONNECTION_MB, () =>
      mesh.scriptAs('outside', PEER_IDENTITY, [
        ...['test/soak/stream-client.ts', SERVER_IP, `${SERVER_IP}:8080`, openStreams],
      ]),
    );
    const idleMb = idleConnections * CONNECTION_MB;
    await run.measure(`${idleConnections} idle connections`, idleMb, () =>
      mesh.script('client', [CLIENT, 'hold', SERVER_IP, 8080, idleConnections]),
    );
    await run.measureWorkloads(workloads);
    return run.reports;
  } finally {
    await mesh.close();
  }
}

const PEER_IDENTITY = 'spiffe://cluster.local/ns/default/sa/outside';
const CLIENT = 'test/soak/memory-client.ts';
class MemoryRun {
  readonly #mesh: NetnsMesh;
  readonly reports: MemoryReport[] = [];

  constructor(mesh: NetnsMesh) {
    this.#mesh = mesh;
  }

  /** What every proxy needs once, such as compiled code, is not growth. */
  async warmUp(): Promise<void> {
    await this.#load(() => this.#mesh.script('client', [CLIENT, 'hold', SERVER_IP, 8080, 200]));
    await this.#whenIdle();
  }

  async measure(name: string, costMb: number, start: () => ChildProcess): Promise<void> {
    const before = this.#memory();
    const highest = await this.#load(start);
    await this.#whenIdle();
    this.#report(name, costMb, { before, highest });
  }

  async measureWorkloads(count: number): Promise<void> {
    const before = this.#memory();
    const sampling = this.#sample();
    await this.#mesh.putPods(count);
    this.#report(`${count} workloads`, count * WORKLOAD_MB, { before, highest: sampling.stop() });
  }

  /** Starts a load, waits until it is in place, ends it; the highest memory meanwhile. */
  async #load(start: () => ChildProcess): Promise<readonly [number, number]> {
    const sampling = this.#sample();
    const child = start();
    const [said] = child.stdout === null ? [''] : ((await once(child.stdout, 'data')) as [Buffer]);
    if (!String(said).startsWith('ready')) throw new Error(`load: ${String(said)}`);
    // What is buffered fills up within this time.
    await pause(1000);
    const highest = sampling.stop();
    child.stdin?.end();
    await once(child, 'close');
    return highest;
  }

  async #whenIdle(): Promise<void> {
    for (const node of NODES) {
      await eventually(
        'the connections have ended',
        async () => {
          const answer = await this.#mesh.admin(node, '/connections?top=0');
          return ((await answer.json()) as { connectionCount: number }).connectionCount === 0;
        },
        30_000,
      );
    }
  }

  #report(
    name: string,
    costMb: number,
    { before, highest }: Pick<MemoryReport, 'before' | 'highest'>,
  ): void {
    const budgetMb = Math.round(costMb + ALLOWANCE_MB);
    const growth = Math.max(highest[0] - before[0], highest[1] - before[1]);
    const after = this.#memory();
    const isWithin = growth <= budgetMb;
    this.reports.push({ name, before, highest, after, budgetMb, isWithin });
  }

  #sample(): { stop(): readonly [number, number] } {
    let highest = this.#memory();
    const look = (): void => {
      const now = this.#memory();
      highest = [Math.max(highest[0], now[0]), Math.max(highest[1], now[1])];
    };
    const timer = setInterval(look, SAMPLE_MS);
    return {
      stop: () => {
        clearInterval(timer);
        look();
        return highest;
      },
    };
  }

  #memory(): readonly [number, number] {
    // Not the pages of the program's file: they are given back after the start, and come again as code runs.
    const [a = 0, b = 0] = NODES.map((node) => residentMb(this.#mesh.pid(node), 'RssAnon'));
    return [a, b];
  }
}
