// A logger that keeps lines for assertions.
import type { Logger } from '../../common/telemetry/logger.ts';

export interface LoggedLine {
  readonly level: string;
  readonly fields: object;
  readonly message: string;
}

export function quietLogger(): Logger & { readonly lines: LoggedLine[] } {
  const lines: LoggedLine[] = [];
  const write = (level: string) => (fields: object, message: string) => {
    lines.push({ level, fields, message });
  };
  return {
    lines,
    debug: write('debug'),
    info: write('info'),
    warn: write('warn'),
    error: write('error'),
    isLevelEnabled: (level) => level !== 'debug',
  };
}
