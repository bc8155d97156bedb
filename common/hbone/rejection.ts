// The word for why an accepted HBONE connection or a request on it was refused before anything was decided about it.
// The same words at both proxies: the label `reason` of the metric and the field of the log line (docs/errors.md).
import type { CloseReason } from '../../engine/reactor/duplex.ts';

export type RejectionReason =
  | 'identity_mismatch'
  | 'tls_failure'
  | 'handshake_timeout'
  | 'limit_exceeded'
  | 'h2_failure'
  | 'io_error';

/** Every word {@link rejectionReason} can say. */
export const REJECTION_REASONS: readonly RejectionReason[] = [
  'identity_mismatch',
  'tls_failure',
  'handshake_timeout',
  'limit_exceeded',
  'h2_failure',
  'io_error',
];

/** Reads how the handshake or the session ended. */
export function rejectionReason({ code, detail }: CloseReason): RejectionReason {
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
