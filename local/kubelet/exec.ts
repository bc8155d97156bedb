// `kubectl exec` over a WebSocket (subprotocols v5.channel.k8s.io and v4): one byte of channel, then data. A
// terminal is made by script(1), which the machine has; its size is not changed later.
import { spawn } from 'node:child_process';
import type { RawData, WebSocket } from 'ws';
import { containerEnv, enterArgv, type ContainerRunner } from './container.ts';

export const EXEC_PROTOCOLS = ['v5.channel.k8s.io', 'v4.channel.k8s.io'];

const STDIN = 0;
const STDOUT = 1;
const STDERR = 2;
const ERROR = 3;
/** v5: the client has no more for the channel named by the next byte. */
const CLOSE = 255;
const HIGH_WATER_BYTES = 1 << 20;
const PING_MS = 30_000;

function isSet(query: URLSearchParams, ...names: string[]): boolean {
  return names.some((name) => ['1', 'true'].includes(query.get(name) ?? ''));
}

/** The status on the error channel, as remotecommand v4 defines it. Pure. */
export function exitStatus(code: number): object {
  if (code === 0) return { metadata: {}, status: 'Success' };
  return {
    metadata: {},
    status: 'Failure',
    message: `command terminated with non-zero exit code: exit status ${code}`,
    reason: 'NonZeroExitCode',
    details: { causes: [{ reason: 'ExitCode', message: String(code) }] },
  };
}

/** One word of a shell command line. */
function quote(word: string): string {
  return `'${word.replaceAll("'", `'\\''`)}'`;
}

function execArgv(pid: number, command: readonly string[], isTty: boolean): string[] {
  if (!isTty) return enterArgv(pid, command);
  const line = `exec ${command.map(quote).join(' ')}`;
  return enterArgv(pid, ['script', '-qefc', line, '/dev/null']);
}

function toBuffer(data: RawData): Buffer {
  if (Buffer.isBuffer(data)) return data;
  return Array.isArray(data) ? Buffer.concat(data) : Buffer.from(data);
}

/** Runs the command of the query in the container and joins it to the socket. */
export function serveExec(
  ws: WebSocket,
  container: ContainerRunner,
  pid: number,
  query: URLSearchParams,
): void {
  const isTty = isSet(query, 'tty');
  const hasStdin = isSet(query, 'input', 'stdin');
  const [file = '', ...args] = execArgv(pid, query.getAll('command'), isTty);
  const send = (channel: number, data: Uint8Array): void => {
    if (ws.readyState === ws.OPEN) ws.send(Buffer.concat([Buffer.from([channel]), data]));
  };
  // The client waits for a first, empty message before it starts.
  send(STDOUT, new Uint8Array());
  const child = spawn(file, args, {
    stdio: [hasStdin ? 'pipe' : 'ignore', 'pipe', 'pipe'],
    detached: true,
    env: { ...process.env, TERM: 'xterm', ...containerEnv(pid) },
  });
  container.addGuest(child);
  for (const [channel, stream] of [
    [STDOUT, child.stdout],
    [STDERR, child.stderr],
  ] as const) {
    stream?.on('data', (chunk: Buffer) => {
      send(channel, chunk);
      if (ws.bufferedAmount < HIGH_WATER_BYTES) return;
      stream.pause();
      const timer = setInterval(() => {
        if (ws.bufferedAmount >= HIGH_WATER_BYTES && ws.readyState === ws.OPEN) return;
        clearInterval(timer);
        stream.resume();
      }, 10);
    });
  }
  child.stdin?.on('error', () => {
    // The command does not read any more; it ends or not by itself.
  });
  const ping = setInterval(() => ws.ping(), PING_MS);
  ws.on('message', (raw) => {
    const data = toBuffer(raw);
    if (data[0] === STDIN) child.stdin?.write(data.subarray(1));
    else if (data[0] === CLOSE && data[1] === STDIN) child.stdin?.end();
  });
  ws.on('error', () => ws.terminate());
  ws.on('close', () => {
    clearInterval(ping);
    if (child.pid === undefined || child.exitCode !== null) return;
    try {
      process.kill(-child.pid, 'SIGKILL');
    } catch {
      // It has just ended.
    }
  });
  const finish = (code: number): void => {
    send(ERROR, Buffer.from(JSON.stringify(exitStatus(code))));
    ws.close(1000);
  };
  child.on('error', () => finish(126));
  child.on('close', (code) => finish(code ?? 137));
}
