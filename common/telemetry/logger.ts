// Logging: one root for a thread, a logger for each scope, levels changeable at run time (admin /logging). JSON is
// pino's, with the names of Istio's ztunnel; text is in log-line.ts; where lines go, in log-output.ts. Never log a secret.
import { pino } from 'pino';
import { LOG_LEVELS, LogLevels, parseLevels } from './log-levels.ts';
import { formatTextLine, formatTime } from './log-line.ts';
import { directSink } from './log-output.ts';
import type { LogSink } from './log-output.ts';

/** `plain` is the text of Istio's ztunnel. */
export type LogFormat = 'plain' | 'json';

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
  /** Adds a level list to what is in force, or with `isReset` replaces it. False when it is not a list, or there are too many scopes. */
  setLevels(levels: string, isReset?: boolean): boolean;
  /** `access=off,info`: the scopes that differ, then the default level. */
  describeLevels(): string;
  /** Writes what is buffered; call before exit. */
  flush(): void;
}

/** Options of {@link createLoggerRoot}. */
export interface LoggerOptions {
  /** Default `info`. A list such as `info,access=off` sets scopes too. */
  readonly level?: string;
  /** Default `json`. */
  readonly format?: LogFormat;
  /** Default standard output, a line at a time. */
  readonly sink?: LogSink;
  readonly now?: () => number;
}

const NOTHING = (): void => undefined;

type WriteLine = (level: WrittenLevel, scope: string, fields: object, message: string) => void;
type WrittenLevel = 'debug' | 'info' | 'warn' | 'error';

/** A scope's logger. A method of a level that is off does nothing at all. */
class ScopeLogger implements Logger {
  readonly #scope: string;
  readonly #write: WriteLine;
  #rank = 0;
  debug: LogMethod = NOTHING;
  info: LogMethod = NOTHING;
  warn: LogMethod = NOTHING;
  error: LogMethod = NOTHING;

  constructor(scope: string, write: WriteLine) {
    this.#scope = scope;
    this.#write = write;
  }

  setRank(rank: number): void {
    this.#rank = rank;
    this.debug = this.#method('debug');
    this.info = this.#method('info');
    this.warn = this.#method('warn');
    this.error = this.#method('error');
  }

  isLevelEnabled(level: string): boolean {
    const rank = (LOG_LEVELS as readonly string[]).indexOf(level);
    return rank >= this.#rank && level !== 'off';
  }

  #method(level: WrittenLevel): LogMethod {
    if (!this.isLevelEnabled(level)) return NOTHING;
    return (fields, message) => this.#write(level, this.#scope, fields, message);
  }
}

function textWriter(sink: LogSink, now: () => number): WriteLine {
  return (level, scope, fields, message) => {
    sink.write(`${formatTextLine({ level, scope, message, fields }, now())}\n`);
  };
}

function jsonWriter(sink: LogSink, now: () => number): WriteLine {
  const root = pino(
    {
      level: 'trace',
      base: null,
      messageKey: 'message',
      formatters: { level: (label) => ({ level: label }) },
      timestamp: () => `,"time":"${formatTime(now())}"`,
    },
    { write: (line) => sink.write(line) },
  );
  const children = new Map<string, typeof root>();
  return (level, scope, fields, message) => {
    let child = children.get(scope);
    if (child === undefined) {
      child = root.child({ scope });
      children.set(scope, child);
    }
    child[level](fields, message);
  };
}

/** Creates a thread's loggers. */
export function createLoggerRoot(options: LoggerOptions = {}): LoggerRoot {
  const { format = 'json', sink = directSink(), now = Date.now } = options;
  const levels = new LogLevels(parseLevels(options.level ?? 'info'));
  const loggers = new Map<string, ScopeLogger>();
  const write = format === 'json' ? jsonWriter(sink, now) : textWriter(sink, now);
  return {
    scope(name) {
      const known = loggers.get(name);
      if (known !== undefined) return known;
      const logger = new ScopeLogger(name, write);
      logger.setRank(levels.rankOf(name));
      loggers.set(name, logger);
      return logger;
    },
    setLevels(text, isReset = false) {
      const list = parseLevels(text);
      if (list === undefined) return false;
      const isTaken = isReset ? levels.replace(list) : levels.apply(list);
      if (!isTaken) return false;
      for (const [name, logger] of loggers) logger.setRank(levels.rankOf(name));
      return true;
    },
    describeLevels: () => String(levels),
    flush: () => sink.flush(),
  };
}
