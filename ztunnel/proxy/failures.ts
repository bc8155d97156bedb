// Turns what the engine and the tunnels throw into a reason, and says whether trying again makes sense.
import { MeshError, errorMessage } from '../../common/errors.ts';
import type { CloseReason, RelayResult } from '../../engine/reactor/duplex.ts';
import { StreamError } from '../../engine/reactor/stream-error.ts';
import { isRevocation } from '../../common/hbone/rejection.ts';
import type { TunnelFailure } from '../../common/hbone/types.ts';
import type { ConnectionOutcome } from './connection-result.ts';
import type { FailureReason } from './reasons.ts';

/** Why a tunnel was not opened, as an exception. */
export class TunnelError extends Error {
  readonly failure: TunnelFailure;

  constructor(failure: TunnelFailure) {
    super(failure.detail);
    this.failure = failure;
  }
}

/** Why a dial failed. */
export interface DialFailure {
  readonly reason: FailureReason;
  readonly detail: string;
  /** Another endpoint may be tried: no application byte was delivered. */
  readonly canRetry: boolean;
  /** The same endpoint may be tried again a little later. */
  readonly canWait: boolean;
  /** Refused by our own decision, before anything was dialled. */
  readonly isRefusal: boolean;
}

const TUNNEL_REASONS: Readonly<Record<TunnelFailure['code'], FailureReason>> = {
  connect: 'connect_failed',
  timeout: 'tunnel_timeout',
  tls: 'tls_failure',
  identity: 'identity_mismatch',
  h2: 'h2_failure',
  status: 'tunnel_refused',
  certificate: 'certificate_unavailable',
  limit: 'limit_exceeded',
};

const RETRIED: ReadonlySet<TunnelFailure['code']> = new Set(['connect', 'timeout', 'h2', 'tls']);

/** Reads anything a dial can throw. */
export function describeTunnelFailure(err: unknown): DialFailure {
  const failure = tunnelFailureOf(err);
  if (failure !== undefined) {
    const { code, detail, status, mayBeDelivered = false } = failure;
    const hint = code === 'timeout' ? ', maybe a NetworkPolicy is blocking HBONE port 15008' : '';
    return {
      reason: isRevocation(failure) ? 'certificate_revoked' : TUNNEL_REASONS[code],
      detail: status === undefined ? `${detail}${hint}` : `http status: ${status}`,
      // 503: the other side could not reach the application; 401 is its policy and final.
      canRetry: !mayBeDelivered && (RETRIED.has(code) || status === 503),
      // A handshake that is cut is a proxy that is being killed; one that fails verification is final.
      canWait: !mayBeDelivered && (code === 'connect' || code === 'h2'),
      isRefusal: false,
    };
  }
  if (err instanceof StreamError) {
    const { code, detail } = err.reason;
    return {
      reason: code === 'timeout' ? 'connect_timeout' : 'connect_failed',
      detail,
      canRetry: code === 'refused' || code === 'timeout' || code === 'unreachable',
      canWait: false,
      isRefusal: false,
    };
  }
  const reason =
    err instanceof MeshError && err.code === 'certificate_unavailable'
      ? 'certificate_unavailable'
      : 'io_error';
  return { reason, detail: errorMessage(err), canRetry: false, canWait: false, isRefusal: false };
}

function tunnelFailureOf(err: unknown): TunnelFailure | undefined {
  return err instanceof TunnelError ? err.failure : undefined;
}

const CLOSE_REASONS: Readonly<Record<CloseReason['code'], FailureReason | undefined>> = {
  ok: undefined,
  reset: undefined,
  refused: 'connect_failed',
  timeout: 'connect_timeout',
  unreachable: 'connect_failed',
  tls: 'tls_failure',
  protocol: 'tunnel_failed',
  limit: 'limit_exceeded',
  goaway: 'tunnel_failed',
  closed: 'io_error',
  revoked: 'certificate_revoked',
  io: 'io_error',
};

/** The outcome of a relay; `a` is the downstream side. */
export function relayOutcome(result: RelayResult): ConnectionOutcome {
  const { reason, failedSide } = result;
  if (reason.code === 'ok') return {};
  const side = failedSide === 'a' ? 'downstream_reset' : 'upstream_reset';
  return { reason: CLOSE_REASONS[reason.code] ?? side, detail: reason.detail };
}
