// gRPC status codes by the names that fault injection uses.

const CODES = [
  'OK',
  'CANCELLED',
  'UNKNOWN',
  'INVALID_ARGUMENT',
  'DEADLINE_EXCEEDED',
  'NOT_FOUND',
  'ALREADY_EXISTS',
  'PERMISSION_DENIED',
  'RESOURCE_EXHAUSTED',
  'FAILED_PRECONDITION',
  'ABORTED',
  'OUT_OF_RANGE',
  'UNIMPLEMENTED',
  'INTERNAL',
  'UNAVAILABLE',
  'DATA_LOSS',
  'UNAUTHENTICATED',
];

/** The number of a gRPC status given by name or number. */
export function grpcStatusCode(text: string): number | undefined {
  const byName = CODES.indexOf(text.toUpperCase());
  if (byName >= 0) return byName;
  return /^\d{1,2}$/.test(text) && Number(text) < CODES.length ? Number(text) : undefined;
}
