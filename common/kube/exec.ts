// Runs commands in containers over a WebSocket (subprotocol v5.channel.k8s.io, v4 at older servers): each message is
// one byte of channel, then data; the last message, on the error channel, has the exit code.
import type { IncomingMessage } from 'node:http';
import type { Readable, Writable } from 'node:stream';
import { WebSocket } from 'ws';
import { MeshError } from '../errors.ts';
import { readText, toError } from './client.ts';
import type { KubeConnection } from './connection.ts';
import { KINDS, objectPath } from './resource.ts';

const PROTOCOLS = ['v5.channel.k8s.io', 'v4.channel.k8s.io'];
const STDIN = 0;
const STDOUT = 1;
const STDERR = 2;
const ERROR = 3;
/** v5: no more on the channel named by the next byte. */
const CLOSE = 255;
const HANDSHAKE_TIMEOUT_MS = 30_000;
const MAX_MESSAGE_BYTES = 16 << 20;

/** Where a command runs. */
export interface ExecTarget {
  readonly namespace: string;
  readonly pod: string;
  /** Empty: the pod's only or default container. */
  readonly container: string;
  readonly command: readonly string[];
}

/** A command's streams. They are not ended. */
export interface ExecStreams {
  readonly stdout: Writable;
  readonly stderr: Writable;
  readonly stdin: Readable | null;
  readonly isTty: boolean;
}

interface ExecStatus {
  readonly status?: string;
  readonly message?: string;
  readonly details?: {
    readonly causes?: readonly { readonly reason?: string; readonly message?: string }[];
  };
}

/** Runs a command; resolves with its exit code. Rejects when it cannot be started or the connection is lost. */
export async function execInPod(
  connection: KubeConnection,
  target: ExecTarget,
  io: ExecStreams,
): Promise<number> {
  const url = execUrl(connection.server, target, io);
  const authorization = await connection.authorization();
  const socket = new WebSocket(url, PROTOCOLS, {
    ...connection.tls,
    headers: authorization === undefined ? {} : { authorization },
    handshakeTimeout: HANDSHAKE_TIMEOUT_MS,
    maxPayload: MAX_MESSAGE_BYTES,
    perMessageDeflate: false,
  });
  return await new Promise((resolve, reject) => {
    let status: ExecStatus | undefined;
    socket.on('unexpected-response', (_request, response: IncomingMessage) => {
      readText(response).then(
        (text) =>
          reject(toError({ method: 'GET', path: url.pathname }, response.statusCode ?? 0, text)),
        reject,
      );
    });
    socket.on('open', () => {
      if (io.stdin !== null) sendInput(socket, io.stdin).catch(() => socket.close());
    });
    socket.on('message', (message: Buffer) => {
      const data = message.subarray(1);
      if (message[0] === ERROR) status = JSON.parse(data.toString()) as ExecStatus;
      else if (message[0] === STDOUT) writeOutput(socket, io.stdout, data);
      else if (message[0] === STDERR) writeOutput(socket, io.stderr, data);
    });
    socket.on('error', (cause) =>
      reject(new MeshError('exec', `exec failed: ${cause.message}`, { cause })),
    );
    socket.on('close', () => {
      if (status === undefined) reject(new MeshError('exec', 'exec: the connection was lost'));
      else finish(status, resolve, reject);
    });
  });
}

function execUrl(server: URL, target: ExecTarget, io: ExecStreams): URL {
  const path = objectPath(KINDS.pods, target.namespace, target.pod, 'exec');
  const url = new URL(`${server.pathname.replace(/\/$/, '')}${path}`, server);
  url.protocol = server.protocol === 'https:' ? 'wss:' : 'ws:';
  for (const word of target.command) url.searchParams.append('command', word);
  if (target.container !== '') url.searchParams.set('container', target.container);
  url.searchParams.set('stdin', String(io.stdin !== null));
  url.searchParams.set('stdout', 'true');
  // A terminal has one stream for both.
  url.searchParams.set('stderr', String(!io.isTty));
  url.searchParams.set('tty', String(io.isTty));
  return url;
}

async function sendInput(socket: WebSocket, stdin: Readable): Promise<void> {
  for await (const chunk of stdin) {
    const data = Buffer.concat([Buffer.from([STDIN]), Buffer.from(chunk as Uint8Array)]);
    await new Promise<void>((resolve, reject) =>
      socket.send(data, (err) => (err == null ? resolve() : reject(err))),
    );
  }
  if (socket.protocol === PROTOCOLS[0]) socket.send(Buffer.from([CLOSE, STDIN]));
}

/** Writes, and stops reading from the socket while the other end of the stream is slow. */
function writeOutput(socket: WebSocket, out: Writable, data: Buffer): void {
  if (data.length === 0 || out.write(data)) return;
  socket.pause();
  out.once('drain', () => socket.resume());
}

function finish(
  { status, message, details }: ExecStatus,
  resolve: (code: number) => void,
  reject: (err: Error) => void,
): void {
  if (status === 'Success') {
    resolve(0);
    return;
  }
  const code = details?.causes?.find(({ reason }) => reason === 'ExitCode')?.message;
  if (code !== undefined) resolve(Number(code));
  else reject(new MeshError('exec', `exec failed: ${message ?? 'no reason given'}`));
}
