// Runs `nft` and `ip` in a network namespace: a child started between setns and back is born in it.
import { spawn } from 'node:child_process';
import { runInNetns, type Netns } from '../../engine/reactor/netns.ts';
import { MeshError } from '../../common/errors.ts';

const TIMEOUT_MS = 10_000;
const MAX_OUTPUT = 4000;

export interface CommandOutcome {
  readonly code: number;
  readonly stderr: string;
}

/** Runs a command in the namespace (or here) with this input. */
export function runThere(
  netns: Netns | undefined,
  argv: readonly string[],
  stdin: string,
): Promise<CommandOutcome> {
  const [file = '', ...args] = argv;
  return new Promise((resolve, reject) => {
    const child = runInNetns(netns, () => spawn(file, args, { stdio: ['pipe', 'ignore', 'pipe'] }));
    const timer = setTimeout(() => child.kill('SIGKILL'), TIMEOUT_MS);
    let stderr = '';
    child.stderr.setEncoding('utf8').on('data', (text: string) => {
      if (stderr.length < MAX_OUTPUT) stderr += text;
    });
    child.on('error', (cause) => {
      clearTimeout(timer);
      reject(new MeshError('rules_failed', `${file} cannot be started`, { cause }));
    });
    child.on('close', (code) => {
      clearTimeout(timer);
      resolve({ code: code ?? 128, stderr });
    });
    child.stdin.on('error', () => {
      // The command ended without reading all of its input; its exit code says why.
    });
    child.stdin.end(stdin);
  });
}

/** Loads an nftables ruleset in one transaction. */
export async function loadRules(netns: Netns | undefined, rules: string): Promise<void> {
  const { code, stderr } = await runThere(netns, ['nft', '-f', '-'], rules);
  if (code !== 0) {
    throw new MeshError('rules_failed', `nft refused the rules: ${stderr.trim().slice(0, 500)}`);
  }
}

/** Runs `ip -batch` lines; errors that match `expected` count as done. */
export async function runIpBatch(
  netns: Netns,
  family: '-4' | '-6',
  lines: readonly string[],
  expected: RegExp,
): Promise<void> {
  const argv = ['ip', family, '-force', '-batch', '-'];
  const { code, stderr } = await runThere(netns, argv, lines.join('\n') + '\n');
  const problems = stderr
    .split('\n')
    .filter((line) => line !== '' && !line.startsWith('Command failed') && !expected.test(line));
  if (code !== 0 && problems.length > 0) {
    throw new MeshError('rules_failed', `ip failed: ${problems.join('; ').slice(0, 500)}`);
  }
}
