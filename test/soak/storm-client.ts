// Load from within a pod, as a process: new connections at a fixed rate, each with one line and its answer, and one line
// at a time on a connection that stays. Prints one JSON line at the end: counts, and latencies in milliseconds.
import { connect } from 'node:net';
import type { Socket } from 'node:net';
import { latencySummary } from './latency.ts';

const [host = '', port = '0', rate = '100', seconds = '1', kept = '0'] = process.argv.slice(2);
const PERIOD_MS = 5;
const MAX_OPEN = 4000;

const latencies: number[] = [];
const keptLatencies: number[] = [];
const errors = new Map<string, number>();
let open = 0;
let opened = 0;

function dial(): Socket {
  return connect({ host, port: Number(port), noDelay: true });
}

function once(): void {
  open++;
  opened++;
  const started = performance.now();
  const socket = dial();
  let isAnswered = false;
  socket.on('connect', () => socket.write('x\n'));
  socket.on('data', () => {
    if (isAnswered) return;
    isAnswered = true;
    latencies.push(performance.now() - started);
    socket.end();
  });
  socket.on('error', (err: NodeJS.ErrnoException) => {
    const code = err.code ?? err.message;
    errors.set(code, (errors.get(code) ?? 0) + 1);
  });
  socket.on('close', () => {
    open--;
    if (!isAnswered) errors.set('unanswered', (errors.get('unanswered') ?? 0) + 1);
  });
}

function keepAsking(socket: Socket): void {
  let started = 0;
  const ask = (): void => {
    started = performance.now();
    socket.write('x\n');
  };
  socket.on('connect', ask);
  socket.on('data', () => {
    keptLatencies.push(performance.now() - started);
    setTimeout(ask, 5);
  });
  socket.on('error', (err) => errors.set(err.message, 1));
}

const kind = Array.from({ length: Number(kept) }, dial);
for (const socket of kind) keepAsking(socket);
const started = performance.now();
const timer = setInterval(() => {
  const elapsed = performance.now() - started;
  if (elapsed >= Number(seconds) * 1000) {
    clearInterval(timer);
    const report = {
      opened,
      seconds: elapsed / 1000,
      fresh: latencySummary(latencies),
      kept: latencySummary(keptLatencies),
      errors: Object.fromEntries(errors),
      openAtEnd: open,
    };
    process.stdout.write(`${JSON.stringify(report)}\n`, () => process.exit(0));
    return;
  }
  const due = Math.floor((elapsed / 1000) * Number(rate));
  while (opened < due && open < MAX_OPEN) once();
  // What could not be opened in time is not made up for in a burst.
  if (opened < due) opened = due;
}, PERIOD_MS);
