// When a failed try is made again (Envoy's retry_on words). Pure; whether the request can be replayed at all is
// decided by who holds its body.
import type { RetryPolicy } from './gen/l7_pb.ts';

/** How a try ended without a usable response, or with one. */
export type TryOutcome =
  | { readonly kind: 'connect-failure' }
  /** The peer refused the stream before doing anything (REFUSED_STREAM, GOAWAY). */
  | { readonly kind: 'refused' }
  /** The connection or stream broke before a response; `wasReused` when it had served others before. */
  | { readonly kind: 'reset'; readonly wasReused: boolean }
  | { readonly kind: 'per-try-timeout' }
  | { readonly kind: 'response'; readonly status: number; readonly grpcStatus: number | undefined };

const GRPC_WORDS: Readonly<Record<number, string>> = {
  1: 'cancelled',
  4: 'deadline-exceeded',
  8: 'resource-exhausted',
  13: 'internal',
  14: 'unavailable',
};

/** A policy with its words in a set. */
export interface CompiledRetry {
  readonly attempts: number;
  readonly perTryTimeoutMs: number;
  readonly backoffBaseMs: number;
  readonly words: ReadonlySet<string>;
  readonly statusCodes: ReadonlySet<number>;
}

const DEFAULT_BACKOFF_MS = 25;

/** Compiles a policy. Unknown words are kept and never match; numbers among the words are status codes. */
export function compileRetry(policy: RetryPolicy | undefined): CompiledRetry | undefined {
  if (policy === undefined || policy.attempts === 0) return undefined;
  const codes = policy.retryOn.filter((word) => /^\d{3}$/.test(word)).map(Number);
  return {
    attempts: policy.attempts,
    perTryTimeoutMs: policy.perTryTimeoutMs,
    backoffBaseMs: policy.backoffBaseMs === 0 ? DEFAULT_BACKOFF_MS : policy.backoffBaseMs,
    words: new Set(policy.retryOn),
    statusCodes: new Set([...policy.statusCodes, ...codes]),
  };
}

/** Whether the outcome is one the policy retries. */
export function isRetriable(retry: CompiledRetry, outcome: TryOutcome): boolean {
  const { words } = retry;
  switch (outcome.kind) {
    case 'connect-failure':
      return hasAny(words, ['connect-failure', '5xx', 'gateway-error', 'reset']);
    case 'refused':
      return hasAny(words, ['refused-stream', '5xx', 'gateway-error', 'reset']);
    case 'reset':
      return hasAny(words, ['reset', '5xx', 'gateway-error', 'reset-before-request']);
    case 'per-try-timeout':
      return hasAny(words, ['5xx', 'gateway-error']);
    case 'response':
      return isRetriableResponse(retry, outcome.status, outcome.grpcStatus);
  }
}

function isRetriableResponse(
  retry: CompiledRetry,
  status: number,
  grpcStatus: number | undefined,
): boolean {
  const { words, statusCodes } = retry;
  if (statusCodes.has(status)) return true;
  if (status >= 500 && words.has('5xx')) return true;
  if ((status === 502 || status === 503 || status === 504) && words.has('gateway-error'))
    return true;
  if (status === 409 && words.has('retriable-4xx')) return true;
  const word = grpcStatus === undefined ? undefined : GRPC_WORDS[grpcStatus];
  return word !== undefined && words.has(word);
}

function hasAny(words: ReadonlySet<string>, wanted: readonly string[]): boolean {
  return wanted.some((word) => words.has(word));
}

/** Full jitter: a random time up to base * (2^n - 1), at most ten times the base. `attempt` starts at 1. */
export function backoffMs(retry: CompiledRetry, attempt: number, random: () => number): number {
  const ceiling = Math.min(retry.backoffBaseMs * (2 ** attempt - 1), retry.backoffBaseMs * 10);
  return Math.max(1, Math.floor(random() * ceiling));
}
