// CEL rules of custom resources (x-kubernetes-validations).
import type { KubeObject } from '../objects.ts';
import type { FieldProblem } from '../status-error.ts';
import type { Schema } from './schema.ts';

/** Every rule that an object breaks. */
export function validateRules(
  _schema: Schema,
  _object: KubeObject,
  _before: KubeObject | undefined,
): FieldProblem[] {
  return [];
}
