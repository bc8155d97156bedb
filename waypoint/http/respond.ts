// Every way a request can fail, in one table: HTTP status, gRPC status, Envoy response flag, body and details.
// The code is also the access log's `reason`. Nobody else builds an error answer.
import type { Header } from '../../common/l7/request.ts';

export type FailureCode =
  | 'bad_request'
  | 'bad_path'
  | 'rbac_denied'
  | 'route_not_found'
  | 'cluster_not_found'
  | 'invalid_backend'
  | 'no_healthy_upstream'
  | 'upstream_overflow'
  | 'upstream_connect_failure'
  | 'upstream_identity_mismatch'
  | 'upstream_reset'
  | 'upstream_protocol_error'
  | 'upstream_timeout'
  | 'upstream_per_try_timeout'
  | 'fault_abort'
  | 'downstream_closed';

interface FailureRow {
  readonly status: number;
  /** gRPC status for callers that speak gRPC. */
  readonly grpc: number;
  /** Envoy's %RESPONSE_FLAGS%; '' for none. */
  readonly flag: string;
  readonly body: string;
  /** Envoy's %RESPONSE_CODE_DETAILS%. */
  readonly details: string;
}

const RESET_BODY = 'upstream connect error or disconnect/reset before headers. reset reason: ';

/** The table. */
export const FAILURES: Readonly<Record<FailureCode, FailureRow>> = {
  bad_request: row(400, 13, 'DPE', 'bad request', 'http1.codec_error'),
  bad_path: row(400, 13, '', 'bad path', 'path_normalization_failed'),
  rbac_denied: row(403, 7, '', 'RBAC: access denied', 'rbac_access_denied'),
  route_not_found: row(404, 12, 'NR', '', 'route_not_found'),
  cluster_not_found: row(503, 14, 'NC', '', 'cluster_not_found'),
  invalid_backend: row(500, 13, '', '', 'direct_response'),
  no_healthy_upstream: row(503, 14, 'UH', 'no healthy upstream', 'no_healthy_upstream'),
  upstream_overflow: row(
    503,
    14,
    'UO',
    `${RESET_BODY}overflow`,
    'upstream_reset_before_response_started{overflow}',
  ),
  upstream_connect_failure: row(
    503,
    14,
    'UF',
    `${RESET_BODY}remote connection failure`,
    'upstream_reset_before_response_started{remote_connection_failure}',
  ),
  upstream_identity_mismatch: row(
    503,
    14,
    'UF',
    `${RESET_BODY}remote connection failure`,
    'upstream_reset_before_response_started{identity_mismatch}',
  ),
  upstream_reset: row(
    503,
    14,
    'UC',
    `${RESET_BODY}connection termination`,
    'upstream_reset_before_response_started{connection_termination}',
  ),
  upstream_protocol_error: row(
    502,
    14,
    'UPE',
    `${RESET_BODY}protocol error`,
    'upstream_reset_before_response_started{protocol_error}',
  ),
  upstream_timeout: row(504, 14, 'UT', 'upstream request timeout', 'response_timeout'),
  upstream_per_try_timeout: row(
    504,
    14,
    'UT',
    'upstream request timeout',
    'upstream_per_try_timeout',
  ),
  fault_abort: row(503, 14, 'FI', 'fault filter abort', 'fault_filter_abort'),
  downstream_closed: row(0, 1, 'DC', '', 'downstream_remote_disconnect'),
};

function row(
  status: number,
  grpc: number,
  flag: string,
  body: string,
  details: string,
): FailureRow {
  return { status, grpc, flag, body, details };
}

/** The row of a failure. */
export function failureRow(code: FailureCode): FailureRow {
  return FAILURES[code];
}

/** An answer made here, not upstream. */
export interface LocalReply {
  readonly status: number;
  /** Sent to gRPC callers in place of the status. */
  readonly grpcStatus?: number;
  readonly headers?: readonly Header[];
  readonly body?: Uint8Array | string;
}

/** The answer for a failure; `grpcStatus` and `status` may be overridden by a fault. */
export function replyFor(code: FailureCode): LocalReply {
  const { status, grpc, body } = FAILURES[code];
  return { status, grpcStatus: grpc, body };
}

const GRPC_BY_HTTP: Readonly<Record<number, number>> = {
  400: 13,
  401: 16,
  403: 7,
  404: 12,
  429: 14,
  502: 14,
  503: 14,
  504: 14,
};

/** gRPC status for an HTTP status (the gRPC specification's table). */
export function grpcStatusOf(status: number): number {
  if (status === 200) return 0;
  return GRPC_BY_HTTP[status] ?? 2;
}

/** Escapes text for `grpc-message` (percent-encoding of what is not printable ASCII). */
export function grpcMessage(text: string): string {
  return encodeURIComponent(text).replace(/%(20|3A|2C|2F|7B|7D|3B|3D|40|5B|5D)/g, (code) =>
    decodeURIComponent(code),
  );
}
