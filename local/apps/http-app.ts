// What the sample services share: an HTTP server with routes, a JSON client that passes trace headers on, and a
// graceful end. Plain node built-ins; the samples know nothing of the mesh.
import {
  Agent,
  createServer,
  request,
  type IncomingHttpHeaders,
  type IncomingMessage,
  type Server,
  type ServerResponse,
} from 'node:http';

/** Headers a service copies from the request it serves to those it makes, so that traces stay whole. */
const FORWARDED = [
  ...['end-user', 'user-agent', 'authorization', 'cookie', 'x-request-id', 'x-ot-span-context'],
  ...['traceparent', 'tracestate', 'b3', 'x-b3-traceid', 'x-b3-spanid', 'x-b3-parentspanid'],
  ...['x-b3-sampled', 'x-b3-flags', 'x-datadog-trace-id', 'x-datadog-parent-id', 'sw8'],
];
const MAX_BODY_BYTES = 8 * 1024 * 1024;
const UPSTREAM_TIMEOUT_MS = 3000;
// Longer than any client of the samples keeps an idle connection, so that no request meets a closing one.
const KEEP_ALIVE_MS = 75_000;

// Connections are renewed now and then, as long-lived clients do, so that what was changed in the mesh (a waypoint, a
// label) soon holds for all requests.
const RENEW_MS = 10_000;
let agent = new Agent({ keepAlive: true, maxSockets: 64 });
setInterval(() => {
  const old = agent;
  agent = new Agent({ keepAlive: true, maxSockets: 64 });
  setTimeout(() => old.destroy(), 2 * UPSTREAM_TIMEOUT_MS);
}, RENEW_MS).unref();

export interface Answer {
  readonly status: number;
  readonly headers: IncomingHttpHeaders;
  readonly body: string;
}

export type Handler = (req: IncomingMessage, res: ServerResponse, url: URL) => void | Promise<void>;

/** Writes a JSON answer. */
export function sendJson(res: ServerResponse, status: number, value: unknown): void {
  const body = JSON.stringify(value, undefined, 2) + '\n';
  res.writeHead(status, { 'content-type': 'application/json' });
  res.end(body);
}

/** Writes a text answer. */
export function sendText(res: ServerResponse, body: string, type = 'text/plain'): void {
  res.writeHead(200, { 'content-type': `${type}; charset=utf-8` });
  res.end(body);
}

/** Reads a whole body, up to a limit. */
export async function readBody(stream: IncomingMessage): Promise<string> {
  const chunks: Buffer[] = [];
  let length = 0;
  for await (const chunk of stream as AsyncIterable<Buffer>) {
    length += chunk.length;
    if (length > MAX_BODY_BYTES) throw new Error('body too large');
    chunks.push(chunk);
  }
  return Buffer.concat(chunks).toString();
}

function attempt(url: string, headers: Record<string, string>): Promise<Answer> {
  return new Promise((resolve, reject) => {
    const req = request(url, { agent, headers, timeout: UPSTREAM_TIMEOUT_MS }, (res) => {
      readBody(res).then(
        (body) => resolve({ status: res.statusCode ?? 0, headers: res.headers, body }),
        reject,
      );
    });
    req.on('timeout', () => req.destroy(new Error(`no answer from ${url} in time`)));
    req.on('error', (err: NodeJS.ErrnoException) => {
      // A kept connection may have been closed just as it was chosen; asking once more is safe for a GET.
      if (req.reusedSocket && err.code === 'ECONNRESET')
        attempt(url, headers).then(resolve, reject);
      else reject(err);
    });
    req.end();
  });
}

/** Calls another service, passing the trace and user headers of the request being served. */
export function callService(url: string, from: IncomingHttpHeaders): Promise<Answer> {
  const headers: Record<string, string> = {};
  for (const name of FORWARDED) {
    const value = from[name];
    if (typeof value === 'string') headers[name] = value;
  }
  return attempt(url, headers);
}

/** The routes all samples have: health, and a page for operators that a policy may close. */
function commonRoute(res: ServerResponse, path: string, name: string): boolean {
  if (path === '/health') sendJson(res, 200, { status: `${name} is healthy` });
  else if (path === '/admin' || path.startsWith('/admin/')) sendJson(res, 200, { admin: name });
  else return false;
  return true;
}

/** Serves `handler` until SIGTERM, then finishes what is in flight. */
export function serveApp(name: string, port: number, handler: Handler): Server {
  const server = createServer((req, res) => {
    const url = new URL(req.url ?? '/', 'http://sample');
    if (commonRoute(res, url.pathname, name)) return;
    Promise.resolve()
      .then(() => handler(req, res, url))
      .catch((err: unknown) => {
        if (res.headersSent) res.destroy();
        else sendJson(res, 500, { error: err instanceof Error ? err.message : String(err) });
      });
  });
  server.keepAliveTimeout = KEEP_ALIVE_MS;
  server.on('upgrade', (_req, socket) => socket.destroy());
  listenEverywhere(server, port);
  console.log(`${name} listens on port ${port}`);
  return server;
}

/** Listens on all addresses, IPv6 where the machine has it, and ends gracefully on SIGTERM. */
export function listenEverywhere(server: Server, port: number): void {
  server.once('error', (err: NodeJS.ErrnoException) => {
    if (err.code !== 'EAFNOSUPPORT') throw err;
    server.listen(port, '0.0.0.0');
  });
  server.listen(port, '::');
  process.once('SIGTERM', () => {
    server.close(() => process.exit(0));
    server.closeIdleConnections();
    setTimeout(() => process.exit(0), 2000);
  });
}
