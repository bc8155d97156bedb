// Field validation of a write: unknown fields refused, warned of or dropped (`fieldValidation`), defaults, and the
// value checks of custom resources.
import { dict, sameJson } from '../objects.ts';
import type { KubeObject } from '../objects.ts';
import type { Resource } from '../registry/resource.ts';
import { applyDefaults, dropNulls, findMistyped, prune } from '../schema/schema.ts';
import { checkValue } from '../schema/checks.ts';
import { badRequest } from '../status-error.ts';
import type { FieldProblem } from '../status-error.ts';

export type FieldValidation = 'Strict' | 'Warn' | 'Ignore';

const MAX_LISTED = 20;

interface CheckOptions {
  readonly validation?: FieldValidation;
  readonly warnings?: string[];
}

/** Prunes, defaults and checks an object in place; value problems are added to `problems`. */
export function checkSchema(
  resource: Resource,
  object: KubeObject,
  before: KubeObject | undefined,
  options: CheckOptions,
  problems: FieldProblem[],
): void {
  const { schema } = resource;
  dropNulls(object['spec']);
  if (schema === undefined) return;
  const { value, unknown } = prune(schema, object);
  reportUnknown(unknown, options);
  // Built-in kinds have a compact schema that need not know every field: nothing is dropped there.
  if (!resource.isCustom) {
    requireTypes(resource, object);
    return;
  }
  const pruned = dict(value);
  for (const name of Object.keys(object)) {
    if (pruned[name] === undefined) Reflect.deleteProperty(object, name);
    else object[name] = pruned[name];
  }
  applyDefaults(schema, object);
  // Ratcheting, coarsely: an object whose content stays as it is need not satisfy a stricter schema.
  if (before !== undefined && sameJson(content(before), content(object))) return;
  problems.push(...checkValue(schema, object, before));
}

function requireTypes(resource: Resource, object: KubeObject): void {
  const mistyped = resource.schema && findMistyped(resource.schema, object);
  if (mistyped === undefined) return;
  const { kind, version } = resource;
  throw badRequest(
    `${kind} in version ${JSON.stringify(version)} cannot be handled as a ${kind}: wrong type, expected ${mistyped}`,
  );
}

const content = (object: KubeObject): unknown => ({ ...object, metadata: undefined });

function reportUnknown(unknown: readonly string[], options: CheckOptions): void {
  if (unknown.length === 0 || options.validation === undefined) return;
  const listed = unknown
    .slice(0, MAX_LISTED)
    .map((path) => `unknown field ${JSON.stringify(path)}`);
  if (options.validation === 'Strict') {
    throw badRequest(`strict decoding error: ${listed.join(', ')}`);
  }
  if (options.validation === 'Warn') options.warnings?.push(...listed);
}
