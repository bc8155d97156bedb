// The load: iperf3 for streams, wrk for requests and connections, h2load at a fixed rate for latency.
import { readFileSync, rmSync } from 'node:fs';
import { join } from 'node:path';
import { HTTP_PORT, IPERF_PORT, type Topology } from './topology.ts';
import { runAsync } from './tools.ts';

export type CaseName =
  | 'stream_up'
  | 'stream_down'
  | 'stream_8'
  | 'requests'
  | 'new_connections'
  | 'p50_1000'
  | 'p99_1000';

/** What one run measured. `amount` is what CPU seconds are divided by: Gbit, or thousands. */
export interface Measured {
  readonly values: Partial<Record<CaseName, number>>;
  readonly amount: number | undefined;
}

/** A load that can be run; latency yields two cases at once. */
export interface Load {
  readonly cases: readonly CaseName[];
  run(topology: Topology, target: string, seconds: number): Promise<Measured>;
}

interface IperfReport {
  readonly end: {
    readonly sum_received: { readonly bits_per_second: number; readonly bytes: number };
  };
}

function stream(name: CaseName, flags: readonly string[]): Load {
  return {
    cases: [name],
    async run(topology, target, seconds) {
      const argv = [
        'iperf3',
        '-c',
        target,
        '-p',
        String(IPERF_PORT),
        '-J',
        '-t',
        String(seconds),
        ...flags,
      ];
      const report = JSON.parse(
        await runAsync('ip', topology.inPod('client', argv)),
      ) as IperfReport;
      const { bits_per_second: bps, bytes } = report.end.sum_received;
      return { values: { [name]: bps / 1e9 }, amount: (bytes * 8) / 1e9 };
    },
  };
}

function wrk(name: CaseName, headers: readonly string[]): Load {
  return {
    cases: [name],
    async run(topology, target, seconds) {
      const url = `http://${target}:${HTTP_PORT}/`;
      const argv = ['wrk', '-t1', '-c8', `-d${seconds}s`, ...headers, url];
      const text = await runAsync('ip', topology.inPod('client', argv));
      const total = Number(/(\d+) requests in/.exec(text)?.[1] ?? '0');
      const rate = Number(/Requests\/sec:\s+([\d.]+)/.exec(text)?.[1] ?? '0');
      const bad = /Non-2xx or 3xx responses: (\d+)/.exec(text)?.[1];
      if (total === 0 || bad !== undefined) throw new Error(`wrk ${url}: ${text}`);
      return { values: { [name]: rate }, amount: total / 1000 };
    },
  };
}

function percentile(sorted: readonly number[], share: number): number {
  return sorted[Math.min(sorted.length - 1, Math.floor(sorted.length * share))] ?? NaN;
}

const latency: Load = {
  cases: ['p50_1000', 'p99_1000'],
  async run(topology, target, seconds) {
    const log = join(topology.dir, 'h2load.log');
    rmSync(log, { force: true });
    // h2load's rate is for each client: 8 x 125 = 1,000 requests a second.
    const argv = ['h2load', '--h1', '-t1', '-c8', '--rps=125', `-D${seconds}`, `--log-file=${log}`];
    await runAsync('ip', topology.inPod('client', [...argv, `http://${target}:${HTTP_PORT}/`]));
    const rows = readFileSync(log, 'utf8')
      .trim()
      .split('\n')
      .map((line) => line.split('\t'));
    const ok = rows.filter((row) => row[1] === '200').map((row) => Number(row[2]) / 1000);
    if (ok.length < rows.length || ok.length === 0) {
      throw new Error(`h2load: ${rows.length - ok.length} of ${rows.length} requests failed`);
    }
    ok.sort((x, y) => x - y);
    return {
      values: { p50_1000: percentile(ok, 0.5), p99_1000: percentile(ok, 0.99) },
      amount: undefined,
    };
  },
};

export const STREAM_LOADS: readonly Load[] = [
  stream('stream_up', []),
  stream('stream_down', ['-R']),
  stream('stream_8', ['-P', '8']),
];

export const HTTP_LOADS: readonly Load[] = [
  wrk('requests', []),
  wrk('new_connections', ['-H', 'Connection: close']),
  latency,
];
