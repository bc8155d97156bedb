// A light HTTP client. `load URL...` asks the URLs in turn at a steady rate until stopped; with --count it stops
// after that many requests. Ends with one line of JSON: what was answered, what failed, how long it took.
import { Agent, request } from 'node:http';
import { parseArgs } from 'node:util';

const HELP = `load [options] URL...
  --rate N        requests a second (default 5)
  --count N       stop after N requests (default: until SIGTERM)
  --concurrency N at most so many at once with --fast (default 8)
  --fast          as fast as the answers come, instead of at a rate
  --close         a new connection for each request
  --no-retry      a kept connection that breaks is a failure too (default: asked again, as HTTP clients do)
  --header K:V    send this header (may be repeated)
  --match REGEX   count answers by the first group of this expression in the body
  --renew N       new connections every N seconds (default: keep them)
  --report N      print a line of JSON every N seconds`;

const { values, positionals } = parseArgs({
  allowPositionals: true,
  options: {
    rate: { type: 'string', default: '5' },
    count: { type: 'string', default: '0' },
    concurrency: { type: 'string', default: '8' },
    fast: { type: 'boolean', default: false },
    close: { type: 'boolean', default: false },
    'no-retry': { type: 'boolean', default: false },
    header: { type: 'string', multiple: true, default: [] },
    match: { type: 'string' },
    renew: { type: 'string', default: '0' },
    report: { type: 'string' },
    help: { type: 'boolean', default: false },
  },
});

const TIMEOUT_MS = 5000;
const MAX_FAILURES_KEPT = 20;
const MAX_BODY = 1024 * 1024;
const LATENCIES_KEPT = 10_000;

const report = {
  sent: 0,
  ok: 0,
  failed: 0,
  statuses: {} as Record<string, number>,
  matches: {} as Record<string, number>,
  failures: [] as { at: number; error: string }[],
  /** When the last request failed and when the first after it succeeded, in milliseconds since the epoch. */
  lastFailureAt: 0,
  firstOkAfterFailureAt: 0,
};
const latencies: number[] = [];
const newAgent = (): Agent =>
  new Agent({ keepAlive: !values.close, maxSockets: Number(values.concurrency) });
let agent = newAgent();
if (Number(values.renew) > 0) {
  setInterval(
    () => {
      const old = agent;
      agent = newAgent();
      setTimeout(() => old.destroy(), 2 * TIMEOUT_MS);
    },
    Number(values.renew) * 1000,
  ).unref();
}
const headers = Object.fromEntries(
  values.header.map((line) => {
    const colon = line.indexOf(':');
    return [line.slice(0, colon).trim(), line.slice(colon + 1).trim()];
  }),
);
const pattern = values.match === undefined ? undefined : new RegExp(values.match);
const limit = Number(values.count) || Infinity;
let stopping = false;
let inFlight = 0;

const add = (table: Record<string, number>, key: string): void => {
  table[key] = (table[key] ?? 0) + 1;
};

function ask(url: string, mayRetry: boolean): Promise<{ status: number; body: string }> {
  return new Promise((resolve, reject) => {
    const req = request(url, { agent, headers }, (res) => {
      let body = '';
      res.setEncoding('utf8');
      res.on('data', (chunk: string) => (body = body.length < MAX_BODY ? body + chunk : body));
      res.on('end', () => resolve({ status: res.statusCode ?? 0, body }));
      res.on('error', reject);
    });
    const timer = setTimeout(() => req.destroy(new Error('timeout')), TIMEOUT_MS);
    req.on('close', () => clearTimeout(timer));
    req.on('error', (err: NodeJS.ErrnoException) => {
      // As any HTTP client: a kept connection that was closed meanwhile says nothing about the request.
      if (mayRetry && req.reusedSocket && err.code === 'ECONNRESET')
        ask(url, false).then(resolve, reject);
      else reject(err);
    });
    req.end();
  });
}

function fail(error: string): void {
  report.failed++;
  report.lastFailureAt = Date.now();
  report.firstOkAfterFailureAt = 0;
  if (report.failures.length < MAX_FAILURES_KEPT) report.failures.push({ at: Date.now(), error });
}

async function once(url: string): Promise<void> {
  const start = performance.now();
  inFlight++;
  try {
    const { status, body } = await ask(url, !values['no-retry']);
    add(report.statuses, String(status));
    if (pattern !== undefined) add(report.matches, pattern.exec(body)?.[1] ?? '-');
    if (status >= 500) fail(`status ${status}: ${body.slice(0, 120)}`);
    else {
      report.ok++;
      if (report.lastFailureAt > 0 && report.firstOkAfterFailureAt === 0)
        report.firstOkAfterFailureAt = Date.now();
    }
  } catch (err) {
    fail(
      err instanceof Error
        ? `${err.message} ${(err as NodeJS.ErrnoException).code ?? ''}`
        : String(err),
    );
  } finally {
    inFlight--;
    latencies[report.sent % LATENCIES_KEPT] = performance.now() - start;
  }
}

function print(): void {
  const sorted = latencies.toSorted((a, b) => a - b);
  const at = (share: number): number =>
    Number((sorted[Math.floor(sorted.length * share)] ?? 0).toFixed(2));
  process.stdout.write(JSON.stringify({ ...report, p50: at(0.5), p99: at(0.99) }) + '\n');
}

const next = (): string => positionals[report.sent++ % positionals.length] ?? '';
const isDone = (): boolean => stopping || report.sent >= limit;

async function runSteady(): Promise<void> {
  const stepMs = 1000 / Number(values.rate);
  const startedAt = performance.now();
  for (let index = 0; !isDone(); index++) {
    const waitMs = startedAt + index * stepMs - performance.now();
    if (waitMs > 0) await new Promise((resolve) => setTimeout(resolve, waitMs));
    if (!isDone() && inFlight < 256) void once(next());
  }
  while (inFlight > 0) await new Promise((resolve) => setTimeout(resolve, 10));
}

async function runFast(): Promise<void> {
  const worker = async (): Promise<void> => {
    while (!isDone()) await once(next());
  };
  await Promise.all(Array.from({ length: Number(values.concurrency) }, worker));
}

if (values.help || positionals.length === 0) {
  console.log(HELP);
} else {
  for (const signal of ['SIGTERM', 'SIGINT'] as const) process.on(signal, () => (stopping = true));
  const timer =
    values.report === undefined ? undefined : setInterval(print, Number(values.report) * 1000);
  await (values.fast ? runFast() : runSteady());
  clearInterval(timer);
  print();
  process.exit(0);
}
