// The line at the bottom of the terminal: connections and requests a second, errors, latency, from the proxies' own
// metrics. On a terminal it is rewritten in place; elsewhere a line is printed now and then.
import { sleep, systemClock } from '../common/clock.ts';
import type { ClusterApi } from './cluster-api.ts';
import { buckets, quantile, sum } from '../common/telemetry/samples.ts';
import { scrapeProxies, type ProxyMetrics } from './scrape.ts';

const PERIOD_MS = 2000;
const PERIOD_WITHOUT_TERMINAL_MS = 30_000;
const DURATION = 'istio_request_duration_milliseconds';

type Labels = Readonly<Record<string, string>>;

interface Reading {
  readonly at: number;
  readonly connections: number;
  readonly bytes: number;
  readonly requests: number;
  readonly refused: number;
  readonly serverErrors: number;
  readonly latency: ReadonlyMap<number, number>;
}

function read({ ztunnels, waypoints }: ProxyMetrics): Reading {
  const isSource = ({ reporter }: Labels): boolean => reporter === 'source';
  return {
    at: Date.now(),
    connections: sum(ztunnels, 'istio_tcp_connections_opened_total', isSource),
    bytes:
      sum(ztunnels, 'istio_tcp_sent_bytes_total', isSource) +
      sum(ztunnels, 'istio_tcp_received_bytes_total', isSource),
    requests: sum(waypoints, 'istio_requests_total'),
    refused: sum(ztunnels, 'istio_tcp_connections_failed_total'),
    serverErrors: sum(waypoints, 'istio_requests_total', (labels) =>
      (labels['response_code'] ?? '').startsWith('5'),
    ),
    latency: buckets(waypoints, DURATION),
  };
}

/** The text of the line from two readings. */
export function describeRates(now: Reading, before: Reading): string {
  const seconds = Math.max(0.001, (now.at - before.at) / 1000);
  const rate = (key: 'connections' | 'bytes' | 'requests' | 'refused' | 'serverErrors'): number =>
    Math.max(0, now[key] - before[key]) / seconds;
  const ms = (q: number): string => {
    const value = quantile(q, now.latency, before.latency);
    return value === undefined ? '-' : `${value.toFixed(1)} ms`;
  };
  return [
    `L4 ${rate('connections').toFixed(1)} conn/s ${(rate('bytes') / 1024).toFixed(0)} KiB/s`,
    `${rate('refused').toFixed(1)} refused/s`,
    `L7 ${rate('requests').toFixed(1)} req/s`,
    `${rate('serverErrors').toFixed(1)} errors/s`,
    `p50 ${ms(0.5)} p99 ${ms(0.99)}`,
  ].join('  |  ');
}

/** Shows the line until the signal aborts. */
export async function showLiveLine(api: ClusterApi, signal: AbortSignal): Promise<void> {
  const { isTTY, columns } = process.stdout;
  let before: Reading | undefined;
  while (!signal.aborted) {
    const now = await scrapeProxies(api).then(read, () => undefined);
    if (now !== undefined && before !== undefined) {
      const line = describeRates(now, before);
      process.stdout.write(isTTY ? `\r\u001b[K${line.slice(0, (columns || 80) - 1)}` : `${line}\n`);
    }
    before = now ?? before;
    const periodMs = isTTY || before === undefined ? PERIOD_MS : PERIOD_WITHOUT_TERMINAL_MS;
    await sleep(systemClock, periodMs, signal).catch(() => undefined);
  }
  if (isTTY) process.stdout.write('\n');
}
