// What a killed run of this clone left running: its API server and its kubelet, found by their command lines. They are
// ended at once; the next kubelet then removes their namespaces, processes, mounts and interfaces.
import { readdirSync, readFileSync } from 'node:fs';
import { join } from 'node:path';
import { sleep, systemClock } from '../common/clock.ts';
import { REPOSITORY } from './options.ts';

const WAIT_MS = 5000;
const SCRIPTS = ['local/apiserver/main.ts', 'local/kubelet/main.ts'];

/** Whether a command line is a child program of this state directory. */
export function isLeftover(argv: readonly string[], stateDir: string): boolean {
  const isOurs = SCRIPTS.some((script) => argv.includes(join(REPOSITORY, script)));
  return isOurs && argv.some((arg) => arg === stateDir || arg.startsWith(`${stateDir}/`));
}

function findLeftovers(stateDir: string): number[] {
  return readdirSync('/proc')
    .filter((entry) => /^\d+$/.test(entry))
    .filter((pid) => {
      try {
        return isLeftover(readFileSync(`/proc/${pid}/cmdline`, 'utf8').split('\0'), stateDir);
      } catch {
        return false;
      }
    })
    .map(Number);
}

/** Ends them and waits until they are gone; returns how many there were. Call with the state's lock held. */
export async function endLeftovers(stateDir: string): Promise<number> {
  const found = findLeftovers(stateDir);
  for (const pid of found) {
    try {
      process.kill(pid, 'SIGKILL');
    } catch {
      // It has just ended.
    }
  }
  const deadline = Date.now() + WAIT_MS;
  while (findLeftovers(stateDir).length > 0 && Date.now() < deadline) await sleep(systemClock, 20);
  return found.length;
}
