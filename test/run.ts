// The test entry: finds the test files of a suite, runs them with node:test, and says what was skipped and why, and at the
// end once more what failed.
// `npm test` runs everything the repository can test by itself; other suites: --suite interop|kube|fuzz|conformance.
import { spawn } from 'node:child_process';
import { globSync, mkdtempSync, readFileSync, rmSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { parseArgs } from 'node:util';
import { oneOf, runCommand, usageError } from '../common/command-line.ts';

const SUITES: Readonly<Record<string, readonly string[]>> = {
  unit: ['test/unit/**/*.test.ts'],
  integration: ['test/integration/**/*.test.ts'],
  fuzz: ['test/fuzz/**/*.test.ts'],
  conformance: ['test/conformance/**/*.test.ts'],
  cluster: ['test/cluster/**/*.test.ts'],
  interop: ['test/interop/**/*.test.ts'],
  kube: ['test/kube/**/*.test.ts'],
};
/** One file at a time: they own network namespaces by fixed names, real ports or clusters, measure memory, or take a whole
 * processor. The others run two at a time. */
const ALONE = /^test\/(conformance|interop|kube|cluster\/(cni|local|memory|pace))\b/;
const DEFAULT_SUITES = ['unit', 'integration', 'fuzz', 'conformance', 'cluster'];
/** The real ports are used there: in a network namespace of their own, which any user can make. */
const OWN_NETWORK = ['unshare', '-rn', 'sh', '-c', 'ip link set lo up && exec "$0" "$@"'];
const USAGE = `usage: npm test -- [--suite SUITE] [name part ...]

  --suite SUITE  one of ${Object.keys(SUITES).join(', ')}
                 (default: ${DEFAULT_SUITES.join(', ')}; cluster only as root)
  name part      only the test files whose path has one of these in it (default: all)
  --help`;

/** A test has this long, and a whole file, its hooks and what it leaves running included. */
const TEST_LIMIT_MS = 180_000;
const FILE_LIMIT_MS = 300_000;
/** These build images and start whole clusters. */
const SLOW_SUITES = ['interop', 'kube'];
const SLOW_FILE_LIMIT_MS = 900_000;

/** Ends test files that take too long: a hook that hangs or a handle that is left open has no limit of its own. */
function limitFiles(runner: number, limitMs: number): NodeJS.Timeout {
  const seen = new Map<number, number>();
  return setInterval(() => {
    for (const pid of childrenOf(runner)) {
      const startedMs = seen.get(pid) ?? Date.now();
      seen.set(pid, startedMs);
      if (Date.now() - startedMs < limitMs) continue;
      process.stdout.write(`# ended, it took too long: ${fileOf(pid)}\n`);
      process.kill(pid, 'SIGKILL');
    }
  }, 1000);
}

function childrenOf(pid: number): number[] {
  return read(`/proc/${pid}/task/${pid}/children`).split(' ').filter(Boolean).map(Number);
}

/** The last word of its command line. */
function fileOf(pid: number): string {
  return read(`/proc/${pid}/cmdline`).split('\0').findLast(Boolean) ?? '';
}

/** Empty where the process has gone. */
function read(path: string): string {
  try {
    return readFileSync(path, 'utf8').trim();
  } catch {
    return '';
  }
}

interface Batch {
  readonly files: readonly string[];
  /** How many of them may run at a time. */
  readonly concurrency: number;
  /** The command that runs the runner; empty where it runs as it is. */
  readonly within: readonly string[];
  /** The file that what failed is written to. */
  readonly failures: string;
}

function runNodeTest({ files, concurrency, within, failures }: Batch): Promise<number> {
  const [command, ...prefix] = [...within, process.execPath] as const;
  const child = spawn(
    command,
    [
      ...prefix,
      '--test',
      '--test-reporter=spec',
      '--test-reporter-destination=stdout',
      '--test-reporter=./test/failures-reporter.ts',
      `--test-reporter-destination=${failures}`,
      `--test-concurrency=${concurrency}`,
      `--test-timeout=${TEST_LIMIT_MS}`,
      ...files,
    ],
    { stdio: 'inherit', env: { ...process.env, NODE_COMPILE_CACHE: '.ambient/compile-cache' } },
  );
  const isSlow = SLOW_SUITES.some((suite) => files[0]?.startsWith(`test/${suite}/`));
  const limit = limitFiles(child.pid ?? 0, isSlow ? SLOW_FILE_LIMIT_MS : FILE_LIMIT_MS);
  return new Promise((resolve) => {
    child.on('exit', (code) => {
      clearInterval(limit);
      resolve(code ?? 1);
    });
  });
}

async function main(): Promise<number> {
  const { values, positionals } = parseArgs({
    allowPositionals: true,
    options: { suite: { type: 'string' }, help: { type: 'boolean', default: false } },
  });
  if (values.help) {
    process.stdout.write(`${USAGE}\n`);
    return 0;
  }
  const named = values.suite;
  const suites =
    named === undefined ? DEFAULT_SUITES : [oneOf('suite', named, Object.keys(SUITES))];
  const plan = suites
    .map((suite) => ({ suite, files: filesOf(suite, positionals) }))
    .filter(({ files }) => files.length > 0);
  if (plan.length === 0)
    throw usageError(`no test file of ${suites.join(', ')} is called ${positionals.join(' or ')}`);
  const dir = mkdtempSync(join(tmpdir(), 'ambient-test-'));
  try {
    return await runPlan(plan, dir);
  } finally {
    rmSync(dir, { recursive: true, force: true });
  }
}

type Plan = readonly { readonly suite: string; readonly files: readonly string[] }[];

async function runPlan(plan: Plan, dir: string): Promise<number> {
  let exitCode = 0;
  const failed: string[] = [];
  for (const { suite, files } of plan) {
    if (suite === 'cluster' && process.getuid?.() !== 0) {
      process.stdout.write(`# skipped ${files.length} cluster test files: they need root\n`);
      continue;
    }
    process.stdout.write(`# ${suite}: ${files.length} files\n`);
    const within = suite === 'conformance' ? OWN_NETWORK : [];
    for (const [concurrency, some] of batches(files)) {
      const failures = join(dir, `${suite}-${concurrency}`);
      const code = await runNodeTest({ files: some, concurrency, within, failures });
      if (code !== 0) exitCode = code;
      failed.push(read(failures));
    }
  }
  const report = failed.filter(Boolean).join('\n');
  if (report !== '') process.stdout.write(`# failed:\n${report}\n`);
  return exitCode;
}

/** Files by how many of them may run at a time. */
function batches(files: readonly string[]): [number, readonly string[]][] {
  const alone = files.filter((file) => ALONE.test(file));
  const beside = files.filter((file) => !ALONE.test(file));
  const all: [number, readonly string[]][] = [
    [2, beside],
    [1, alone],
  ];
  return all.filter(([, some]) => some.length > 0);
}

function filesOf(suite: string, parts: readonly string[]): string[] {
  return globSync([...(SUITES[suite] ?? [])])
    .filter((file) => parts.length === 0 || parts.some((part) => file.includes(part)))
    .sort();
}

await runCommand('npm test', main);
