// Runs short host commands (`ip`, `nft`, CNI plugins) with a deadline and a bound on what they may print.
import { spawn } from 'node:child_process';
import { MeshError } from '../../common/errors.ts';

const MAX_OUTPUT_BYTES = 1 << 20;

export interface CommandResult {
  readonly code: number;
  readonly stdout: string;
  readonly stderr: string;
}

export interface CommandOptions {
  readonly stdin?: string;
  readonly env?: Readonly<Record<string, string>>;
  readonly timeoutMs?: number;
}

/** Runs a command and returns its exit code and output; rejects only when it cannot be started. */
export function tryCommand(
  argv: readonly string[],
  options: CommandOptions = {},
): Promise<CommandResult> {
  const [file = '', ...args] = argv;
  return new Promise((resolve, reject) => {
    const child = spawn(file, args, {
      stdio: ['pipe', 'pipe', 'pipe'],
      ...(options.env === undefined ? {} : { env: { ...process.env, ...options.env } }),
    });
    const timer = setTimeout(() => child.kill('SIGKILL'), options.timeoutMs ?? 15_000);
    const output = { stdout: '', stderr: '' };
    for (const name of ['stdout', 'stderr'] as const) {
      child[name].setEncoding('utf8').on('data', (text: string) => {
        if (output[name].length < MAX_OUTPUT_BYTES) output[name] += text;
      });
    }
    child.on('error', (err) => {
      clearTimeout(timer);
      reject(new MeshError('command_failed', `${file} cannot be started`, { cause: err }));
    });
    child.on('close', (code, signal) => {
      clearTimeout(timer);
      const stderr = signal === null ? output.stderr : `${output.stderr} (killed by ${signal})`;
      resolve({ code: code ?? 128, stdout: output.stdout, stderr });
    });
    child.stdin.on('error', () => {
      // The command ended without reading its input; its exit code says why.
    });
    child.stdin.end(options.stdin ?? '');
  });
}

/** As {@link tryCommand}, but a non-zero exit code is an error. Returns what was printed. */
export async function runCommand(
  argv: readonly string[],
  options: CommandOptions = {},
): Promise<string> {
  const result = await tryCommand(argv, options);
  if (result.code !== 0) {
    const said = (result.stderr || result.stdout).trim().slice(0, 500);
    throw new MeshError('command_failed', `${argv.join(' ')} failed (${result.code}): ${said}`);
  }
  return result.stdout;
}

/** Runs lines of `ip -batch` in this netns, or in the named one. */
export async function ipBatch(lines: readonly string[], netns?: string): Promise<void> {
  const where = netns === undefined ? [] : ['-n', netns];
  await runCommand(['ip', ...where, '-batch', '-'], { stdin: lines.join('\n') + '\n' });
}
