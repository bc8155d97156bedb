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
/** Lists come over HTTP and add up: more scopes than any program has, and longer ones, are refused. */
const MAX_SCOPES = 100;
const MAX_SCOPE_CHARS = 100;

/** Parses a list; undefined when a word is not a level, or a scope is too long. A later word wins. */
export function parseLevels(text: string): LevelList | undefined {
  let level: LogLevel | undefined;
  const scopes = new Map<string, LogLevel>();
  for (const part of text.split(',').filter((word) => word !== '')) {
    const at = part.indexOf('=');
    const wanted = (at < 0 ? part : part.slice(at + 1)).toLowerCase();
    const word = LOG_LEVELS.find((known) => known === wanted);
    const scope = at < 0 ? '' : part.slice(0, at).replace(CRATE, '');
    if (word === undefined || scope.length > MAX_SCOPE_CHARS) return undefined;
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

  /** Adds a list to what is in force; false, and nothing changes, when that would be too many scopes. */
  apply({ level, scopes }: LevelList): boolean {
    const added = [...scopes.keys()].filter((scope) => !this.#scopes.has(scope)).length;
    if (this.#scopes.size + added > MAX_SCOPES) return false;
    this.#level = level ?? this.#level;
    for (const [scope, word] of scopes) this.#scopes.set(scope, word);
    return true;
  }

  /** Puts a list in the place of what is in force; false, and nothing changes, when it has too many scopes. */
  replace(list: LevelList): boolean {
    if (list.scopes.size > MAX_SCOPES) return false;
    this.#scopes.clear();
    this.#level = 'info';
    return this.apply(list);
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
