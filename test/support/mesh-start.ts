// `npm start` as a child of a test: clones of the repository to start it in, the run itself with what it prints, and
// what it left on the machine. Traces are looked up by the clone's own names, since others may use the machine too.
import assert from 'node:assert/strict';
import { spawn, spawnSync, type ChildProcess } from 'node:child_process';
import {
  chownSync,
  cpSync,
  existsSync,
  mkdirSync,
  readdirSync,
  readFileSync,
  readlinkSync,
  symlinkSync,
} from 'node:fs';
import { join } from 'node:path';
import { sleep, systemClock } from '../../common/clock.ts';

export const REPOSITORY = join(import.meta.dirname, '../..');
const POLL_MS = 50;
const NOT_CLONED = /^(node_modules|\.git|\.ambient.*|dist|coverage)$/;

/** A copy of the repository's files without the installed packages. */
function copyRepository(dir: string): void {
  mkdirSync(dir, { recursive: true });
  for (const name of readdirSync(REPOSITORY)) {
    if (!NOT_CLONED.test(name))
      cpSync(join(REPOSITORY, name), join(dir, name), { recursive: true });
  }
}

/** A clone in which to start; installed packages are shared by a link. */
export function makeClone(dir: string): void {
  copyRepository(dir);
  symlinkSync(join(REPOSITORY, 'node_modules'), join(dir, 'node_modules'));
}

/** A clone that belongs to a user, who need not be able to read this repository: see {@link asUser}. */
export function makeCloneOf(uid: number, dir: string): void {
  copyRepository(dir);
  mkdirSync(join(dir, 'node_modules'));
  giveTo(uid, dir);
}

/** A command run as a user in a clone of {@link makeCloneOf}, the installed packages bound into it. */
export function asUser(uid: number, clone: string, argv: readonly string[]): string[] {
  const user = ['--reuid', uid, '--regid', uid, '--clear-groups'].join(' ');
  const script = `mount --bind "$1" "$2" && shift 2 && exec setpriv ${user} -- "$@"`;
  const folders = [join(REPOSITORY, 'node_modules'), join(clone, 'node_modules')];
  return ['unshare', '-m', 'sh', '-c', script, 'sh', ...folders, ...argv];
}

/** Gives a folder and all in it to a user; links are left alone. */
function giveTo(uid: number, dir: string): void {
  chownSync(dir, uid, uid);
  for (const entry of readdirSync(dir, { withFileTypes: true })) {
    const path = join(dir, entry.name);
    if (entry.isDirectory()) giveTo(uid, path);
    else if (!entry.isSymbolicLink()) chownSync(path, uid, uid);
  }
}

/** Polls until `look` gives something; fails with what was waited for. */
export async function until<T>(
  what: () => string,
  look: () => T | undefined,
  timeoutMs: number,
): Promise<T> {
  const deadline = Date.now() + timeoutMs;
  for (;;) {
    const found = look();
    if (found !== undefined) return found;
    if (Date.now() > deadline) assert.fail(what());
    await sleep(systemClock, POLL_MS);
  }
}

/** A running `npm start`. */
export class MeshStart {
  readonly #child: ChildProcess;
  readonly exited: Promise<number>;
  output = '';

