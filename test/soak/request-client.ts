// Steady requests from within a pod, as a process: one line at a time on each of KEPT connections that stay. A line on
// standard input prints the latencies (ms) since the line before, as JSON; its end ends the process.
import { connect } from 'node:net';
import { latencySummary } from './latency.ts';

const [host = '', port = '0', kept = '8'] = process.argv.slice(2);
const PAUSE_MS = 2;

let latencies: number[] = [];
const errors = new Set<string>();

function keepAsking(): void {
  const socket = connect({ host, port: Number(port), noDelay: true });
  let started = 0;
  const ask = (): void => {
    started = performance.now();
    socket.write('x\n');
  };
  socket.on('connect', ask);
  socket.on('data', () => {
    latencies.push(performance.now() - started);
    setTimeout(ask, PAUSE_MS);
  });
  socket.on('error', (err) => errors.add(err.message));
}

for (let i = 0; i < Number(kept); i++) keepAsking();
process.stdin.on('data', () => {
  const report = { ...latencySummary(latencies), errors: [...errors] };
  latencies = [];
  process.stdout.write(`${JSON.stringify(report)}\n`);
});
process.stdin.on('end', () => process.exit(0));
