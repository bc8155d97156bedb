// Without root, everything runs inside a user namespace with network, mount and process namespaces of its own.
// The listening sockets are opened outside and inherited, so that a browser and kubectl reach them.
import { spawn, spawnSync, type ChildProcess } from 'node:child_process';
import { readFileSync } from 'node:fs';
import type { Server } from 'node:net';
import { constants as os } from 'node:os';
import { MeshError } from '../common/errors.ts';

/** First inherited descriptor: the API's listener, then the dashboard's. */
export const API_FD = 3;
export const UI_FD = 4;
/** A pipe that ends when the process outside does, however it ended. */
export const LIFE_FD = 5;

const UNSHARE = ['-Urnm', '-pf', '--kill-child', '--propagation', 'slave'];
const SETUP = `mount -t proc proc /proc && mount -t tmpfs -o mode=755 tmpfs /run && mkdir -p /run/netns /run/lock &&
ip link set lo up && exec "$@"`;

/** Whether this process may make namespaces by itself; root in a container often may not. */
export function mayMakeNamespaces(): boolean {
  return process.getuid?.() === 0 && spawnSync('unshare', ['-nm', 'true']).status === 0;
}

/** Throws with the command to run where this user may not make user namespaces. */
export function requireUserNamespaces(): void {
  const tried = spawnSync('unshare', [...UNSHARE, 'true'], { encoding: 'utf8' });
  if (tried.status === 0) return;
  const reason =
    tried.error === undefined ? tried.stderr.trim() : 'unshare (util-linux) is missing';
  const isRoot = process.getuid?.() === 0;
  const first = isRoot
    ? 'In a container, start it privileged (`docker run --privileged`)'
    : 'Run `sudo npm start`';
  throw new MeshError(
    'no_privileges',
    `this needs root or a user namespace (${reason}). ${first}, or allow user namespaces:\n` +
      `  ${isRoot ? '' : 'sudo '}sysctl -w kernel.unprivileged_userns_clone=1 kernel.apparmor_restrict_unprivileged_userns=0`,
  );
}

/** The process that unshare started, as seen from outside; signals go to it. */
function innerPid(child: ChildProcess): number | undefined {
  if (child.pid === undefined) return undefined;
  try {
    const children = readFileSync(`/proc/${child.pid}/task/${child.pid}/children`, 'utf8');
    return Number(children.split(' ')[0]) || undefined;
  } catch {
    return undefined;
  }
}

/** The descriptor of a listening server, which Node keeps to itself. */
function descriptorOf(server: Server): number {
  const { _handle: handle } = server as unknown as { readonly _handle?: { readonly fd?: number } };
  if (handle?.fd === undefined || handle.fd < 0)
    throw new MeshError('no_listener', 'not listening');
  return handle.fd;
}

/** Runs this program again inside; returns its exit code. The listeners must not be used here any more. */
export function runInside(args: readonly string[], api: Server, ui: Server): Promise<number> {
  const command = ['sh', '-c', SETUP, 'sh', process.execPath, ...args];
  const child = spawn('unshare', [...UNSHARE, ...command], {
    stdio: ['inherit', 'inherit', 'inherit', descriptorOf(api), descriptorOf(ui), 'pipe'],
    detached: true,
  });
  api.close();
  ui.close();
  for (const signal of ['SIGINT', 'SIGTERM', 'SIGHUP'] as const) {
    process.on(signal, () => {
      const pid = innerPid(child);
      if (pid !== undefined) process.kill(pid, signal);
    });
  }
  return new Promise((resolve, reject) => {
    child.on('error', reject);
    child.on('exit', (code, signal) => resolve(code ?? 128 + os.signals[signal ?? 'SIGKILL']));
  });
}
