// CPU time and resident memory of processes, from /proc.
import { readFileSync } from 'node:fs';
import type { ChildProcess } from 'node:child_process';

const TICKS_PER_SEC = 100; // USER_HZ is 100 on every Linux Node runs on

function statFields(pid: number): string[] {
  const stat = readFileSync(`/proc/${pid}/stat`, 'utf8');
  return stat.slice(stat.lastIndexOf(')') + 2).split(' ');
}

/** User and system seconds of the processes so far. */
export function cpuSeconds(children: readonly ChildProcess[]): number {
  return children.reduce((sum, child) => {
    const fields = statFields(child.pid ?? 0);
    return sum + (Number(fields[11]) + Number(fields[12])) / TICKS_PER_SEC;
  }, 0);
}

/** Resident memory of the processes in MB, the sum. */
export function residentMb(children: readonly ChildProcess[]): number {
  return children.reduce((sum, child) => {
    const status = readFileSync(`/proc/${child.pid ?? 0}/status`, 'utf8');
    return sum + Number(/VmRSS:\s+(\d+)/.exec(status)?.[1] ?? '0') / 1024;
  }, 0);
}
