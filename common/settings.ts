// A program's environment variables as a table: each entry says how a variable is read, its default and what it
// means, so that reading, documentation (docs/config.md, by `npm run docs`) and the list of what is not supported
// come from one place. Adding a variable is adding one entry.
import type { EnvReader } from './env.ts';
import { parseDurationMs } from './env.ts';

/** One variable. `fallback` and `type` are as the documentation shows them. */
export interface Setting<T> {
  readonly type: string;
  readonly fallback: string;
  readonly meaning: string;
  readonly support: 'supported' | 'ignored' | 'refused';
  read(reader: EnvReader, name: string): T;
}

/** Variables by name. A name that ends in `*` stands for all with that prefix. */
export type SettingTable = Readonly<Record<string, Setting<unknown>>>;

/** What a table's variables were set to. */
export type SettingValues<T extends SettingTable> = {
  readonly [Name in keyof T]: ReturnType<T[Name]['read']>;
};

/** Reads every variable of a table; problems and warnings are collected by the reader. */
export function readSettings<T extends SettingTable>(
  table: T,
  reader: EnvReader,
): SettingValues<T> {
  return Object.fromEntries(
    Object.entries(table).map(([name, setting]) => [name, setting.read(reader, name)]),
  ) as SettingValues<T>;
}

/** Text; empty when it is set to nothing. `shown` is the default as documented, where it is not the plain value. */
export function text(meaning: string, fallback = '', shown = fallback): Setting<string> {
  return supported('text', shown, meaning, (reader, name) => reader.string(name, fallback));
}

/** Text without a default; undefined when unset or empty. */
export function optionalText(meaning: string, shown = ''): Setting<string | undefined> {
  return supported('text', shown, meaning, (reader, name) => reader.optional(name));
}

/** Text that may be set to nothing, which differs from unset (undefined). */
export function textOrEmpty(meaning: string, shown: string): Setting<string | undefined> {
  return supported('text', shown, meaning, (reader, name) => reader.raw(name));
}

/** Text that must be there. */
export function requiredText(meaning: string): Setting<string> {
  return supported('text', 'required', meaning, (reader, name) => reader.required(name));
}

/** Names separated by commas; spaces around them and empty ones do not count. */
export function list(meaning: string, fallback: string): Setting<readonly string[]> {
  return supported('list, by commas', fallback, meaning, (reader, name) =>
    splitList(reader.string(name, fallback)),
  );
}

/** As {@link list}; undefined when unset. */
export function optionalList(
  meaning: string,
  shown: string,
): Setting<readonly string[] | undefined> {
  return supported('list, by commas', shown, meaning, (reader, name) => {
    const value = reader.raw(name);
    return value === undefined ? undefined : splitList(value);
  });
}

function splitList(value: string): string[] {
  return value
    .split(',')
    .map((word) => word.trim())
    .filter((word) => word !== '');
}

/** Exactly `true` or `false`. */
export function flag(meaning: string, fallback: boolean): Setting<boolean> {
  return supported('true or false', String(fallback), meaning, (reader, name) =>
    reader.boolean(name, fallback),
  );
}

/** Exactly `true` or `false`; undefined when unset. */
export function optionalFlag(meaning: string, shown: string): Setting<boolean | undefined> {
  return supported('true or false', shown, meaning, (reader, name) =>
    reader.optional(name) === undefined ? undefined : reader.boolean(name, false),
  );
}

/** Bounds and unit of a {@link whole}. */
export interface WholeOptions {
  readonly min?: number;
  readonly max?: number;
  readonly unit?: string;
}

/** A whole number; the unit, when there is one, is part of the type shown. */
export function whole(
  meaning: string,
  fallback: number,
  options: WholeOptions = {},
): Setting<number> {
  const { min = 0, max = Number.MAX_SAFE_INTEGER, unit = 'number' } = options;
  const range = max === Number.MAX_SAFE_INTEGER ? `from ${min}` : `${min} to ${max}`;
  return supported(`${unit}, ${range}`, String(fallback), meaning, (reader, name) =>
    reader.integer(name, fallback, min, max),
  );
}

/** A whole number, or undefined when unset; `shown` is the default as documented. */
export function optionalWhole(
  meaning: string,
  shown: string,
  options: WholeOptions = {},
): Setting<number | undefined> {
  const { min = 0 } = options;
  const { type } = whole(meaning, min, options);
  return supported(type, shown, meaning, (reader, name) =>
    reader.optional(name) === undefined
      ? undefined
      : reader.integer(name, min, options.min, options.max),
  );
}

/** A port; 0 lets the system choose. */
export function port(meaning: string, fallback: number): Setting<number> {
  return whole(meaning, fallback, { max: 65_535, unit: 'port' });
}

/** A duration such as `300ms` or `5m`, read as milliseconds. */
export function duration(meaning: string, fallback: string): Setting<number> {
  return supported('duration', fallback, meaning, (reader, name) =>
    reader.durationMs(name, parseDurationMs(fallback) ?? 0),
  );
}

/** A duration in milliseconds, or undefined when unset. */
export function optionalDuration(meaning: string, shown: string): Setting<number | undefined> {
  return supported('duration', shown, meaning, (reader, name) =>
    reader.optional(name) === undefined ? undefined : reader.durationMs(name, 0),
  );
}

/** One of the given words. */
export function choice<T extends string>(
  meaning: string,
  words: readonly T[],
  fallback: T,
): Setting<T> {
  return supported(words.join(' or '), fallback, meaning, (reader, name) =>
    reader.oneOf(name, words, fallback),
  );
}

/** Every variable with the name's prefix, by the rest of its name. */
export function prefixed(meaning: string): Setting<Readonly<Record<string, string>>> {
  return supported('text', '', meaning, (reader, name) => reader.prefixed(name.slice(0, -1)));
}

/** A variable that others have and this program does without: a value other than the harmless ones warns. */
export function ignored(meaning: string, harmless: readonly string[] = []): Setting<undefined> {
  return unsupported('ignored', meaning, harmless, (reader, name) =>
    reader.warn(name, `is ignored: ${meaning}`),
  );
}

/** A variable whose effect this program lacks and whose neglect would surprise: a value other than the harmless
 * ones ends the start. */
export function refused(meaning: string, harmless: readonly string[] = []): Setting<undefined> {
  return unsupported('refused', meaning, harmless, (reader, name) =>
    reader.problem(name, `is not supported: ${meaning}`),
  );
}

function unsupported(
  support: 'ignored' | 'refused',
  meaning: string,
  harmless: readonly string[],
  report: (reader: EnvReader, name: string) => void,
): Setting<undefined> {
  const read = (reader: EnvReader, name: string): undefined => {
    const names = name.endsWith('*') ? reader.namesWith(name.slice(0, -1)) : [name];
    for (const each of names) {
      const value = reader.optional(each);
      if (value !== undefined && !harmless.includes(value)) report(reader, each);
    }
  };
  const type = ['unset', ...harmless].join(' or ');
  return { type, fallback: '', meaning, support, read };
}

function supported<T>(
  type: string,
  fallback: string,
  meaning: string,
  read: (reader: EnvReader, name: string) => T,
): Setting<T> {
  return { type, fallback, meaning, support: 'supported', read };
}
