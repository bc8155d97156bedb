// New connections without end to HOST PORT (a line server), for tests that disturb a proxy meanwhile: WORKERS at a time,
// each connects, sends a line, reads the answer to its end, and begins again. Ends with its standard input and then
// prints one JSON object: how many were served, and what became of the others with start and end (ms, wall clock). A dot
// on standard error is one that was served.
import { connect } from 'node:net';

const [host = '', port = '0', workers = '8', pauseMs = '5'] = process.argv.slice(2);
const LIMIT_MS = 20_000;

interface Failure {
  readonly code: string;
  readonly startedMs: number;
  readonly endedMs: number;
}

const result = { served: 0, longestMs: 0, failures: [] as Failure[] };
let isDone = false;

/** One connection; `served`, or why not. */
function attempt(): Promise<string> {
  return new Promise((resolve) => {
    let text = '';
    const socket = connect({ host, port: Number(port) });
    const timer = setTimeout(() => {
      resolve('TIMEOUT');
      socket.destroy();
    }, LIMIT_MS);
    socket.on('connect', () => socket.end('hello\n'));
    socket.on('data', (chunk) => (text += chunk.toString()));
    socket.on('error', (err: NodeJS.ErrnoException) => resolve(err.code ?? err.message));
    socket.on('close', () => {
      clearTimeout(timer);
      resolve(/saw .*: hello\n$/.test(text) ? 'served' : 'CUT');
    });
  });
}

async function work(): Promise<void> {
  while (!isDone) {
    const startedMs = Date.now();
    const code = await attempt();
    const endedMs = Date.now();
    if (code === 'served') {
      result.served++;
      process.stderr.write('.');
      result.longestMs = Math.max(result.longestMs, endedMs - startedMs);
    } else {
      result.failures.push({ code, startedMs, endedMs });
    }
    await new Promise((resolve) => setTimeout(resolve, Number(pauseMs)));
  }
}

process.stdin.on('end', () => (isDone = true)).resume();
await Promise.all(Array.from({ length: Number(workers) }, work));
process.stdout.write(JSON.stringify(result));
