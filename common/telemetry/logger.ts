// Logging: one pino root for a thread, a child for each scope, levels changeable at run time (admin /logging).
// Lines look like Istio ztunnel's JSON: level (word), time, scope, message, fields. Never log a secret.
import { pino } from 'pino';
import type { Logger as PinoLogger } from 'pino';

export const LOG_LEVELS = ['trace', 'debug', 'info', 'warn', 'error', 'off'] as const;
export type LogLevel = (typeof LOG_LEVELS)[number];

type LogMethod = (fields: object, message: string) => void;

/** What code that logs is given. The message is a constant sentence, variables are fields. */
export interface Logger {
  debug: LogMethod;
  info: LogMethod;
  warn: LogMethod;
  error: LogMethod;
  /** Whether a line of this level would be written: guards costly fields. */
  isLevelEnabled(level: string): boolean;
}

/** The loggers of a thread. */
export interface LoggerRoot {
  /** The logger of a scope; the same one for the same name. */
  scope(name: string): Logger;
  /** Sets one scope's level, or that of all scopes. */
  setLevel(level: LogLevel, scope?: string): void;
  /** `info,access=off`: the default level, then the scopes that differ. */
  describeLevels(): string;
  /** Writes what is buffered; call before exit. */
  flush(): void;
}

/** Options of {@link createLoggerRoot}. */
export interface LoggerOptions {
  /** Default `info`. A list such as `info,access=off` sets scopes too. */
  readonly level?: string;
  /** File descriptor; default standard output. */
  readonly fd?: number;
}

/** A parsed level list: the default, and scopes that differ. */
export interface LevelList {
  readonly level: LogLevel | undefined;
  readonly scopes: ReadonlyMap<string, LogLevel>;
}

/** Parses `info,access=off`; undefined when a word is not a level. */
export function parseLevels(text: string): LevelList | undefined {
  let level: LogLevel | undefined;
  const scopes = new Map<string, LogLevel>();
  for (const part of text.split(',').filter((word) => word !== '')) {
    const at = part.indexOf('=');
    const word = LOG_LEVELS.find((known) => known === (at < 0 ? part : part.slice(at + 1)));
    if (word === undefined) return undefined;
    if (at < 0) level = word;
    else scopes.set(part.slice(0, at), word);
  }
  return { level, scopes };
}

/** Creates the thread's loggers, writing JSON lines to standard output. */
export function createLoggerRoot(options: LoggerOptions = {}): LoggerRoot {
  const destination = pino.destination({ dest: options.fd ?? 1, sync: true });
  const root: PinoLogger = pino(
    {
      level: 'trace',
      base: null,
      messageKey: 'message',
      formatters: { level: (label) => ({ level: label }) },
      timestamp: () => `,"time":"${new Date().toISOString()}"`,
    },
    destination,
  );
  const wanted = parseLevels(options.level ?? 'info');
  const scopeLevels = new Map<string, LogLevel>(wanted?.scopes ?? []);
  const children = new Map<string, PinoLogger>();
  let defaultLevel: LogLevel = wanted?.level ?? 'info';
  const pinoLevel = (level: LogLevel): string => (level === 'off' ? 'silent' : level);
  const refresh = (): void => {
    for (const [name, child] of children) {
      child.level = pinoLevel(scopeLevels.get(name) ?? defaultLevel);
    }
  };
  return {
    scope(name) {
      const known = children.get(name);
      if (known !== undefined) return known;
      const child: PinoLogger = root.child({ scope: name });
      children.set(name, child);
      refresh();
      return child;
    },
    setLevel(level, scope) {
      if (scope === undefined) {
        defaultLevel = level;
        scopeLevels.clear();
      } else {
        scopeLevels.set(scope, level);
      }
      refresh();
    },
    describeLevels: () =>
      [defaultLevel, ...[...scopeLevels].map(([name, level]) => `${name}=${level}`)].join(','),
    flush: () => destination.flushSync(),
  };
}
