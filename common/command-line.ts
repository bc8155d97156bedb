// What the scripts of package.json have in common: a mistake on the command line is one line on standard error and exit
// code 2, never a stack trace; whole numbers are checked. Programs that run in pods are configured by variables instead.
import { MeshError } from './errors.ts';

/** A mistake on the command line; {@link runCommand} tells it in one line. */
export function usageError(message: string): MeshError<'usage'> {
  return new MeshError('usage', message);
}

/** Whether the command line is at fault: what `parseArgs` throws, or {@link usageError}. */
export function isUsageError(err: unknown): err is Error {
  if (!(err instanceof Error)) return false;
  const code = 'code' in err ? String(err.code) : '';
  return code === 'usage' || code.startsWith('ERR_PARSE_ARGS_');
}

/** The value of `--name` as a whole number, at least `min`; throws a usage error. */
export function wholeNumber(name: string, text: string, min = 1): number {
  const number = /^\d{1,15}$/.test(text) ? Number(text) : NaN;
  if (!(number >= min))
    throw usageError(`--${name} must be a whole number from ${min}, not "${text}"`);
  return number;
}

/** The value of `--name`, one of `allowed`; throws a usage error. */
export function oneOf<T extends string>(name: string, text: string, allowed: readonly T[]): T {
  const found = allowed.find((one) => one === text);
  if (found === undefined)
    throw usageError(`--${name} must be one of ${allowed.join(', ')}, not "${text}"`);
  return found;
}

/** Runs a script's work, which returns the exit code; `name` is how the script is called, such as `npm run bench`. */
export async function runCommand(
  name: string,
  work: () => number | Promise<number>,
): Promise<void> {
  try {
    process.exitCode = await work();
  } catch (err) {
    if (!isUsageError(err)) throw err;
    process.stderr.write(`${name}: ${err.message.replaceAll('\n', ' ')} (see --help)\n`);
    process.exitCode = 2;
  }
}
