// The word for why an accepted HBONE connection or a request on it was refused before anything was decided about it.
// The same words at both proxies: the label `reason` of the metric and the field of the log line (docs/errors.md).
import type { CloseReason } from '../../engine/reactor/duplex.ts';

export type RejectionReason =
  | 'certificate_revoked'
  | 'identity_mismatch'
  | 'tls_failure'
  | 'handshake_timeout'
  | 'limit_exceeded'
  | 'h2_failure'
  | 'io_error';

/** Every word {@link rejectionReason} can say. */
export const REJECTION_REASONS: readonly RejectionReason[] = [
  'certificate_revoked',
  'identity_mismatch',
  'tls_failure',
  'handshake_timeout',
  'limit_exceeded',
  'h2_failure',
  'io_error',
];

// The engine's words for a chain that fails for it; an alert of the peer about ours reads differently.
const REVOKED = 'handshake: certificate revoked';

/** What a connection is closed with that was established before its peer's certificate was revoked. */
export const REVOKED_DETAIL = 'peer certificate revoked by CRL';

/** Whether a handshake failed because the peer's certificate is revoked. */
export function isRevocation({ code, detail }: { code: string; detail: string }): boolean {
  if (code === 'revoked') return true;
  return code === 'tls' && (detail === REVOKED || detail === REVOKED_DETAIL);
}

/** Reads how the handshake or the session ended. */
export function rejectionReason(reason: CloseReason): RejectionReason {
  if (isRevocation(reason)) return 'certificate_revoked';
  const { code, detail } = reason;
  switch (code) {
    case 'tls':
      // The engine's words for a peer whose chain is good and whose names `verifyPeer` did not take.
      return detail.startsWith('peer refused') ? 'identity_mismatch' : 'tls_failure';
    case 'timeout':
      return 'handshake_timeout';
    case 'limit':
      return 'limit_exceeded';
    case 'protocol':
      return 'h2_failure';
    default:
      return 'io_error';
  }
}
