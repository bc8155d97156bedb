// Checks that several kinds share: headers, ports, regular expressions, percentages, durations.
import type { Duration } from '@bufbuild/protobuf/wkt';
import { durationMs } from './go-duration.ts';
import type { Problems } from './problem.ts';
import { regexProblem } from './regex.ts';

const HEADER_NAME = /^[A-Za-z0-9!#$%&'*+.^_`|~-]+$/;

/** A port from 1 to 65535. */
export function checkPort(port: number, problems: Problems): void {
  problems.check(port >= 1 && port <= 65535, `${port} is not a port`);
}

/** RE2 syntax. */
export function checkRegex(expression: string, problems: Problems): void {
  const problem = regexProblem(expression);
  if (problem !== undefined) problems.invalid(problem);
}

/** A header name; pseudo-headers only where they are allowed. */
export function checkHeaderName(
  name: string,
  problems: Problems,
  pseudo: readonly string[] = [],
): void {
  if (pseudo.includes(name)) return;
  problems.check(HEADER_NAME.test(name), `${JSON.stringify(name)} is not a header name`);
}

/** A header value without line breaks. */
export function checkHeaderValue(value: string, problems: Problems): void {
  problems.check(!/[\r\n\0]/.test(value), 'a header value must not contain line breaks');
}

/** From 0 to 100. */
export function checkPercent(value: number | undefined, problems: Problems): void {
  if (value === undefined) return;
  problems.check(value >= 0 && value <= 100, `${value} is not a percentage`);
}

/** At least one millisecond, and whole milliseconds. */
export function checkDuration(duration: Duration | undefined, problems: Problems): void {
  if (duration === undefined) return;
  const isWhole = duration.nanos % 1e6 === 0;
  problems.check(durationMs(duration) >= 1 && isWhole, 'must be whole milliseconds, at least one');
}
