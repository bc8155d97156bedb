// The mesh that the soak runs load: a client on node a, a server on node b that answers lines (8080) and floods (8081).
import type { ChildProcess } from 'node:child_process';
import { once } from 'node:events';
import { readFileSync } from 'node:fs';
import type { NetnsMesh, ProxyCommand } from '../support/netns-mesh.ts';
import type { Latency } from './latency.ts';

export const SERVER_IP = '10.77.0.3';
export const NODES = ['a', 'b'] as const;

/** Starts nodes and pods; the proxies log nothing. */
export async function openSoakMesh(mesh: NetnsMesh, command?: ProxyCommand): Promise<void> {
  await mesh.start();
  mesh.addPod({ name: 'client', ip: '10.77.0.1', node: 'a' });
  mesh.addPod({ name: 'server', ip: SERVER_IP, node: 'b' });
  await mesh.serve('server');
  await mesh.startScript('server', ['test/soak/flood-server.ts', '8081']);
  for (const node of NODES) {
    await mesh.startNode(node, command);
    // As from an image: what is compiled is found, and no compiler stays in memory.
    await mesh.endProxy(node, 'SIGTERM');
    await mesh.startProxy(node, command);
    await mesh.admin(node, '/logging?level=off', 'POST');
  }
  for (const name of ['client', 'server']) {
    await mesh.putPod(name);
    await mesh.enrol(name);
  }
}

/** What steady requests saw since they were asked last. */
export interface RequestReport extends Latency {
  readonly errors: readonly string[];
}

/** Steady requests from the client pod to the server. */
export class SteadyRequests {
  readonly #child: ChildProcess;

  constructor(mesh: NetnsMesh, kept = 8) {
    this.#child = mesh.script('client', ['test/soak/request-client.ts', SERVER_IP, 8080, kept]);
  }

  /** Latencies since the last call. */
  async report(): Promise<RequestReport> {
    const { stdout, stdin } = this.#child;
    if (stdout === null) throw new Error('request client without output');
    stdin?.write('\n');
    const [line] = (await once(stdout, 'data')) as [Buffer];
    return JSON.parse(line.toString()) as RequestReport;
  }

  end(): void {
    this.#child.stdin?.end();
  }
}

/** Resident memory of a process in MB; with `what`, another field of its status. */
export function residentMb(pid: number, what: 'VmRSS' | 'VmHWM' | 'RssAnon' = 'VmRSS'): number {
  const status = readFileSync(`/proc/${pid}/status`, 'utf8');
  const kb = new RegExp(`${what}:\\s+(\\d+)`).exec(status)?.[1] ?? '0';
  return Math.round(Number(kb) / 102.4) / 10;
}

/** Waits. */
export function pause(ms: number): Promise<void> {
  return new Promise((resolve) => setTimeout(resolve, ms));
}