  /** `argv` is the whole command, for instance of {@link startCommand}. */
  constructor(argv: readonly string[], cwd: string, env: NodeJS.ProcessEnv = process.env) {
    const [file = '', ...args] = argv;
    this.#child = spawn(file, args, { cwd, env, stdio: ['pipe', 'pipe', 'pipe'] });
    for (const stream of [this.#child.stdout, this.#child.stderr]) {
      stream?.setEncoding('utf8').on('data', (text: string) => (this.output += text));
    }
    this.exited = new Promise((resolve) => {
      this.#child.on('close', (code) => resolve(code ?? 128));
    });
  }

  get pid(): number {
    return this.#child.pid ?? assert.fail('it did not start');
  }

  /** Waits until it has printed this. */
  async saw(pattern: RegExp, timeoutMs = 60_000): Promise<void> {
    const { exitCode } = this.#child;
    await until(
      () => `never said ${String(pattern)} (exit code ${String(exitCode)}):\n${this.output}`,
      () => (pattern.test(this.output) || this.#child.exitCode !== null ? true : undefined),
      timeoutMs,
    );
    assert.match(this.output, pattern);
  }

  /** Types on its keyboard; `\x03` is Ctrl-C where it has a terminal. */
  type(text: string): void {
    this.#child.stdin?.write(text);
  }

  signal(name: NodeJS.Signals): void {
    this.#child.kill(name);
  }

  /** Interrupts it as Ctrl-C does; returns its exit code. */
  interrupt(): Promise<number> {
    this.signal('SIGINT');
    return this.exited;
  }
}

/** The command that `npm start -- ...args` runs in a clone. */
export function startCommand(clone: string, ...args: string[]): string[] {
  return [process.execPath, join(clone, 'local/main.ts'), '--no-install', ...args];
}

/** The names of the network namespaces that a running cluster made. */
export function netnsOf(stateDir: string): string[] {
  const dir = join(stateDir, 'netns');
  return existsSync(dir) ? readdirSync(dir) : [];
}

interface Link {
  readonly ifname: string;
  readonly ifalias?: string;
  readonly master?: string;
}

function links(): Link[] {
  return JSON.parse(spawnSync('ip', ['-j', 'link'], { encoding: 'utf8' }).stdout) as Link[];
}

/** The interfaces of a running cluster on the machine: its bridge and the nodes' ends. */
export function linksOf(stateDir: string): string[] {
  const all = links();
  const bridge = all.find(({ ifalias }) => ifalias === stateDir)?.ifname;
  if (bridge === undefined) return [];
  return all.flatMap(({ ifname, master }) =>
    ifname === bridge || master === bridge ? [ifname] : [],
  );
}

function readProc(pid: string, file: string): string {
  try {
    return readFileSync(`/proc/${pid}/${file}`, 'utf8');
  } catch {
    return '';
  }
}

function netnsInode(pid: string): string {
  try {
    return readlinkSync(`/proc/${pid}/ns/net`);
  } catch {
    return '';
  }
}

/** Processes that run a program of the clone or live in one of its network namespaces. */
export function processesOf(clone: string): number[] {
  const own = new Set(
    readdirSync('/proc').filter(
      (pid) => /^\d+$/.test(pid) && readProc(pid, 'cmdline').includes(`${clone}/`),
    ),
  );
  const home = readlinkSync('/proc/self/ns/net');
  const spaces = new Set([...own].map(netnsInode).filter((inode) => inode !== home));
  return readdirSync('/proc')
    .filter((pid) => own.has(pid) || (/^\d+$/.test(pid) && spaces.has(netnsInode(pid))))
    .map(Number);
}

/** What a cluster was seen to have on the machine, by which its traces are found when it has gone. */
export interface Footprint {
  readonly clone: string;
  readonly netns: readonly string[];
  readonly links: readonly string[];
  readonly processes: readonly number[];
}

/** Looks at a running cluster. */
export function footprint(clone: string, stateDir = join(clone, '.ambient')): Footprint {
  return {
    clone,
    netns: netnsOf(stateDir),
    links: linksOf(stateDir),
    processes: processesOf(clone),
  };
}

/** What is still there of a cluster: namespaces, interfaces, nft rules, routes, mounts, processes; empty when clean. */
export function tracesOf({ clone, netns, links: made, processes }: Footprint): string[] {
  const traces: string[] = [];
  const names = existsSync('/run/netns') ? readdirSync('/run/netns') : [];
  traces.push(...names.filter((name) => netns.includes(name)).map((name) => `netns ${name}`));
  const now = links();
  for (const { ifname, ifalias } of now) {
    if (made.includes(ifname) || ifalias?.startsWith(`${clone}/`) === true) {
      traces.push(`interface ${ifname}`);
    }
  }
  const mounts = readFileSync('/proc/self/mountinfo', 'utf8').split('\n');
  for (const mount of mounts) {
    const point = mount.split(' ')[4] ?? '';
    const isNetns = netns.some((name) => point.endsWith(`/netns/${name}`));
    if (isNetns || point.startsWith(`${clone}/`)) traces.push(`mount ${point}`);
  }
  const rules = spawnSync('nft', ['list', 'ruleset'], { encoding: 'utf8' }).stdout;
  traces.push(...made.filter((name) => rules.includes(`"${name}"`)).map((name) => `rule ${name}`));
  const alive = new Set([
    ...processes.filter((pid) => existsSync(`/proc/${pid}`)),
    ...processesOf(clone),
  ]);
  // One that has ended and waits for its parent's wait(2) has no command line any more.
  const running = [...alive].filter((pid) => readProc(String(pid), 'cmdline') !== '');
  traces.push(...running.map((pid) => `process ${pid} ${readProc(String(pid), 'cmdline')}`));
  return traces;
}
