// Removes what one instance left on the machine: the processes living in its network namespaces, the
// namespaces, the interfaces. A namespace belongs to an instance when its marker file is in the state
// directory; the markers are written before the namespaces are made, so a killed run leaves none unmarked.
import { mkdirSync, readdirSync, readlinkSync, rmSync, statSync, writeFileSync } from 'node:fs';
import { join } from 'node:path';
import { sleep, systemClock } from '../../common/clock.ts';
import type { Instance } from './instance.ts';
import { tryCommand } from './run-command.ts';

const NETNS_DIR = '/var/run/netns';

/** Records that this clone is about to make a netns. */
export function markNetns(stateDir: string, name: string): void {
  const dir = join(stateDir, 'netns');
  mkdirSync(dir, { recursive: true });
  writeFileSync(join(dir, name), '');
}

/** Forgets a netns that was removed. */
export function unmarkNetns(stateDir: string, name: string): void {
  rmSync(join(stateDir, 'netns', name), { force: true });
}

function markedNetns(stateDir: string): string[] {
  try {
    return readdirSync(join(stateDir, 'netns'));
  } catch {
    return [];
  }
}

function inodeOf(name: string): number | undefined {
  try {
    return statSync(join(NETNS_DIR, name)).ino;
  } catch {
    return undefined;
  }
}

/** The processes that live in one of these network namespaces, ourselves excepted. */
function processesIn(inodes: ReadonlySet<number>): number[] {
  const found: number[] = [];
  for (const entry of readdirSync('/proc')) {
    if (!/^\d+$/.test(entry) || Number(entry) === process.pid) continue;
    try {
      const inode = Number(/\[(\d+)\]/.exec(readlinkSync(`/proc/${entry}/ns/net`))?.[1]);
      if (inodes.has(inode)) found.push(Number(entry));
    } catch {
      // The process has just ended, or is not ours to look at.
    }
  }
  return found;
}

async function killAll(inodes: ReadonlySet<number>): Promise<void> {
  for (let round = 0; round < 50; round++) {
    const pids = processesIn(inodes);
    if (pids.length === 0) return;
    for (const pid of pids) {
      try {
        process.kill(pid, 'SIGKILL');
      } catch {
        // It ended by itself.
      }
    }
    await sleep(systemClock, 20);
  }
}

/** Removes processes, namespaces and interfaces of this clone's instance. Safe to call again. */
export async function cleanInstance(stateDir: string, instance?: Instance): Promise<number> {
  const names = markedNetns(stateDir);
  const inodes = new Set(names.map(inodeOf).filter((inode) => inode !== undefined));
  await killAll(inodes);
  for (const name of names) {
    if (inodeOf(name) !== undefined) await tryCommand(['ip', 'netns', 'del', name]);
    unmarkNetns(stateDir, name);
  }
  if (instance !== undefined) await tryCommand(['ip', 'link', 'del', instance.bridge]);
  rmSync(join(stateDir, 'instance'), { force: true });
  return inodes.size;
}
