// Schemas of the built-in kinds, filled in by builtin-types.ts.
import type { Schema } from './schema.ts';

/** The schema of a built-in kind; undefined when its fields are not checked. */
export function builtinSchema(_kind: string): Schema | undefined {
  return undefined;
}
