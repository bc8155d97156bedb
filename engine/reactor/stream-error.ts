// Failures of the engine: a CloseReason that can be thrown, and the words for errno values.
import { getSystemErrorName } from 'node:util';
import {
  ECONNREFUSED,
  ECONNRESET,
  EHOSTUNREACH,
  ENETUNREACH,
  EPIPE,
  ETIMEDOUT,
} from '../native/libc.ts';
import type { CloseCode, CloseReason } from './duplex.ts';

/** Both directions ended in order. */
export const CLOSED_OK: CloseReason = { code: 'ok', detail: '' };

/** A failure of the engine with its reason. */
export class StreamError extends Error {
  readonly reason: CloseReason;

  constructor(code: CloseCode, detail: string) {
    super(detail);
    this.name = 'StreamError';
    this.reason = { code, detail };
  }
}

const CODES: Readonly<Record<number, CloseCode>> = {
  [ECONNRESET]: 'reset',
  [EPIPE]: 'reset',
  [ECONNREFUSED]: 'refused',
  [ETIMEDOUT]: 'timeout',
  [EHOSTUNREACH]: 'unreachable',
  [ENETUNREACH]: 'unreachable',
};

/** The reason for an errno; `what` names the call or the object. */
export function reasonFromErrno(errno: number, what: string): CloseReason {
  return { code: CODES[errno] ?? 'io', detail: `${what}: ${getSystemErrorName(-errno)}` };
}

/** A throwable failure for an errno. */
export function errnoError(errno: number, what: string): StreamError {
  const reason = reasonFromErrno(errno, what);
  return new StreamError(reason.code, reason.detail);
}
