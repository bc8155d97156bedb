// Pages of the program's own files (Node's binary, libraries) that a process keeps mapped although only its start needed
// them: some 50 MB, shared by all that run the same binary. Given back they stay in the kernel's page cache, and come
// again one by one at the cost of a minor fault.
import { readFileSync } from 'node:fs';
import { MADV_DONTNEED, madvise } from '../native/libc.ts';

/** By then the first pods, probes and scrapes have come. */
const SETTLED_MS = 20_000;

/** A mapping of a file that nothing has been written to. */
export interface CleanMapping {
  readonly start: number;
  readonly length: number;
}

const HEAD = /^([0-9a-f]+)-([0-9a-f]+) r-.p \S+ \S+ \d+ +\//;

/**
 * Finds the mappings of files in the text of /proc/PID/smaps that cannot be written and have no page of their own: what
 * relocation has written there would be lost.
 */
export function findCleanMappings(smaps: string): CleanMapping[] {
  const found: CleanMapping[] = [];
  let current: CleanMapping | undefined;
  for (const line of smaps.split('\n')) {
    const head = HEAD.exec(line);
    if (head !== null) {
      const start = Number.parseInt(head[1] ?? '', 16);
      current = { start, length: Number.parseInt(head[2] ?? '', 16) - start };
    } else if (/^[0-9a-f]+-[0-9a-f]+ /.test(line)) {
      current = undefined;
    } else if (current !== undefined && /^Anonymous: +0 kB/.test(line)) {
      found.push(current);
    }
  }
  return found;
}

/** Gives them back when a process is ready, and once more when what comes first is over. Keeps no process alive. */
export function releaseAfterStart(): void {
  releaseProgramPages();
  setTimeout(releaseProgramPages, SETTLED_MS).unref();
}

/** Gives back what of the program's files is mapped; where the system does not say what that is, nothing. */
export function releaseProgramPages(): void {
  let smaps: string;
  try {
    smaps = readFileSync('/proc/self/smaps', 'latin1');
  } catch {
    return;
  }
  for (const { start, length } of findCleanMappings(smaps)) madvise(start, length, MADV_DONTNEED);
}
