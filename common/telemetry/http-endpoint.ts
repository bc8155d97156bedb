// Small HTTP servers of a proxy: admin, metrics, readiness. Plain node:http with tight limits; not for traffic.
import { createServer } from 'node:http';
import type { IncomingMessage, Server, ServerResponse } from 'node:http';
import type { AddressInfo } from 'node:net';
import { Readable } from 'node:stream';
import { pipeline } from 'node:stream/promises';
import { errorMessage } from '../errors.ts';
import { compressorFor } from './content-encoding.ts';

/** An answer; `type` defaults to text/plain. A body that is a stream is sent piece by piece. */
export interface EndpointAnswer {
  readonly status?: number;
  readonly type?: string;
  readonly body: string | Readable;
}

/** Answers one path. */
export type EndpointHandler = (
  request: IncomingMessage,
  url: URL,
) => EndpointAnswer | Promise<EndpointAnswer>;

/** Options of {@link openEndpoint}. A missing path is answered with 404. */
export interface EndpointOptions {
  readonly host: string;
  readonly port: number;
  /** A socket that listens already; taken over, instead of binding host and port. */
  readonly fd?: number | undefined;
  readonly routes: Readonly<Record<string, EndpointHandler>>;
  /** Compresses answers as the client accepts. */
  readonly isCompressing?: boolean;
}

/** A listening endpoint. */
export interface Endpoint {
  readonly port: number;
  /** Accepts no more; requests that have begun are answered. */
  stop(): void;
  close(): Promise<void>;
}

const MAX_CONNECTIONS = 256;
/** As Istio's. */
const HEADERS_TIMEOUT_MS = 2000;
/** Longer than the longest profile. */
const ANSWER_TIMEOUT_MS = 330_000;

/** Opens the server; rejects when the address is taken. */
export async function openEndpoint(options: EndpointOptions): Promise<Endpoint> {
  const server = createServer({
    headersTimeout: HEADERS_TIMEOUT_MS,
    // How often Node looks for who is late; by itself every 30 s.
    connectionsCheckingInterval: HEADERS_TIMEOUT_MS / 2,
    requestTimeout: 30_000,
    maxHeaderSize: 8192,
  });
  server.maxConnections = MAX_CONNECTIONS;
  // A client may end its direction after the request, as with Istio's; Node would break a streamed answer off.
  Object.assign(server, { httpAllowHalfOpen: true });
  server.timeout = ANSWER_TIMEOUT_MS;
  server.on('request', (request, response) => {
    answer(options, request)
      .then((found) => send(options, request, response, found))
      // The client has gone, or the body failed halfway: there is nobody to tell.
      .catch(() => response.destroy());
  });
  await listen(server, options);
  const address = server.address() as AddressInfo;
  return {
    port: address.port,
    stop: () => void server.close(),
    close: () =>
      new Promise((resolve) => {
        server.close(() => resolve());
        server.closeAllConnections();
      }),
  };
}

async function answer(options: EndpointOptions, request: IncomingMessage): Promise<EndpointAnswer> {
  try {
    const url = requestTarget(request.url ?? '/');
    if (url === undefined) return { status: 400, body: 'not a path\n' };
    const handler = Object.hasOwn(options.routes, url.pathname)
      ? options.routes[url.pathname]
      : undefined;
    if (handler === undefined) return { status: 404, body: 'not found\n' };
    return await handler(request, url);
  } catch (err) {
    return { status: 500, body: `${errorMessage(err)}\n` };
  }
}

/** A request's target. `//host/path` is a path as well, and no host; undefined for what is neither path nor URL. */
export function requestTarget(text: string): URL | undefined {
  const url = text.startsWith('/') ? `http://localhost${text}` : text;
  return URL.canParse(url) ? new URL(url) : undefined;
}

async function send(
  options: EndpointOptions,
  request: IncomingMessage,
  response: ServerResponse,
  { status = 200, type = 'text/plain; charset=utf-8', body }: EndpointAnswer,
): Promise<void> {
  const compressor =
    options.isCompressing === true ? compressorFor(request.headers['accept-encoding']) : undefined;
  const headers = {
    'content-type': type,
    ...(options.isCompressing === true ? { vary: 'accept-encoding' } : {}),
    ...(compressor === undefined ? {} : { 'content-encoding': compressor.encoding }),
  };
  response.writeHead(status, headers);
  if (compressor === undefined && typeof body === 'string') {
    response.end(body);
    return;
  }
  const source = typeof body === 'string' ? Readable.from([body]) : body;
  if (compressor === undefined) await pipeline(source, response);
  else await pipeline(source, compressor.create(), response);
}

function listen(server: Server, options: EndpointOptions): Promise<void> {
  return new Promise((resolve, reject) => {
    server.once('error', reject);
    const { host, port, fd } = options;
    server.listen(fd === undefined ? { host, port } : { fd }, () => {
      server.off('error', reject);
      resolve();
    });
  });
}
