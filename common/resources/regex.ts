// RE2 syntax check for expressions that users write; the waypoint executes them with the same engine.
import { RE2JS } from 're2js';
import { errorMessage } from '../errors.ts';

const MAX_CACHED = 4096;
const MAX_REGEX_LENGTH = 1024;
const verdicts = new Map<string, string | undefined>();

/** Why the expression is not valid RE2, or undefined when it is. */
export function regexProblem(expression: string): string | undefined {
  if (expression.length > MAX_REGEX_LENGTH) return `is longer than ${MAX_REGEX_LENGTH} characters`;
  if (verdicts.has(expression)) return verdicts.get(expression);
  const problem = compileProblem(expression);
  if (verdicts.size >= MAX_CACHED) verdicts.clear();
  verdicts.set(expression, problem);
  return problem;
}

function compileProblem(expression: string): string | undefined {
  try {
    RE2JS.compile(expression);
    return undefined;
  } catch (err) {
    return `is not a valid RE2 expression: ${errorMessage(err)}`;
  }
}
