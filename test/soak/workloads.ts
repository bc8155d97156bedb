// Many workloads: how long a push of them takes, what requests feel meanwhile, what the proxies grow by. Once in pushes as
// our control plane sends them, once all in one as istiod does. `npm run soak -- workloads`; see docs/performance.md.
import { NetnsMesh } from '../support/netns-mesh.ts';
import { NODES, SteadyRequests, openSoakMesh, pause, residentMb } from './soak-mesh.ts';
import type { RequestReport } from './soak-mesh.ts';

/** One way of pushing. */
export interface WorkloadReport {
  readonly push: 'parts' | 'one message';
  readonly workloads: number;
  /** Until both proxies had acknowledged. */
  readonly loadedMs: number;
  readonly requestsBefore: RequestReport;
  readonly requestsMeanwhile: RequestReport;
  /** MB of the client's proxy: before, at its highest, ten seconds after. */
  readonly residentMb: readonly [before: number, highest: number, after: number];
  readonly bytesPerWorkload: number;
}

const SETTLE_MS = 10_000;

/** Loads so many workloads into two proxies, both ways. */
export async function measureWorkloads(count: number, seconds: number): Promise<WorkloadReport[]> {
  const reports: WorkloadReport[] = [];
  for (const push of ['parts', 'one message'] as const) {
    reports.push(await measurePush(push, count, seconds));
  }
  return reports;
}

async function measurePush(
  push: WorkloadReport['push'],
  count: number,
  seconds: number,
): Promise<WorkloadReport> {
  const mesh = new NetnsMesh(push === 'parts' ? {} : { resourcesPerPush: Infinity });
  try {
    await openSoakMesh(mesh);
    const requests = new SteadyRequests(mesh);
    // What is compiled at the first requests is no part of it.
    await pause(2000);
    await requests.report();
    await pause(seconds * 1000);
    const requestsBefore = await requests.report();
    const pids = NODES.map((node) => mesh.pid(node));
    const before = Math.max(...pids.map((pid) => residentMb(pid)));
    // Encoding them took a while.
    const loadedMs = await mesh.putPods(count, () => requests.report());
    const requestsMeanwhile = await requests.report();
    const highest = Math.max(...pids.map((pid) => residentMb(pid, 'VmHWM')));
    await pause(SETTLE_MS);
    const after = Math.max(...pids.map((pid) => residentMb(pid)));
    requests.end();
    return {
      ...{ push, workloads: count, loadedMs: Math.round(loadedMs) },
      ...{ requestsBefore, requestsMeanwhile, residentMb: [before, highest, after] },
      bytesPerWorkload: Math.round(((highest - before) * 2 ** 20) / count),
    };
  } finally {
    await mesh.close();
  }
}
