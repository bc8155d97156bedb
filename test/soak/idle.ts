// What a node proxy and its holder take when nothing happens: with their pods enrolled, started as in the image.
// `npm run soak -- idle`; the promise is 90 MB for the proxy with one data thread and 45 for the holder.
import { readFileSync } from 'node:fs';
import { NetnsMesh } from '../support/netns-mesh.ts';
import { openSoakMesh, pause } from './soak-mesh.ts';

/** MB; shared pages count in full in `resident`, in parts in `proportional`. */
export interface ProcessMemory {
  readonly resident: number;
  readonly proportional: number;
  readonly private: number;
}

/** Longer than a process takes to give back what its start needed (engine/reactor/program-pages.ts). */
const SETTLE_MS = 25_000;

/** Node a's processes. */
export async function measureIdle(): Promise<Record<string, ProcessMemory>> {
  const mesh = new NetnsMesh();
  try {
    await openSoakMesh(mesh, 'holder');
    await pause(SETTLE_MS);
    return { proxy: processMemory(mesh.proxyPid('a')), holder: processMemory(mesh.pid('a')) };
  } finally {
    await mesh.close();
  }
}

function processMemory(pid: number): ProcessMemory {
  const text = readFileSync(`/proc/${pid}/smaps_rollup`, 'utf8');
  const mb = (field: string): number => {
    const found = [...text.matchAll(new RegExp(`^${field}:\\s+(\\d+) kB`, 'gm'))];
    return Math.round(found.reduce((sum, [, kb]) => sum + Number(kb), 0) / 102.4) / 10;
  };
  return { resident: mb('Rss'), proportional: mb('Pss'), private: mb('Private_(?:Clean|Dirty)') };
}
