// Reads an untyped YAML object key by key with type checks, and refuses keys that nobody read.
import { parse } from 'yaml';
import { MeshError } from '../errors.ts';

/** The value of a YAML text, JSON included. Throws where it is neither. */
export function parseYaml(text: string): unknown {
  return parse(text) as unknown;
}

/** One object of a file; `finish` after the last key. */
export class Fields {
  readonly value: Readonly<Record<string, unknown>>;
  readonly #name: string;
  readonly #read = new Set<string>();

  constructor(name: string, value: unknown) {
    this.#name = name;
    if (typeof value !== 'object' || value === null || Array.isArray(value)) {
      throw this.#bad('', 'must be an object');
    }
    this.value = value as Record<string, unknown>;
  }

  has(key: string): boolean {
    return this.#get(key) !== undefined;
  }

  text(key: string, fallback = ''): string {
    const value = this.#get(key);
    if (value === undefined) return fallback;
    if (typeof value !== 'string' && typeof value !== 'number')
      throw this.#bad(key, 'must be a text');
    return String(value);
  }

  number(key: string, fallback: number): number {
    const value = this.#get(key);
    if (value === undefined) return fallback;
    if (typeof value !== 'number') throw this.#bad(key, 'must be a number');
    return value;
  }

  flag(key: string): boolean {
    const value = this.#get(key) ?? false;
    if (typeof value !== 'boolean') throw this.#bad(key, 'must be true or false');
    return value;
  }

  oneOf<T extends string>(key: string, words: readonly T[], fallback: T): T {
    const value = this.#get(key);
    if (value === undefined) return fallback;
    const found = words.find((word) => word === value);
    if (found === undefined) throw this.#bad(key, `must be one of ${words.join(', ')}`);
    return found;
  }

  list(key: string): readonly unknown[] {
    const value = this.#get(key) ?? [];
    if (!Array.isArray(value)) throw this.#bad(key, 'must be a list');
    return value as unknown[];
  }

  texts(key: string): readonly string[] {
    return this.list(key).map((entry) => {
      if (typeof entry !== 'string') throw this.#bad(key, 'must be a list of texts');
      return entry;
    });
  }

  entries(key: string): ReadonlyArray<readonly [string, unknown]> {
    const value = this.#get(key);
    return value === undefined
      ? []
      : Object.entries(new Fields(`${this.#name} ${key}`, value).value);
  }

  child(key: string): Fields | undefined {
    const value = this.#get(key);
    return value === undefined ? undefined : new Fields(`${this.#name} ${key}`, value);
  }

  /** Throws when a key was never asked for. */
  finish(): void {
    const unknown = Object.keys(this.value).find((key) => !this.#read.has(key));
    if (unknown !== undefined) throw this.#bad(unknown, 'is not known');
  }

  #get(key: string): unknown {
    this.#read.add(key);
    return this.value[key] ?? undefined;
  }

  #bad(key: string, problem: string): MeshError {
    return new MeshError(
      'bad_local_state',
      `${this.#name}: ${key} ${problem}`.replace(':  ', ': '),
    );
  }
}
