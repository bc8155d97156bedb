// Curves: memory and latency over 1 to 10,000 idle connections and over 1,000 to 100,000 workloads.
// `npm run soak -- curve` writes docs/curves.json and docs/curves.svg; `npm run soak -- plot` the latter from the former.
import type { ChildProcess } from 'node:child_process';
import { once } from 'node:events';
import { NetnsMesh } from '../support/netns-mesh.ts';
import { drawCharts } from './chart.ts';
import type { Chart } from './chart.ts';
import { NODES, SERVER_IP, SteadyRequests, openSoakMesh, pause, residentMb } from './soak-mesh.ts';

/** At so many connections or workloads. */
export interface CurvePoint {
  readonly at: number;
  /** MB of the client's and the server's proxy. */
  readonly client: number;
  readonly server: number;
  /** Of requests over eight connections meanwhile, ms. */
  readonly p50: number;
  readonly p99: number;
  /** Workloads: from the publication to the acknowledgement. */
  readonly loadedMs?: number;
}

/** What docs/curves.json has. */
export interface Curves {
  readonly connections: readonly CurvePoint[];
  readonly workloads: readonly CurvePoint[];
}

const CONNECTIONS = [1, 10, 100, 1000, 10_000];
const WORKLOADS = [1000, 10_000, 100_000];
const WINDOW_MS = 4000;

/** Runs both; one mesh each. */
export async function measureCurves(): Promise<Curves> {
  return {
    connections: await onMesh(overConnections),
    workloads: await onMesh(overWorkloads),
  };
}

async function onMesh(
  measure: (mesh: NetnsMesh, requests: SteadyRequests) => Promise<CurvePoint[]>,
): Promise<CurvePoint[]> {
  const mesh = new NetnsMesh();
  try {
    await openSoakMesh(mesh);
    const requests = new SteadyRequests(mesh);
    await pause(WINDOW_MS);
    return await measure(mesh, requests);
  } finally {
    await mesh.close();
  }
}

async function overConnections(mesh: NetnsMesh, requests: SteadyRequests): Promise<CurvePoint[]> {
  const points: CurvePoint[] = [];
  let held = 0;
  for (const at of CONNECTIONS) {
    await hold(mesh, at - held);
    held = at;
    points.push(await look(mesh, requests, at));
  }
  return points;
}

async function overWorkloads(mesh: NetnsMesh, requests: SteadyRequests): Promise<CurvePoint[]> {
  const points: CurvePoint[] = [];
  for (const at of WORKLOADS) {
    const loadedMs = Math.round(await mesh.putPods(at));
    points.push({ ...(await look(mesh, requests, at)), loadedMs });
  }
  return points;
}

/** More connections that stay until the mesh ends. */
async function hold(mesh: NetnsMesh, count: number): Promise<ChildProcess> {
  const args = ['test/soak/memory-client.ts', 'hold', SERVER_IP, 8080, count];
  const child = mesh.script('client', args);
  if (child.stdout !== null) await once(child.stdout, 'data');
  return child;
}

async function look(mesh: NetnsMesh, requests: SteadyRequests, at: number): Promise<CurvePoint> {
  await pause(WINDOW_MS / 2);
  await requests.report();
  await pause(WINDOW_MS);
  const { p50, p99 } = await requests.report();
  const [client = 0, server = 0] = NODES.map((node) => residentMb(mesh.pid(node)));
  return { at, client, server, p50, p99 };
}

/** The page of docs/performance.md. */
export function drawCurves({ connections, workloads }: Curves): string {
  return drawCharts([
    memoryChart('Memory over idle connections', 'connections', connections),
    latencyChart('Requests beside idle connections', 'connections', connections),
    memoryChart('Memory over workloads', 'workloads', workloads),
    latencyChart('Requests beside workloads', 'workloads', workloads),
  ]);
}

function memoryChart(title: string, xLabel: string, points: readonly CurvePoint[]): Chart {
  const lines = NODES.map((node) => ({
    name: node === 'a' ? "client's proxy" : "server's proxy",
    points: points.map(({ at, client, server }) => [at, node === 'a' ? client : server] as const),
  }));
  return { title, xLabel, yLabel: 'resident MB', isLogX: true, lines };
}

function latencyChart(title: string, xLabel: string, points: readonly CurvePoint[]): Chart {
  const lines = (['p50', 'p99'] as const).map((name) => ({
    name,
    points: points.map((point) => [point.at, point[name]] as const),
  }));
  return { title, xLabel, yLabel: 'ms', isLogX: true, lines };
}
