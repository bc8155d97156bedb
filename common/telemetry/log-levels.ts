// Log levels for a program and for its scopes, as Istio's ztunnel writes them: `info,proxy=debug,access=off`. A scope's
// level also holds for the scopes below it (`proxy` for `proxy::inbound`); the crate's name in front is dropped.

export const LOG_LEVELS = ['trace', 'debug', 'info', 'warn', 'error', 'off'] as const;
export type LogLevel = (typeof LOG_LEVELS)[number];

/** A parsed level list: the default, and scopes that differ. */
export interface LevelList {
  readonly level: LogLevel | undefined;
  readonly scopes: ReadonlyMap<string, LogLevel>;
}

const CRATE = /^ztunnel(::)?/;

/** Parses a list; undefined when a word is not a level. A later word wins. */
export function parseLevels(text: string): LevelList | undefined {
  let level: LogLevel | undefined;
  const scopes = new Map<string, LogLevel>();
  for (const part of text.split(',').filter((word) => word !== '')) {
    const at = part.indexOf('=');
    const wanted = (at < 0 ? part : part.slice(at + 1)).toLowerCase();
    const word = LOG_LEVELS.find((known) => known === wanted);
    if (word === undefined) return undefined;
    const scope = at < 0 ? '' : part.slice(0, at).replace(CRATE, '');
    if (scope === '') level = word;
    else scopes.set(scope, word);
  }
  return { level, scopes };
}

/** The levels in force. */
export class LogLevels {
  #level: LogLevel;
  readonly #scopes: Map<string, LogLevel>;

  constructor(list: LevelList | undefined) {
    this.#level = list?.level ?? 'info';
    this.#scopes = new Map(list?.scopes);
  }

  /** Adds a list to what is in force. */
  apply({ level, scopes }: LevelList): void {
    this.#level = level ?? this.#level;
    for (const [scope, word] of scopes) this.#scopes.set(scope, word);
  }

  /** Puts a list in the place of what is in force. */
  replace(list: LevelList): void {
    this.#scopes.clear();
    this.#level = 'info';
    this.apply(list);
  }

  /** The rank in {@link LOG_LEVELS} of a scope's level: a line of a lower rank is not written. */
  rankOf(scope: string): number {
    for (let name = scope; name !== ''; name = name.slice(0, Math.max(0, name.lastIndexOf('::')))) {
      const level = this.#scopes.get(name);
      if (level !== undefined) return LOG_LEVELS.indexOf(level);
    }
    return LOG_LEVELS.indexOf(this.#level);
  }

  /** A list that says the same: scopes first, as Istio's ztunnel answers. */
  toString(): string {
    return [...[...this.#scopes].map(([name, level]) => `${name}=${level}`), this.#level].join(',');
  }
}
