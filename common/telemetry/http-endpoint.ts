// Small HTTP servers of a proxy: admin, metrics, readiness. Plain node:http with tight limits; not for traffic.
import { createServer } from 'node:http';
import type { IncomingMessage, Server } from 'node:http';
import type { AddressInfo } from 'node:net';
import { errorMessage } from '../errors.ts';

/** An answer; `type` defaults to text/plain. */
export interface EndpointAnswer {
  readonly status?: number;
  readonly type?: string;
  readonly body: string;
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
  readonly routes: Readonly<Record<string, EndpointHandler>>;
}

/** A listening endpoint. */
export interface Endpoint {
  readonly port: number;
  close(): Promise<void>;
}

/** Opens the server; rejects when the address is taken. */
export async function openEndpoint(options: EndpointOptions): Promise<Endpoint> {
  const server = createServer({
    headersTimeout: 2000,
    requestTimeout: 30_000,
    maxHeaderSize: 8192,
  });
  server.on('request', (request, response) => {
    const url = new URL(request.url ?? '/', 'http://localhost');
    const handler = options.routes[url.pathname];
    const answer =
      handler === undefined
        ? Promise.resolve<EndpointAnswer>({ status: 404, body: 'not found\n' })
        : Promise.resolve().then(() => handler(request, url));
    answer
      .catch((err: unknown): EndpointAnswer => ({ status: 500, body: `${errorMessage(err)}\n` }))
      .then(({ status = 200, type = 'text/plain; charset=utf-8', body }) => {
        response.writeHead(status, { 'content-type': type });
        response.end(body);
      })
      .catch(() => response.destroy());
  });
  await listen(server, options);
  const address = server.address() as AddressInfo;
  return {
    port: address.port,
    close: () =>
      new Promise((resolve) => {
        server.close(() => resolve());
        server.closeAllConnections();
      }),
  };
}

function listen(server: Server, options: EndpointOptions): Promise<void> {
  return new Promise((resolve, reject) => {
    server.once('error', reject);
    server.listen(options.port, options.host, () => {
      server.off('error', reject);
      resolve();
    });
  });
}
