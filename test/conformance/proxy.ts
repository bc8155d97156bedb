// Our node proxy as a process beside doubles of its peers, in the network namespace of the test: dedicated mode, driven
// by SOCKS5 as Istio drives its own. Ports are the real ones, so one at a time.
import { spawn } from 'node:child_process';
import type { ChildProcess } from 'node:child_process';
import { mkdtempSync, readFileSync, rmSync, writeFileSync } from 'node:fs';
import { connect } from 'node:net';
import type { Socket } from 'node:net';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { eventually } from '../support/netns-mesh.ts';

const ADMIN = 'http://127.0.0.1:15000';

export class ProxyProcess {
  readonly dir = mkdtempSync(join(tmpdir(), 'ambient-conformance-'));
  #child: ChildProcess | undefined;
  log = '';

  /** Starts it with these variables; it need not be ready. */
  start(env: Readonly<Record<string, string>>): void {
    this.#child = spawn(process.execPath, ['ztunnel/main.ts', 'proxy'], {
      stdio: ['ignore', 'pipe', 'pipe'],
      env: { PATH: process.env['PATH'], LOG_FORMAT: 'json', ...env },
    });
    for (const stream of [this.#child.stdout, this.#child.stderr])
      stream?.on('data', (chunk: Buffer) => (this.log += chunk.toString()));
  }

  file(name: string, text: string): string {
    const path = join(this.dir, name);
    writeFileSync(path, text);
    return path;
  }

  /** Status and text of the readiness port; 0 while nobody listens. */
  async readiness(): Promise<{ readonly status: number; readonly text: string }> {
    try {
      const answer = await fetch('http://127.0.0.1:15021/healthz/ready');
      return { status: answer.status, text: await answer.text() };
    } catch {
      return { status: 0, text: '' };
    }
  }

  async whenReady(): Promise<void> {
    await eventually(
      `the proxy is ready: ${this.log.slice(-2000)}`,
      async () => (await this.readiness()).status === 200,
    );
  }

  async dump(): Promise<Record<string, unknown>> {
    return (await (await fetch(`${ADMIN}/config_dump`)).json()) as Record<string, unknown>;
  }

  /** Resident memory of the process. */
  residentBytes(): number {
    const status = readFileSync(`/proc/${this.#child?.pid ?? 0}/status`, 'utf8');
    return Number(/VmRSS:\s+(\d+)/.exec(status)?.[1] ?? 0) * 1024;
  }

  async metrics(): Promise<string> {
    return (await fetch('http://127.0.0.1:15020/metrics')).text();
  }

  async close(): Promise<void> {
    const child = this.#child;
    if (child !== undefined && child.exitCode === null) {
      const ended = new Promise((resolve) => child.on('exit', resolve));
      child.kill('SIGKILL');
      await ended;
    }
    rmSync(this.dir, { recursive: true, force: true });
  }
}

/** A connection through the SOCKS5 listener, its handshake over. */
export async function dial(host: string, port: number): Promise<Socket> {
  const socket = connect({ host: '127.0.0.1', port: 15_080, allowHalfOpen: true });
  socket.on('error', () => undefined);
  const address = host.split('.').map(Number);
  socket.write(Buffer.from([5, 1, 0, 5, 1, 0, 1, ...address, port >> 8, port & 255]));
  let answer = Buffer.alloc(0);
  while (answer.length < 12) {
    const chunk = socket.read() as Buffer | null;
    if (chunk !== null) answer = Buffer.concat([answer, chunk]);
    else
      await new Promise<void>((resolve, reject) => {
        socket.once('readable', resolve);
        socket.once('close', () => reject(new Error('the socks5 listener hung up')));
      });
  }
  if (answer.subarray(0, 4).toString('hex') !== '05000500')
    throw new Error(`socks5 said ${answer.toString('hex')}`);
  socket.unshift(answer.subarray(12));
  return socket;
}
