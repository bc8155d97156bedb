// Mixed load from within a pod, as a process, until its standard input ends: lines on connections that stay, new connections,
// streams of some megabytes, half-closes. A line on standard input prints counts and errors so far, as JSON.
import { connect } from 'node:net';
import type { Socket } from 'node:net';

const [host = '', linePort = '8080', floodPort = '8081'] = process.argv.slice(2);
const KEPT = 4;
const KEPT_PAUSE_MS = 50;
const FRESH_EVERY_MS = 50;
const STREAM_EVERY_MS = 1500;
const STREAM_BYTES = 4_000_000;
/** Longer than any drain or renewal takes. */
const PATIENCE_MS = 20_000;

const counts = { requests: 0, connections: 0, streams: 0 };
const errors = new Map<string, number>();

function fail(kind: string, reason: string): void {
  const key = `${kind}: ${reason}`;
  errors.set(key, (errors.get(key) ?? 0) + 1);
}

function dial(kind: string, port: string): Socket {
  const socket = connect({ host, port: Number(port), noDelay: true });
  socket.on('error', (err: NodeJS.ErrnoException) => fail(kind, err.code ?? err.message));
  socket.setTimeout(PATIENCE_MS, () => {
    fail(kind, 'silent');
    socket.destroy();
  });
  return socket;
}

function keep(): void {
  const socket = dial('request', linePort);
  const ask = (): void => {
    if (socket.writable) socket.write('x\n');
  };
  socket.on('connect', ask);
  socket.on('data', () => {
    counts.requests++;
    setTimeout(ask, KEPT_PAUSE_MS);
  });
  socket.on('close', () => setTimeout(keep, KEPT_PAUSE_MS));
}

function fresh(): void {
  const socket = dial('connection', linePort);
  let isAnswered = false;
  socket.on('connect', () => socket.end('x\n'));
  socket.on('data', () => {
    if (!isAnswered) counts.connections++;
    isAnswered = true;
  });
  socket.on('close', () => {
    if (!isAnswered) fail('connection', 'unanswered');
  });
}

function stream(): void {
  const socket = dial('stream', floodPort);
  let received = 0;
  socket.on('connect', () => socket.write('x\n'));
  socket.on('data', (chunk: Buffer) => {
    received += chunk.length;
    if (received < STREAM_BYTES || socket.destroyed) return;
    counts.streams++;
    socket.destroy();
  });
}

for (let i = 0; i < KEPT; i++) keep();
setInterval(fresh, FRESH_EVERY_MS);
setInterval(stream, STREAM_EVERY_MS);
process.stdin.on('data', () => {
  process.stdout.write(`${JSON.stringify({ counts, errors: Object.fromEntries(errors) })}\n`);
});
process.stdin.on('end', () => process.exit(0));
