// The test entry: finds the test files of a suite, runs them with node:test, and says what was skipped and why.
// `npm test` runs everything the repository can test by itself; other suites: --suite interop|kube|fuzz.
import { spawn } from 'node:child_process';
import { globSync } from 'node:fs';

const SUITES: Readonly<Record<string, readonly string[]>> = {
  unit: ['test/unit/**/*.test.ts'],
  integration: ['test/integration/**/*.test.ts'],
  fuzz: ['test/fuzz/**/*.test.ts'],
  cluster: ['test/cluster/**/*.test.ts'],
  interop: ['test/interop/**/*.test.ts'],
  kube: ['test/kube/**/*.test.ts'],
};
const DEFAULT_SUITES = ['unit', 'integration', 'fuzz', 'cluster'];
const USAGE = `usage: npm test -- [--suite ${Object.keys(SUITES).join('|')}] [name part ...]`;

function fail(message: string): never {
  process.stderr.write(`${message}\n${USAGE}\n`);
  process.exit(2);
}

function runNodeTest(files: readonly string[], concurrency: number): Promise<number> {
  const child = spawn(
    process.execPath,
    ['--test', `--test-concurrency=${concurrency}`, '--test-timeout=180000', ...files],
    { stdio: 'inherit', env: { ...process.env, NODE_COMPILE_CACHE: '.ambient/compile-cache' } },
  );
  return new Promise((resolve) => child.on('exit', (code) => resolve(code ?? 1)));
}

async function main(args: string[]): Promise<void> {
  if (args.includes('--help')) {
    process.stdout.write(`${USAGE}\n`);
    return;
  }
  const at = args.indexOf('--suite');
  const named = at >= 0 ? args.splice(at, 2)[1] : undefined;
  if (named !== undefined && SUITES[named] === undefined) fail(`unknown suite: ${named}`);
  const suites = named === undefined ? DEFAULT_SUITES : [named];
  let exitCode = 0;
  for (const suite of suites) {
    let files = globSync([...(SUITES[suite] ?? [])]).sort();
    if (args.length > 0) files = files.filter((file) => args.some((part) => file.includes(part)));
    if (files.length === 0) continue;
    if (suite === 'cluster' && process.getuid?.() !== 0) {
      process.stdout.write(`# skipped ${files.length} cluster test files: they need root\n`);
      continue;
    }
    process.stdout.write(`# ${suite}: ${files.length} files\n`);
    // Cluster, interop and kube tests own network namespaces and ports: one file at a time.
    const concurrency = ['cluster', 'interop', 'kube'].includes(suite) ? 1 : 2;
    const code = await runNodeTest(files, concurrency);
    if (code !== 0) exitCode = code;
  }
  process.exitCode = exitCode;
}

await main(process.argv.slice(2));
