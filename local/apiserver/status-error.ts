// Refusals in the API's own form (meta/v1 Status). Messages follow kube-apiserver's, because kubectl prints them
// and client libraries match on reason and details.
import { MeshError } from '../../common/errors.ts';
import type { Dict } from './objects.ts';

export interface FieldProblem {
  readonly reason:
    | 'FieldValueInvalid'
    | 'FieldValueRequired'
    | 'FieldValueNotSupported'
    | 'FieldValueForbidden'
    | 'FieldManagerConflict';
  readonly field: string;
  readonly message: string;
}

interface Details {
  readonly name?: string;
  readonly group?: string;
  readonly kind?: string;
  readonly uid?: string;
  readonly causes?: readonly FieldProblem[];
  readonly retryAfterSeconds?: number;
}

/** A refusal with an HTTP code and a Kubernetes reason. */
export class StatusError extends MeshError {
  readonly status: number;
  readonly reason: string;
  readonly details: Details | undefined;

  constructor(status: number, reason: string, message: string, details?: Details) {
    super('api_status', message);
    this.status = status;
    this.reason = reason;
    this.details = details;
  }

  /** The body that is sent to the client. */
  toStatus(): Dict {
    return {
      kind: 'Status',
      apiVersion: 'v1',
      metadata: {},
      status: 'Failure',
      message: this.message,
      reason: this.reason,
      ...(this.details === undefined ? {} : { details: this.details }),
      code: this.status,
    };
  }
}

interface Named {
  readonly group: string;
  readonly resource: string;
}

const qualified = (of: Named): string =>
  of.group === '' ? of.resource : `${of.resource}.${of.group}`;

export function notFound(of: Named, name: string): StatusError {
  return new StatusError(404, 'NotFound', `${qualified(of)} "${name}" not found`, {
    name,
    group: of.group,
    kind: of.resource,
  });
}

export function unknownPath(): StatusError {
  return new StatusError(404, 'NotFound', 'the server could not find the requested resource');
}

export function alreadyExists(of: Named, name: string): StatusError {
  return new StatusError(409, 'AlreadyExists', `${qualified(of)} "${name}" already exists`, {
    name,
    group: of.group,
    kind: of.resource,
  });
}

export function conflict(of: Named, name: string, why?: string): StatusError {
  const cause =
    why ??
    'the object has been modified; please apply your changes to the latest version and try again';
  return new StatusError(
    409,
    'Conflict',
    `Operation cannot be fulfilled on ${qualified(of)} "${name}": ${cause}`,
    { name, group: of.group, kind: of.resource },
  );
}

export function badRequest(message: string): StatusError {
  return new StatusError(400, 'BadRequest', message);
}

export function forbidden(of: Named, name: string, why: string): StatusError {
  return new StatusError(403, 'Forbidden', `${qualified(of)} "${name}" is forbidden: ${why}`, {
    name,
    group: of.group,
    kind: of.resource,
  });
}

export function unauthorized(): StatusError {
  return new StatusError(401, 'Unauthorized', 'Unauthorized');
}

export function expired(message: string): StatusError {
  return new StatusError(410, 'Expired', message);
}

export function unsupportedMediaType(accepted: readonly string[]): StatusError {
  return new StatusError(
    415,
    'UnsupportedMediaType',
    `the body of the request was in an unknown format - accepted media types include: ${accepted.join(', ')}`,
  );
}

/** 422 with every field's problem, as kubectl prints it. */
export function invalid(
  kind: { readonly group: string; readonly kind: string },
  name: string,
  problems: readonly FieldProblem[],
): StatusError {
  const lines = problems.map((problem) => `${problem.field}: ${problem.message}`);
  const joined = lines.length === 1 ? (lines[0] ?? '') : `[${lines.join(', ')}]`;
  const qualifiedKind = kind.group === '' ? kind.kind : `${kind.kind}.${kind.group}`;
  return new StatusError(422, 'Invalid', `${qualifiedKind} "${name}" is invalid: ${joined}`, {
    name,
    group: kind.group,
    kind: kind.kind,
    causes: problems,
  });
}
