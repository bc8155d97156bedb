// One request and its response: what the phases read and write, and the only way to answer downstream. It ends
// exactly once, in `finish`, which is when it is counted and logged.
import { randomUUID } from 'node:crypto';
import type { HttpStream, HttpStreamEvents } from '../../engine/http1/types.ts';
import type { HeaderList } from '../../engine/http2/types.ts';
import type { CloseReason, DuplexHandler } from '../../engine/reactor/duplex.ts';
import type { AuthzVerdict } from '../../common/l7/authorization.ts';
import type { RouteChoice } from '../../common/l7/route-table.ts';
import type { HeaderOps, WeightedCluster } from '../../common/l7/gen/l7_pb.ts';
import { applyHeaderOps, hasOps } from '../../common/l7/header-ops.ts';
import type { Header } from '../../common/l7/request.ts';
import type { Endpoint } from '../cluster/endpoint.ts';
import type { ConnectionContext } from '../listener/connection-context.ts';
import type { ServicePortConfig } from '../state/l7-config.ts';
import { RequestBody } from './request-body.ts';
import { failureRow, grpcMessage, grpcStatusOf, replyFor } from './respond.ts';
import type { FailureCode, LocalReply } from './respond.ts';

const NO_BODY = new Uint8Array(0);

/** What runs upstream for an exchange. */
export interface UpstreamWork {
  /** The downstream can take more of the response. */
  onDownstreamDrain(): void;
  /** The downstream is gone, or the exchange was answered otherwise. */
  abort(): void;
}

/** Told of the end of every exchange. */
export type OnExchangeEnd = (exchange: Exchange) => void;

/** A request in flight. */
export class Exchange implements DuplexHandler, HttpStreamEvents {
  readonly context: ConnectionContext;
  readonly downstream: HttpStream;
  readonly protocol: string;
  readonly body: RequestBody;
  readonly startMs = performance.now();
  readonly startTime = Date.now();
  readonly method: string;
  readonly originalPath: string;
  readonly originalAuthority: string;
  scheme: string;
  authority: string;
  path: string;
  headers: Header[];
  readonly isUpgrade: boolean;
  readonly isGrpc: boolean;
  readonly expectsContinue: boolean;
  requestId = '';

  // Written by phases.
  port: ServicePortConfig | undefined;
  verdict: AuthzVerdict | undefined;
  choice: RouteChoice | undefined;
  target: WeightedCluster | undefined;
  endpoint: Endpoint | undefined;
  upstream: UpstreamWork | undefined;
  attempts = 0;
  upstreamServiceMs: number | undefined;

  // The result.
  status = 0;
  grpcStatus: number | undefined;
  bytesSent = 0;
  readonly flags: string[] = [];
  details = 'via_upstream';
  failure: FailureCode | undefined;
  transportFailure = '';
  durationMs = 0;

  readonly #onEnd: OnExchangeEnd;
  #hasResponded = false;
  #isFinished = false;

  constructor(
    context: ConnectionContext,
    downstream: HttpStream,
    list: HeaderList,
    protocol: string,
    onEnd: OnExchangeEnd,
  ) {
    this.context = context;
    this.downstream = downstream;
    this.protocol = protocol;
    this.#onEnd = onEnd;
    this.body = new RequestBody(downstream);
    const head = splitHead(list);
    this.method = head.method;
    this.scheme = head.scheme;
    this.authority = this.originalAuthority = head.authority;
    this.path = this.originalPath = head.path;
    this.headers = head.headers;
    this.isUpgrade = head.isUpgrade;
    this.isGrpc = head.contentType.startsWith('application/grpc');
    this.expectsContinue = head.expectsContinue;
    this.requestId = head.requestId;
    if (this.requestId === '') {
      this.requestId = randomUUID();
      this.headers.push(['x-request-id', this.requestId]);
    }
    downstream.handler = this;
  }

  get isFinished(): boolean {
    return this.#isFinished;
  }

  get hasResponded(): boolean {
    return this.#hasResponded;
  }

