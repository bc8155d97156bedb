// What differs between kinds when they are written: defaults, allocation, validation. Kinds without an entry in
// strategies.ts are stored as they come.
import type { KubeObject } from '../objects.ts';
import type { FieldProblem } from '../status-error.ts';

export interface Strategy {
  /** Fills in what the server decides, on create and on update (`before` is the stored object). */
  readonly prepare?: (object: KubeObject, before: KubeObject | undefined) => void;
  readonly validate?: (object: KubeObject, before: KubeObject | undefined) => FieldProblem[];
  /** After the object is gone from the store. */
  readonly release?: (object: KubeObject) => void;
  /** The status a new object has. */
  readonly initialStatus?: (object: KubeObject) => Record<string, unknown> | undefined;
}

export const required = (field: string): FieldProblem => ({
  reason: 'FieldValueRequired',
  field,
  message: 'Required value',
});

export const wrong = (field: string, value: unknown, why: string): FieldProblem => ({
  reason: 'FieldValueInvalid',
  field,
  message: `Invalid value: ${JSON.stringify(value)}: ${why}`,
});

export const unsupported = (
  field: string,
  value: unknown,
  allowed: readonly string[],
): FieldProblem => ({
  reason: 'FieldValueNotSupported',
  field,
  message: `Unsupported value: ${JSON.stringify(value)}: supported values: ${allowed
    .map((word) => JSON.stringify(word))
    .join(', ')}`,
});
