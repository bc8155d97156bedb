// The HTTP port: readiness, metrics, debug pages, and the dashboard. No secrets are shown: resources are what every
// proxy of the mesh is sent.
import { createServer } from 'node:http';
import type { IncomingMessage, ServerResponse } from 'node:http';
import type { AddressInfo } from 'node:net';
import { errorMessage } from '../common/errors.ts';
import { requestTarget } from '../common/telemetry/http-endpoint.ts';

/** Answers a request, or says that it is not its own. */
export type Handler = (request: IncomingMessage, response: ServerResponse) => boolean;

/** A page: content type and text. */
export interface Page {
  readonly type: string;
  readonly body: string;
  readonly status?: number;
}

/** Options of {@link openHttpServer}. */
export interface HttpServerOptions {
  readonly host: string;
  readonly port: number;
  readonly pages: Readonly<Record<string, (url: URL) => Page | Promise<Page>>>;
  /** Gets what no page answers. */
  readonly fallback?: Handler;
}

/** A listening server. */
export interface HttpServer {
  readonly port: number;
  close(): Promise<void>;
}

/** JSON as a page; maps become objects, bigints and bytes text. */
export function jsonPage(value: unknown): Page {
  const body = JSON.stringify(
    value,
    (_key, item: unknown) => {
      if (item instanceof Map) return Object.fromEntries(item) as unknown;
      if (typeof item === 'bigint') return item.toString();
      return item instanceof Uint8Array ? Buffer.from(item).toString('base64') : item;
    },
    2,
  );
  return { type: 'application/json', body: `${body}\n` };
}

/** Opens the server; rejects when the address is taken. */
export async function openHttpServer(options: HttpServerOptions): Promise<HttpServer> {
  const server = createServer({
    headersTimeout: 5000,
    requestTimeout: 30_000,
    maxHeaderSize: 16_384,
  });
  server.on('request', (request, response) => {
    answer(options, request, response).catch((err: unknown) => {
      if (!response.headersSent) response.writeHead(500, { 'content-type': 'text/plain' });
      response.end(`${errorMessage(err)}\n`);
    });
  });
  await new Promise<void>((resolve, reject) => {
    server.once('error', reject);
    server.listen(options.port, options.host, resolve);
  });
  return {
    port: (server.address() as AddressInfo).port,
    close: () =>
      new Promise((resolve) => {
        server.close(() => resolve());
        server.closeAllConnections();
      }),
  };
}

async function answer(
  options: HttpServerOptions,
  request: IncomingMessage,
  response: ServerResponse,
): Promise<void> {
  const url = requestTarget(request.url ?? '/');
  if (url === undefined) {
    response.writeHead(400, { 'content-type': 'text/plain' });
    response.end('not a path\n');
    return;
  }
  const page = Object.hasOwn(options.pages, url.pathname) ? options.pages[url.pathname] : undefined;
  if (page !== undefined) {
    const { status = 200, type, body } = await page(url);
    response.writeHead(status, { 'content-type': type });
    response.end(body);
    return;
  }
  if (options.fallback?.(request, response) === true) return;
  response.writeHead(404, { 'content-type': 'text/plain' });
  response.end('not found\n');
}