  /** Notes why the request fails and answers so. */
  fail(code: FailureCode, reply: LocalReply = replyFor(code)): void {
    if (this.#isFinished) return;
    const { flag, details } = failureRow(code);
    this.failure = code;
    this.details = details;
    if (flag !== '' && !this.flags.includes(flag)) this.flags.push(flag);
    if (this.#hasResponded) {
      this.downstream.reset();
      this.finish();
    } else this.reply(reply);
  }

  /** Answers from here. */
  reply(reply: LocalReply): void {
    if (this.#isFinished || this.#hasResponded) return;
    this.upstream?.abort();
    const text = reply.body ?? '';
    const body = typeof text === 'string' ? Buffer.from(text, 'utf8') : text;
    const headers: Header[] = [...(reply.headers ?? [])];
    if (this.isGrpc) {
      this.grpcStatus = reply.grpcStatus ?? grpcStatusOf(reply.status);
      headers.push(['content-type', 'application/grpc']);
      headers.push(['grpc-status', String(this.grpcStatus)]);
      if (body.length > 0)
        headers.push(['grpc-message', grpcMessage(Buffer.from(body).toString())]);
      this.#replyWith(200, headers, NO_BODY);
      return;
    }
    if (body.length > 0 && !headers.some(([name]) => name === 'content-type')) {
      headers.push(['content-type', 'text/plain']);
    }
    headers.push(['content-length', String(body.length)]);
    this.#replyWith(reply.status, headers, this.method === 'HEAD' ? NO_BODY : body);
  }

  /** Counted and logged first: sending the last byte may end the stream, and the caller may ask for the metrics. */
  #replyWith(status: number, headers: Header[], body: Uint8Array): void {
    this.status = status;
    this.bytesSent += body.length;
    this.#hasResponded = true;
    this.finish();
    this.#respond(status, headers, body.length === 0);
    if (body.length === 0) return;
    this.downstream.writeBytes(body);
    this.downstream.end();
  }

  /** Passes a response's head on. `ops` are applied in order. */
  sendResponse(status: number, headers: Header[], ops: readonly (HeaderOps | undefined)[]): void {
    let list = headers;
    for (const entry of ops) if (hasOps(entry)) list = applyHeaderOps(list, entry);
    this.#respond(status, list, false);
  }

  /** Passes a 1xx on. */
  sendInterim(headers: HeaderList): void {
    if (!this.#hasResponded && this.protocol !== 'HTTP/1.0')
      this.downstream.respond(headers, false);
  }

  #respond(status: number, headers: Header[], endStream: boolean): void {
    this.#hasResponded = true;
    this.status = status;
    const list: Header[] = [[':status', String(status)]];
    for (const header of headers) if (header[0] !== 'server') list.push(header);
    list.push(['server', 'istio-envoy']);
    this.downstream.respond(list, endStream);
  }

  /** Counts and logs. The rest of the request, if any, is dropped. */
  finish(): void {
    if (this.#isFinished) return;
    this.#isFinished = true;
    this.durationMs = performance.now() - this.startMs;
    if (!this.body.hasEnded) this.body.drop();
    this.#onEnd(this);
  }

  onData(address: number, length: number): void {
    this.body.onData(address, length);
  }

  onEnd(): void {
    this.body.onEnd();
  }

  onTrailers(trailers: HeaderList): void {
    this.body.onTrailers(trailers);
  }

  onHeaders(): void {
    // Servers get a request's headers with the stream.
  }

  onDrain(): void {
    this.upstream?.onDownstreamDrain();
  }

  onClose(_reason: CloseReason): void {
    if (this.#isFinished) return;
    const { flag, details } = failureRow('downstream_closed');
    this.failure = 'downstream_closed';
    this.details = details;
    this.flags.push(flag);
    this.upstream?.abort();
    this.finish();
  }
}

interface RequestHeadParts {
  method: string;
  scheme: string;
  authority: string;
  path: string;
  headers: Header[];
  isUpgrade: boolean;
  contentType: string;
  requestId: string;
  expectsContinue: boolean;
}

/** Takes pseudo headers apart, drops what must not pass, and notes what the phases ask for. One pass. */
function splitHead(list: HeaderList): RequestHeadParts {
  const head: RequestHeadParts = {
    method: 'GET',
    scheme: 'http',
    authority: '',
    path: '/',
    headers: [],
    isUpgrade: false,
    contentType: '',
    requestId: '',
    expectsContinue: false,
  };
  let cookies = '';
  let hasForwardedProto = false;
  for (const header of list) {
    const value = header[1];
    switch (header[0]) {
      case ':method':
        head.method = value;
        continue;
      case ':scheme':
        head.scheme = value;
        continue;
      case ':authority':
        head.authority = value;
        continue;
      case ':path':
        head.path = value;
        continue;
      case 'host':
        if (head.authority === '') head.authority = value;
        continue;
      case 'expect':
        head.expectsContinue ||= value.toLowerCase() === '100-continue';
        continue;
      // A client's claim about its certificate; ours is the only one that counts.
      case 'x-forwarded-client-cert':
        continue;
      // HTTP/2 may split cookies (RFC 9113 section 8.2.3); HTTP/1.1 wants one.
      case 'cookie':
        cookies = cookies === '' ? value : `${cookies}; ${value}`;
        continue;
      case 'upgrade':
        head.isUpgrade = true;
        break;
      case 'content-type':
        head.contentType = value;
        break;
      case 'x-request-id':
        head.requestId = value;
        break;
      case 'x-forwarded-proto':
        hasForwardedProto = true;
        break;
    }
    head.headers.push(header);
  }
  if (cookies !== '') head.headers.push(['cookie', cookies]);
  if (!hasForwardedProto) head.headers.push(['x-forwarded-proto', head.scheme]);
  return head;
}
