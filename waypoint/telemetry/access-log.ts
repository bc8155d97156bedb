// One line for each request, in Envoy's default text format with verdict and reason appended, or as JSON
//. Lines are gathered and written together: a system call for each would cost more than
// the request.
import { writeSync } from 'node:fs';
import { joinedHeader } from '../../common/l7/request.ts';
import type { Exchange } from '../http/exchange.ts';
import { joinHostPort } from '../../common/workload/ip.ts';

export type AccessLogFormat = 'off' | 'text' | 'json';

const FLUSH_BYTES = 16 * 1024;
const FLUSH_MS = 100;
/** A reader that stalls must not fill our memory: beyond this lines are dropped and counted. */
const MAX_PENDING_BYTES = 1024 * 1024;

/** Options of {@link AccessLog}. */
export interface AccessLogOptions {
  readonly format: AccessLogFormat;
  readonly after: (delayMs: number, fn: () => void) => { cancel(): void };
  /** Default: standard output. */
  readonly write?: (text: string) => void;
}

/** Writes access lines of one thread. */
export class AccessLog {
  readonly #options: AccessLogOptions;
  readonly #write: (text: string) => void;
  #pending = '';
  #dropped = 0;
  #timer: { cancel(): void } | undefined;

  constructor(options: AccessLogOptions) {
    this.#options = options;
    this.#write = options.write ?? ((text) => void writeSync(1, text));
  }

  /** Adds a request's line. */
  add(exchange: Exchange): void {
    if (this.#options.format === 'off') return;
    this.addLine(this.#options.format === 'json' ? jsonLine(exchange) : textLine(exchange));
  }

  /** Adds any line. */
  addLine(line: string): void {
    if (this.#options.format === 'off') return;
    if (this.#pending.length > MAX_PENDING_BYTES) {
      this.#dropped++;
      return;
    }
    this.#pending += `${line}\n`;
    if (this.#pending.length >= FLUSH_BYTES) this.flush();
    else this.#timer ??= this.#options.after(FLUSH_MS, () => this.flush());
  }

  flush(): void {
    this.#timer?.cancel();
    this.#timer = undefined;
    if (this.#pending === '') return;
    const text = this.#pending;
    this.#pending = '';
    try {
      this.#write(text);
      if (this.#dropped > 0)
        this.#write(`{"message":"access lines dropped","count":${this.#dropped}}\n`);
      this.#dropped = 0;
    } catch {
      // EAGAIN on a full pipe: kept for the next time, up to the bound.
      this.#pending = text + this.#pending;
      this.#timer ??= this.#options.after(FLUSH_MS, () => this.flush());
    }
  }
}

interface Fields {
  readonly [name: string]: string | number | null;
}

/** The fields of a line, JSON names of Istio's default encoding, in order, and ours. */
function fieldsOf(exchange: Exchange): Fields {
  const { context, endpoint, headers } = exchange;
  const upstreamHost =
    endpoint === undefined ? null : joinHostPort(endpoint.workload.ips[0] ?? '', endpoint.port);
  return {
    start_time: new Date(exchange.startTime).toISOString(),
    route_name: exchange.choice?.route.name ?? null,
    method: exchange.method,
    path: exchange.originalPath,
    protocol: exchange.protocol,
    response_code: exchange.status,
    response_flags: exchange.flags.length === 0 ? '-' : exchange.flags.join(','),
    response_code_details: detailsOf(exchange),
    connection_termination_details: null,
    bytes_received: exchange.body.bytes,
    bytes_sent: exchange.bytesSent,
    duration: Math.round(exchange.durationMs),
    upstream_service_time: exchange.upstreamServiceMs ?? null,
    x_forwarded_for: joinedHeader(headers, 'x-forwarded-for') ?? null,
    user_agent: joinedHeader(headers, 'user-agent') ?? null,
    request_id: exchange.requestId,
    authority: exchange.originalAuthority,
    upstream_host: upstreamHost,
    upstream_cluster: exchange.target?.cluster ?? null,
    upstream_local_address: null,
    downstream_local_address: context.authority,
    downstream_remote_address: joinHostPort(context.sourceAddress, context.sourcePort),
    requested_server_name: null,
    upstream_transport_failure_reason:
      exchange.transportFailure === '' ? null : exchange.transportFailure,
  };
}

/** Envoy's words, with the policy that denied. */
function detailsOf(exchange: Exchange): string {
  if (exchange.failure !== 'rbac_denied') return exchange.details;
  const policy = exchange.verdict?.policy ?? '';
  return `rbac_access_denied_matched_policy[${policy === '' ? 'none' : policy}]`;
}

function verdictOf(exchange: Exchange): string {
  if (exchange.failure === 'rbac_denied') return 'denied';
  return exchange.failure === undefined ? 'allowed' : 'failed';
}

function jsonLine(exchange: Exchange): string {
  return JSON.stringify({
    level: 'info',
    scope: 'access',
    ...fieldsOf(exchange),
    source_identity: exchange.context.peerIdentity ?? null,
    verdict: verdictOf(exchange),
    reason: exchange.failure ?? null,
    ...(exchange.verdict === undefined || exchange.verdict.dryRun.length === 0
      ? {}
      : { dry_run: exchange.verdict.dryRun }),
  });
}

/** Text cannot break out of its quotes or its line, whatever a peer sent. */
function quoted(value: string | number | null | undefined): string {
  if (value === null || value === undefined) return '"-"';
  return JSON.stringify(String(value));
}

function textLine(exchange: Exchange): string {
  const fields = fieldsOf(exchange);
  const plain = (name: string): string => {
    const value = fields[name];
    return value === null || value === undefined ? '-' : String(value);
  };
  const request = `${exchange.method} ${exchange.originalPath} ${exchange.protocol}`;
  return [
    `[${plain('start_time')}]`,
    quoted(request),
    plain('response_code'),
    plain('response_flags'),
    plain('response_code_details'),
    plain('connection_termination_details'),
    quoted(fields['upstream_transport_failure_reason']),
    plain('bytes_received'),
    plain('bytes_sent'),
    plain('duration'),
    plain('upstream_service_time'),
    quoted(fields['x_forwarded_for']),
    quoted(fields['user_agent']),
    quoted(fields['request_id']),
    quoted(fields['authority']),
    quoted(fields['upstream_host']),
    plain('upstream_cluster'),
    plain('upstream_local_address'),
    plain('downstream_local_address'),
    plain('downstream_remote_address'),
    plain('requested_server_name'),
    plain('route_name'),
    `verdict=${verdictOf(exchange)}`,
    `reason=${exchange.failure ?? '-'}`,
  ].join(' ');
}
