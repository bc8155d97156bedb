// The one error base of the project (style: pingora's "type, source, retry"). Codes are stable: they are
// the metric label, the access-log field and the key of docs/errors.md.

/** Which side of a proxied connection the failure belongs to. */
export type ErrorSide = 'downstream' | 'upstream' | 'internal';

/** Whether the same work may be tried again: never, only if the connection was reused, or always. */
export type RetryAnswer = 'never' | 'ifReused' | 'safe';

/** Options of {@link MeshError}; `side` defaults to internal and `retry` to never. */
export interface MeshErrorOptions {
  readonly side?: ErrorSide;
  readonly retry?: RetryAnswer;
  readonly cause?: unknown;
}

/** An expected failure with a stable code. Messages are lower case and name the object. */
export class MeshError<Code extends string = string> extends Error {
  readonly code: Code;
  readonly side: ErrorSide;
  readonly retry: RetryAnswer;

  constructor(code: Code, message: string, options: MeshErrorOptions = {}) {
    super(message, { cause: options.cause });
    this.name = 'MeshError';
    this.code = code;
    this.side = options.side ?? 'internal';
    this.retry = options.retry ?? 'never';
  }
}

/** The text of anything thrown. */
export function errorMessage(err: unknown): string {
  return err instanceof Error ? err.message : String(err);
}
