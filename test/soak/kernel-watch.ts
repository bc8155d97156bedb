// What the kernel did to processes over a while: how long their threads ran and how long they waited for a processor
// (/proc/PID/task/TID/schedstat), and what TCP lost or refused in their network namespaces. Where a tail of latencies comes
// from: a thread that waits for its turn, a segment that is sent again, or the program itself.
import { readFileSync, readdirSync, statSync } from 'node:fs';

/** One process: of its busiest thread. */
export interface ThreadUse {
  /** Of a processor, in percent. */
  readonly ranPercent: number;
  /** Milliseconds a second in which it could have run and had no processor. */
  readonly waitedMsPerSec: number;
  /** Of one turn on a processor, in microseconds: the average wait before it. */
  readonly meanWaitUs: number;
}

export interface KernelReport {
  readonly threads: Readonly<Record<string, ThreadUse>>;
  /** Counters of TCP that changed, over all network namespaces of the processes. */
  readonly tcp: Readonly<Record<string, number>>;
  /** Share of all processors' time that nobody used, in percent. */
  readonly idlePercent: number;
}

const TCP_COUNTERS = new Set([
  'RetransSegs',
  'ListenOverflows',
  'ListenDrops',
  'TCPSynRetrans',
  'TCPTimeouts',
  'TCPLostRetransmit',
  'TCPAbortOnMemory',
  'TCPTimeWaitOverflow',
]);

interface Times {
  readonly ranNs: number;
  readonly waitedNs: number;
  readonly turns: number;
}

/** Begins to watch when it is made. */
export class KernelWatch {
  readonly #startedMs = performance.now();
  readonly #idle = idleTime();
  readonly #processes = new Map<string, { pid: number; threads: ReadonlyMap<string, Times> }>();
  readonly #namespaces = new Map<number, { pid: number; before: ReadonlyMap<string, number> }>();
  /** Of processes that end before the watch does. */
  readonly #last = new Map<string, ReadonlyMap<string, Times>>();
  readonly #timer: NodeJS.Timeout;

  /** Processes by name. */
  constructor(processes: Readonly<Record<string, number>>) {
    for (const [name, pid] of Object.entries(processes)) this.add(name, pid);
    for (const [name, pid] of packetThreads()) {
      this.#processes.set(name, { pid, threads: threadTimes(pid) });
    }
    this.#timer = setInterval(() => this.#look(), 100);
  }

  add(name: string, pid: number): void {
    this.#processes.set(name, { pid, threads: threadTimes(pid) });
    const ino = namespaceOf(pid);
    if (ino === undefined) return;
    if (!this.#namespaces.has(ino)) this.#namespaces.set(ino, { pid, before: tcpCounters(pid) });
  }

  #look(): void {
    for (const [name, { pid }] of this.#processes) {
      const now = threadTimes(pid);
      if (now.size > 0) this.#last.set(name, now);
    }
  }

  /** Ends it. */
  end(): KernelReport {
    clearInterval(this.#timer);
    this.#look();
    const seconds = (performance.now() - this.#startedMs) / 1000;
    const threads: Record<string, ThreadUse> = {};
    for (const [name, { threads: before }] of this.#processes) {
      threads[name] = busiest(before, this.#last.get(name) ?? before, seconds);
    }
    const tcp: Record<string, number> = {};
    for (const { pid, before } of this.#namespaces.values()) {
      for (const [name, value] of tcpCounters(pid)) {
        const change = value - (before.get(name) ?? 0);
        if (change > 0) tcp[name] = (tcp[name] ?? 0) + change;
      }
    }
    const idle = idleTime();
    const all = idle.all - this.#idle.all;
    return { threads, tcp, idlePercent: Math.round(((idle.idle - this.#idle.idle) / all) * 100) };
  }
}

function busiest(
  before: ReadonlyMap<string, Times>,
  after: ReadonlyMap<string, Times>,
  seconds: number,
): ThreadUse {
  const none: Times = { ranNs: 0, waitedNs: 0, turns: 0 };
  const used = [...after].map(([thread, now]) => {
    const then = before.get(thread) ?? none;
    return {
      ranNs: now.ranNs - then.ranNs,
      waitedNs: now.waitedNs - then.waitedNs,
      turns: now.turns - then.turns,
    };
  });
  const most = used.toSorted((a, b) => b.ranNs - a.ranNs)[0] ?? none;
  return {
    ranPercent: Math.round(most.ranNs / seconds / 1e7),
    waitedMsPerSec: Math.round(most.waitedNs / seconds / 1e5) / 10,
    meanWaitUs: Math.round(most.waitedNs / Math.max(1, most.turns) / 1000),
  };
}

/** The kernel's own threads for packets that interrupts leave over: a busy machine lets them wait like anybody. */
function packetThreads(): [name: string, pid: number][] {
  return readdirSync('/proc')
    .filter((entry) => /^\d+$/.test(entry))
    .map((entry): [string, number] => [commandOf(entry), Number(entry)])
    .filter(([name]) => name.startsWith('ksoftirqd'));
}

function namespaceOf(pid: number): number | undefined {
  try {
    return statSync(`/proc/${pid}/ns/net`).ino;
  } catch {
    return undefined;
  }
}

function commandOf(pid: string): string {
  try {
    return readFileSync(`/proc/${pid}/comm`, 'utf8').trim();
  } catch {
    return '';
  }
}

function threadTimes(pid: number): Map<string, Times> {
  const times = new Map<string, Times>();
  try {
    for (const thread of readdirSync(`/proc/${pid}/task`)) {
      const text = readFileSync(`/proc/${pid}/task/${thread}/schedstat`, 'utf8');
      const [ranNs = 0, waitedNs = 0, turns = 0] = text.trim().split(' ').map(Number);
      times.set(thread, { ranNs, waitedNs, turns });
    }
  } catch {
    // Has ended.
  }
  return times;
}

/** `Tcp:` and `TcpExt:` of a process's network namespace: a line of names, then one of values. */
function tcpCounters(pid: number): Map<string, number> {
  const counters = new Map<string, number>();
  for (const file of ['snmp', 'netstat']) {
    let lines: string[] = [];
    try {
      lines = readFileSync(`/proc/${pid}/net/${file}`, 'utf8').split('\n');
    } catch {
      // Has ended.
    }
    for (let at = 0; at + 1 < lines.length; at += 2) {
      const names = lines[at]?.split(' ') ?? [];
      const values = lines[at + 1]?.split(' ') ?? [];
      if (names[0] !== 'Tcp:' && names[0] !== 'TcpExt:') continue;
      names.forEach((name, i) => {
        if (TCP_COUNTERS.has(name)) counters.set(name, Number(values[i]));
      });
    }
  }
  return counters;
}

function idleTime(): { idle: number; all: number } {
  const [first = ''] = readFileSync('/proc/stat', 'utf8').split('\n');
  const times = first.trim().split(/\s+/).slice(1, 9).map(Number);
  return { idle: times[3] ?? 0, all: times.reduce((sum, time) => sum + time, 0) };
}
