// The value checks of custom resources. ajv and the CEL engine take a third of a second to load, so they are loaded when
// the first custom resource is about to be written, not at start-up.
import { MeshError } from '../../../common/errors.ts';
import type { FieldProblem } from '../status-error.ts';
import type { Schema } from './schema.ts';

interface Checks {
  readonly validateValue: (schema: Schema, value: unknown) => FieldProblem[];
  readonly validateRules: (schema: Schema, value: unknown, before: unknown) => FieldProblem[];
}

let checks: Checks | undefined;
let loading: Promise<void> | undefined;

async function load(): Promise<void> {
  const [{ validateValue }, { validateRules }] = await Promise.all([
    import('./validator.ts'),
    import('./rules.ts'),
  ]);
  checks = { validateValue, validateRules };
}

/** Must have resolved before {@link checkValue} is called. */
export function loadChecks(): Promise<void> {
  return (loading ??= load());
}

/** What is wrong with a custom resource: its values first, then its rules. */
export function checkValue(schema: Schema, value: unknown, before: unknown): FieldProblem[] {
  if (checks === undefined) throw new MeshError('checks_not_loaded', 'the checks are not loaded');
  const problems = checks.validateValue(schema, value);
  return problems.length > 0 ? problems : checks.validateRules(schema, value, before);
}
