// `kubectl port-forward`: SPDY streams in pairs (error, data), either on an upgraded connection or tunnelled in a
// WebSocket. Each data stream is one connection to the pod's own loopback, dialled by a child in its netns.
import { spawn } from 'node:child_process';
import { join } from 'node:path';
import type { Duplex } from 'node:stream';
import { createWebSocketStream, type WebSocket } from 'ws';
import { SpdySession, type SpdyStream } from './spdy-session.ts';

export const PORT_FORWARD_PROTOCOL = 'SPDY/3.1+portforward.k8s.io';
const DIAL_SCRIPT = join(import.meta.dirname, 'dial-main.ts');

function forward(
  transport: Duplex,
  netns: string | undefined,
  data: SpdyStream,
  error: SpdyStream | undefined,
): void {
  const port = data.headers['port'] ?? '';
  const enter = netns === undefined ? [] : ['nsenter', `--net=/var/run/netns/${netns}`];
  const [file, ...args] = [...enter, process.execPath, DIAL_SCRIPT, port];
  const child = spawn(file, args, { stdio: ['pipe', 'pipe', 'pipe'] });
  let problem = '';
  const finish = (): void => {
    if (problem !== '') error?.write(Buffer.from(problem));
    data.end();
    error?.end();
  };
  child.stdout.on('data', (chunk: Buffer) => {
    if (data.write(chunk)) return;
    child.stdout.pause();
    transport.once('drain', () => child.stdout.resume());
  });
  child.stderr.setEncoding('utf8').on('data', (text: string) => {
    if (problem.length < 1000) problem += text;
  });
  child.stdin.on('error', () => {
    // The application has closed; its answer, if any, still comes.
  });
  child.on('error', finish);
  child.on('close', finish);
  transport.once('close', () => child.kill('SIGKILL'));
  data.onData = (chunk) => void child.stdin.write(chunk);
  data.onEnd = () => child.stdin.end();
}

function serve(transport: Duplex, netns: string | undefined): void {
  const errors = new Map<string, SpdyStream>();
  transport.setMaxListeners(0);
  transport.on('error', () => transport.destroy());
  SpdySession.serve(transport, (stream) => {
    const id = stream.headers['requestid'] ?? stream.headers['port'] ?? '';
    if (stream.headers['streamtype'] === 'error') errors.set(id, stream);
    else {
      forward(transport, netns, stream, errors.get(id));
      errors.delete(id);
    }
  });
}

/** Serves SPDY inside a WebSocket (kubectl 1.31 and later). */
export function serveTunnel(ws: WebSocket, netns: string | undefined): void {
  serve(createWebSocketStream(ws), netns);
}

/** Serves SPDY on an upgraded connection. */
export function serveSpdyUpgrade(socket: Duplex, head: Buffer, netns: string | undefined): void {
  socket.write(
    'HTTP/1.1 101 Switching Protocols\r\nConnection: Upgrade\r\nUpgrade: SPDY/3.1\r\n' +
      'X-Stream-Protocol-Version: portforward.k8s.io\r\n\r\n',
  );
  if (head.length > 0) socket.unshift(head);
  serve(socket, netns);
}
