// Every way a connection can end badly, once: the `reason` of the metric and of the access line, and Istio's
// response flag that goes with it.

/** Istio's flags of L4 connections. `-` is success. */
export type ResponseFlag =
  | '-'
  | 'DENY'
  | 'CONNECT'
  | 'TLS_FAILURE'
  | 'H2_HANDSHAKE_FAILURE'
  | 'NETWORK_POLICY'
  | 'IDENTITY_ERROR'
  | 'CERT_REVOKED';

/** Reasons with their flag. The key is the metric label. */
export const REASON_FLAGS = {
  // Decided before anything is dialled.
  recursive_call: 'CONNECT',
  unknown_source: 'CONNECT',
  xds_timeout: 'CONNECT',
  no_healthy_upstream: 'CONNECT',
  unknown_waypoint: 'CONNECT',
  no_healthy_waypoint: 'CONNECT',
  cross_network: 'CONNECT',
  no_healthy_gateway: 'CONNECT',
  no_address: 'CONNECT',
  // Policy.
  policy_denied: 'DENY',
  policy_changed: 'DENY',
  policy_missing: 'DENY',
  // Inbound requests that are not ours to serve.
  bad_authority: 'CONNECT',
  ip_mismatch: 'CONNECT',
  unknown_destination: 'CONNECT',
  // Certificates and handshakes.
  certificate_unavailable: 'IDENTITY_ERROR',
  certificate_revoked: 'CERT_REVOKED',
  identity_mismatch: 'IDENTITY_ERROR',
  tls_failure: 'TLS_FAILURE',
  handshake_timeout: 'TLS_FAILURE',
  h2_failure: 'H2_HANDSHAKE_FAILURE',
  // Connecting and copying.
  connect_failed: 'CONNECT',
  connect_timeout: 'CONNECT',
  // No answer at port 15008, which a NetworkPolicy may block.
  tunnel_timeout: 'NETWORK_POLICY',
  tunnel_refused: 'CONNECT',
  tunnel_failed: 'CONNECT',
  limit_exceeded: 'CONNECT',
  io_error: 'CONNECT',
  // An application that resets its connection is not a failure of ours (Istio's ztunnel calls it success).
  upstream_reset: '-',
  downstream_reset: '-',
  // Cut by us.
  drained: '-',
  pod_removed: '-',
} as const satisfies Readonly<Record<string, ResponseFlag>>;

export type FailureReason = keyof typeof REASON_FLAGS;

/** The reasons {@link import('./request.ts').buildRequest} gives. */
export type RefusalReason = Extract<
  FailureReason,
  | 'recursive_call'
  | 'no_healthy_upstream'
  | 'unknown_waypoint'
  | 'no_healthy_waypoint'
  | 'cross_network'
  | 'no_healthy_gateway'
  | 'no_address'
>;
