// A cluster whose API server is a real one: KUBECONFIG, or started by `$AMBIENT_KUBE/up`. Nodes and pods are ours.
import { spawn, spawnSync, type ChildProcess } from 'node:child_process';
import { existsSync, mkdtempSync, openSync, rmSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';

const API_PORT = '26843';
const BUILD_TIMEOUT_MS = 40 * 60_000;

/** What ran: exit code and both outputs. */
export interface CommandResult {
  readonly code: number;
  readonly stdout: string;
  readonly stderr: string;
}

/** Runs a program to its end. */
export function runCommand(argv: readonly string[], input?: string): CommandResult {
  const [command = '', ...args] = argv;
  const result = spawnSync(command, args, { encoding: 'utf8', input, maxBuffer: 1 << 26 });
  return { code: result.status ?? 1, stdout: result.stdout, stderr: result.stderr };
}

/** Polls until `probe` returns a value; fails with the last thing seen. */
export async function eventually<T>(
  what: string,
  seconds: number,
  probe: () => T | undefined,
  detail: () => string = () => '',
): Promise<T> {
  const deadline = Date.now() + seconds * 1000;
  for (;;) {
    const value = probe();
    if (value !== undefined) return value;
    if (Date.now() > deadline) throw new Error(`not within ${seconds} s: ${what}\n${detail()}`);
    await new Promise((resolve) => setTimeout(resolve, 500));
  }
}

/** True when a real API server can be had here. */
export function hasRealApiServer(): boolean {
  return process.env['KUBECONFIG'] !== undefined || process.env['AMBIENT_KUBE'] !== undefined;
}

export class RealCluster {
  readonly dir = mkdtempSync(join(tmpdir(), 'ambient-kube-'));
  readonly #kube = process.env['AMBIENT_KUBE'];
  #kubeconfig = process.env['KUBECONFIG'] ?? '';
  #kubectl = ['kubectl'];
  #kubelet: ChildProcess | undefined;

  /** Starts the API server if none was given, and two nodes. */
  start(): void {
    if (this.#kubeconfig === '') this.#startApiServer();
    const log = openSync(join(this.dir, 'kubelet.log'), 'a');
    this.#kubelet = spawn(
      process.execPath,
      [
        'local/kubelet/main.ts',
        '--kubeconfig',
        this.#kubeconfig,
        '--state',
        join(this.dir, 'state'),
      ],
      { stdio: ['ignore', log, log] },
    );
  }

  #startApiServer(): void {
    const home = this.#kube ?? '';
    const up = spawnSync(join(home, 'up'), [join(this.dir, 'kube'), '--port', API_PORT], {
      encoding: 'utf8',
      stdio: ['ignore', 'pipe', 'inherit'],
      timeout: BUILD_TIMEOUT_MS,
    });
    if (up.status !== 0) throw new Error('the API server did not start');
    this.#kubeconfig = up.stdout.trim().split('\n').at(-1) ?? '';
    const bundled = join(this.dir, 'kube', 'kube');
    if (existsSync(bundled)) this.#kubectl = [bundled, 'kubectl'];
  }

  kubectl(args: readonly string[], input?: string): CommandResult {
    return runCommand([...this.#kubectl, '--kubeconfig', this.#kubeconfig, ...args], input);
  }

  /** As {@link kubectl}; throws when it fails. */
  must(args: readonly string[], input?: string): string {
    const result = this.kubectl(args, input);
    if (result.code !== 0) throw new Error(`kubectl ${args.join(' ')}: ${result.stderr}`);
    return result.stdout;
  }

  /** Runs a program in a pod's network namespace. */
  inPod(namespace: string, pod: string, argv: readonly string[]): CommandResult {
    const found = runCommand(['ip', 'netns', 'list']).stdout.split('\n');
    const name = `${namespace}.${pod}`;
    const netns = found
      .map((line) => line.split(' ')[0] ?? '')
      .find((each) => each.startsWith(name));
    if (netns === undefined) return { code: 1, stdout: '', stderr: `no netns of ${name}` };
    return runCommand(['ip', 'netns', 'exec', netns, ...argv]);
  }

  /** Name of one running pod with the given labels. */
  podName(namespace: string, selector: string, node?: string): string | undefined {
    const fields = node === undefined ? [] : ['--field-selector', `spec.nodeName=${node}`];
    const args = [
      'get',
      'pods',
      '-n',
      namespace,
      '-l',
      selector,
      ...fields,
      '-o',
      'jsonpath={.items[0].metadata.name}',
    ];
    const name = this.kubectl(args).stdout;
    return name === '' ? undefined : name;
  }

  async stop(): Promise<void> {
    const kubelet = this.#kubelet;
    if (kubelet?.exitCode === null) {
      const ended = new Promise((resolve) => kubelet.on('exit', resolve));
      kubelet.kill('SIGTERM');
      await ended;
    }
    if (this.#kube !== undefined && process.env['KUBECONFIG'] === undefined) {
      spawnSync(join(this.#kube, 'down'), [join(this.dir, 'kube')], { stdio: 'inherit' });
    }
    rmSync(this.dir, { recursive: true, force: true });
  }
}
