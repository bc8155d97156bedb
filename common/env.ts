// Reads configuration from an environment-like object, collects every problem, and fails once with all of
// them (linkerd2-proxy's habit), so that an operator does not fix mistakes one restart at a time.
import { MeshError } from './errors.ts';

export type Env = Readonly<Record<string, string | undefined>>;

const UNIT_MS: Readonly<Record<string, number>> = { ms: 1, s: 1000, m: 60_000, h: 3_600_000 };

/** `300ms`, `5m`, `1h30m` to milliseconds; undefined when the text is not such a duration. */
export function parseDurationMs(text: string): number | undefined {
  if (!/^(\d+(\.\d+)?(ms|s|m|h))+$/.test(text)) return undefined;
  let total = 0;
  for (const part of text.matchAll(/(\d+(?:\.\d+)?)(ms|s|m|h)/g)) {
    total += Number(part[1]) * (UNIT_MS[part[2] ?? ''] ?? 0);
  }
  return total;
}

/** Typed access to variables; call {@link EnvReader.finish} after the last read. */
export class EnvReader {
  readonly #env: Env;
  readonly #problems: string[] = [];
  readonly #warnings: string[] = [];

  constructor(env: Env) {
    this.#env = env;
  }

  /** The text, or the fallback when unset. */
  string(name: string, fallback = ''): string {
    return this.#env[name] ?? fallback;
  }

  /** The text, or undefined when unset or empty. */
  optional(name: string): string | undefined {
    const value = this.#env[name];
    return value === undefined || value === '' ? undefined : value;
  }

  /** The text; a problem when unset or empty. */
  required(name: string): string {
    const value = this.optional(name);
    if (value === undefined) this.problem(name, 'is required');
    return value ?? '';
  }

  /** Exactly `true` or `false`. */
  boolean(name: string, fallback: boolean): boolean {
    const value = this.optional(name);
    if (value === undefined) return fallback;
    if (value !== 'true' && value !== 'false') {
      this.problem(name, `must be true or false, not "${value}"`);
    }
    return value === 'true';
  }

  /** A whole number between `min` and `max`. */
  integer(name: string, fallback: number, min = 0, max = Number.MAX_SAFE_INTEGER): number {
    const value = this.optional(name);
    if (value === undefined) return fallback;
    const number = /^\d+$/.test(value) ? Number(value) : NaN;
    if (!(number >= min && number <= max)) {
      this.problem(name, `must be a whole number from ${min} to ${max}, not "${value}"`);
      return fallback;
    }
    return number;
  }

  /** A duration such as `300ms` or `5m`, in milliseconds. */
  durationMs(name: string, fallbackMs: number): number {
    const value = this.optional(name);
    if (value === undefined) return fallbackMs;
    const ms = parseDurationMs(value);
    if (ms === undefined)
      this.problem(name, `must be a duration such as 300ms or 5m, not "${value}"`);
    return ms ?? fallbackMs;
  }

  /** One of the given words. */
  oneOf<T extends string>(name: string, allowed: readonly T[], fallback: T): T {
    const value = this.optional(name);
    if (value === undefined) return fallback;
    const found = allowed.find((word) => word === value);
    if (found === undefined) this.problem(name, `must be ${allowed.join(' or ')}, not "${value}"`);
    return found ?? fallback;
  }

  /** The text as it is, empty or not. */
  raw(name: string): string | undefined {
    return this.#env[name];
  }

  /** Names of the variables set that begin with `prefix`. */
  namesWith(prefix: string): string[] {
    return Object.keys(this.#env).filter(
      (name) => name.startsWith(prefix) && name.length > prefix.length,
    );
  }

  /** Every variable whose name begins with `prefix`, by the rest of its name. */
  prefixed(prefix: string): Readonly<Record<string, string>> {
    return Object.fromEntries(
      this.namesWith(prefix).map((name) => [name.slice(prefix.length), this.#env[name] ?? '']),
    );
  }

  /** What was set and has no effect; for the log once there is one. */
  get warnings(): readonly string[] {
    return this.#warnings;
  }

  /** Records something set that has no effect. */
  warn(name: string, text: string): void {
    this.#warnings.push(`${name} ${text}`);
  }

  /** Records a problem found by the caller. */
  problem(name: string, text: string): void {
    this.#problems.push(`${name} ${text}`);
  }

  /** Throws one error that lists every problem found. */
  finish(): void {
    if (this.#problems.length > 0) {
      throw new MeshError('invalid_config', `invalid configuration: ${this.#problems.join('; ')}`);
    }
  }
}
