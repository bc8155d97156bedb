// The benchmark's network: client pod - node a - node b - server pod, and a second server pod on node a.
// Everything lives in network namespaces with a prefix of our own; the host's network is not touched.
//
//   client 10.210.1.2 --- node a ===== node b --- server   10.210.2.2
//   near   10.210.1.6 ---/               \------ waypoint  10.210.2.6
import { spawn, type ChildProcess } from 'node:child_process';
import { mkdirSync, mkdtempSync, rmSync, writeFileSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { run } from './tools.ts';

export const ADDRESS = {
  client: '10.210.1.2',
  near: '10.210.1.6',
  server: '10.210.2.2',
  waypoint: '10.210.2.6',
} as const;

export type PodName = keyof typeof ADDRESS;
export const IPERF_PORT = 5201;
export const HTTP_PORT = 8080;
/** Address of the service in the waypoint cases. */
export const SERVICE_VIP = '10.96.99.9';

const PODS: ReadonlyArray<readonly [PodName, 'a' | 'b']> = [
  ['client', 'a'],
  ['near', 'a'],
  ['server', 'b'],
  ['waypoint', 'b'],
];

/** One copy of the network with its servers; `close` removes all of it. */
export class Topology {
  readonly name: string;
  readonly dir: string;
  readonly #children: ChildProcess[] = [];
  #isClosing = false;

  constructor(name: string) {
    this.name = `amb-bench-${process.pid}-${name}`;
    this.dir = mkdtempSync(join(tmpdir(), `${this.name}-`));
    this.#createNodes();
    for (const [pod, node] of PODS) this.#createPod(pod, node);
    for (const pod of ['near', 'server'] as const) this.#startServers(pod);
  }

  /** Name of a namespace of this topology. */
  netns(part: PodName | 'a' | 'b'): string {
    return `${this.name}-${part}`;
  }

  /** Starts a program in a pod's namespace; it ends with the topology. */
  spawn(
    pod: PodName | 'a' | 'b',
    argv: readonly string[],
    env: NodeJS.ProcessEnv = {},
  ): ChildProcess {
    const child = spawn('ip', ['netns', 'exec', this.netns(pod), ...argv], {
      stdio: ['ignore', 'pipe', 'pipe'],
      env: { ...process.env, ...env },
    });
    const log: string[] = [];
    const keep = (chunk: Buffer): void => {
      log.push(chunk.toString());
      if (log.length > 200) log.shift();
    };
    child.stdout.on('data', keep);
    child.stderr.on('data', keep);
    child.on('exit', (code, signal) => {
      if (code !== 0 && signal === null && !this.#isClosing) {
        process.stderr.write(`bench: ${argv.join(' ')} ended with ${code}:\n${log.join('')}\n`);
      }
    });
    this.#children.push(child);
    return child;
  }

  /** Arguments that run a command in a pod. */
  inPod(pod: PodName, argv: readonly string[]): string[] {
    return ['netns', 'exec', this.netns(pod), ...argv];
  }

  async close(): Promise<void> {
    this.#isClosing = true;
    await Promise.all(this.#children.map(endChild));
    for (const part of ['client', 'near', 'server', 'waypoint', 'a', 'b'] as const) {
      run('ip', ['netns', 'del', this.netns(part)]);
    }
    rmSync(this.dir, { recursive: true, force: true });
  }

  #createNodes(): void {
    for (const node of ['a', 'b'] as const) {
      run('ip', ['netns', 'add', this.netns(node)]);
      run('ip', ['-n', this.netns(node), 'link', 'set', 'lo', 'up']);
      const sysctls = ['net.ipv4.ip_forward=1', 'net.ipv4.conf.all.rp_filter=0'];
      run('ip', ['netns', 'exec', this.netns(node), 'sysctl', '-qw', ...sysctls]);
    }
    run('ip', [
      'link',
      'add',
      'cross',
      'netns',
      this.netns('a'),
      'type',
      'veth',
      'peer',
      'name',
      'cross',
      'netns',
      this.netns('b'),
    ]);
    this.#configure('a', 'cross', '10.210.0.1/30');
    this.#configure('b', 'cross', '10.210.0.2/30');
    run('ip', ['-n', this.netns('a'), 'route', 'add', '10.210.2.0/24', 'via', '10.210.0.2']);
    run('ip', ['-n', this.netns('b'), 'route', 'add', '10.210.1.0/24', 'via', '10.210.0.1']);
  }

  #configure(part: PodName | 'a' | 'b', link: string, address: string): void {
    run('ip', ['-n', this.netns(part), 'addr', 'add', address, 'dev', link]);
    run('ip', ['-n', this.netns(part), 'link', 'set', link, 'up']);
  }

  #createPod(pod: PodName, node: 'a' | 'b'): void {
    const address = ADDRESS[pod];
    const gateway = address.replace(/\d+$/, (last) => String(Number(last) - 1));
    run('ip', ['netns', 'add', this.netns(pod)]);
    run('ip', ['-n', this.netns(pod), 'link', 'set', 'lo', 'up']);
    run('ip', [
      'link',
      'add',
      'eth0',
      'netns',
      this.netns(pod),
      'type',
      'veth',
      'peer',
      'name',
      pod,
      'netns',
      this.netns(node),
    ]);
    this.#configure(pod, 'eth0', `${address}/30`);
    this.#configure(node, pod, `${gateway}/30`);
    run('ip', ['-n', this.netns(pod), 'route', 'add', 'default', 'via', gateway]);
  }

  #startServers(pod: 'near' | 'server'): void {
    const dir = join(this.dir, `nginx-${pod}`);
    mkdirSync(dir);
    const conf = join(dir, 'nginx.conf');
    writeFileSync(conf, nginxConf(dir));
    this.spawn(pod, ['iperf3', '-s', '-p', String(IPERF_PORT)]);
    this.spawn(pod, ['nginx', '-p', dir, '-c', conf, '-e', join(dir, 'error.log')]);
  }
}

function endChild(child: ChildProcess): Promise<void> {
  if (child.exitCode !== null || child.signalCode !== null) return Promise.resolve();
  return new Promise((resolve) => {
    const force = setTimeout(() => child.kill('SIGKILL'), 3000);
    child.on('exit', () => {
      clearTimeout(force);
      resolve();
    });
    child.kill('SIGTERM');
  });
}

function nginxConf(dir: string): string {
  const temps = ['client_body', 'proxy', 'fastcgi', 'uwsgi', 'scgi']
    .map((kind) => `${kind}_temp_path ${dir}/${kind};`)
    .join(' ');
  return `daemon off; master_process off; worker_processes 1; pid ${dir}/pid; error_log ${dir}/error.log;
events { worker_connections 4096; }
http { access_log off; keepalive_requests 100000000; ${temps}
  server { listen ${HTTP_PORT} backlog=4096; location / { return 200 "hello from the benchmark\\n"; } } }
`;
}
