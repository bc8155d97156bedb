// The httpbin sample: shows what a request looks like when it arrives, and answers as it is asked to.
import type { IncomingMessage, ServerResponse } from 'node:http';
import { setTimeout as delay } from 'node:timers/promises';
import { readBody, sendJson, sendText, serveApp } from './http-app.ts';

const MAX_BYTES = 100 * 1024 * 1024;
const MAX_LINES = 1000;
const MAX_DELAY_SEC = 10;

function headersOf(req: IncomingMessage): Record<string, string[]> {
  const found: Record<string, string[]> = {};
  for (const [name, values] of Object.entries(req.headersDistinct)) {
    const title = name.replace(/(^|-)[a-z]/g, (part) => part.toUpperCase());
    found[title] = values ?? [];
  }
  return found;
}

function argsOf(url: URL): Record<string, string[]> {
  return Object.fromEntries(
    [...url.searchParams.keys()].map((k) => [k, url.searchParams.getAll(k)]),
  );
}

async function describe(req: IncomingMessage, url: URL): Promise<Record<string, unknown>> {
  const data = await readBody(req);
  let json: unknown = null;
  try {
    json = JSON.parse(data);
  } catch {
    // The body is no JSON, and the answer says so by null.
  }
  return {
    args: argsOf(url),
    headers: headersOf(req),
    method: req.method,
    origin: req.socket.remoteAddress ?? '',
    url: `http://${req.headers.host ?? ''}${req.url ?? ''}`,
    data,
    json,
  };
}

function sendBytes(res: ServerResponse, count: number): void {
  const size = Math.min(count, MAX_BYTES);
  res.writeHead(200, { 'content-type': 'application/octet-stream', 'content-length': size });
  const block = Buffer.alloc(64 * 1024, 'x');
  let left = size;
  const more = (): void => {
    while (left > 0) {
      const part = left < block.length ? block.subarray(0, left) : block;
      left -= part.length;
      if (!res.write(part) && left > 0) {
        res.once('drain', more);
        return;
      }
    }
    res.end();
  };
  more();
}

function sendLines(req: IncomingMessage, res: ServerResponse, url: URL, count: number): void {
  res.writeHead(200, { 'content-type': 'application/json' });
  for (let id = 0; id < Math.min(count, MAX_LINES); id++) {
    res.write(JSON.stringify({ id, args: argsOf(url), headers: headersOf(req) }) + '\n');
  }
  res.end();
}

const METHODS = new Set(['/get', '/post', '/put', '/patch', '/delete', '/anything']);

serveApp('httpbin', Number(process.env['PORT'] ?? 8080), async (req, res, url) => {
  const [, verb = '', argument = ''] = url.pathname.split('/');
  const number = Number(argument);
  if (METHODS.has(url.pathname) || verb === 'anything') {
    const method = url.pathname.slice(1).toUpperCase();
    const isAllowed =
      verb === 'anything' || method === req.method || (method === 'GET' && req.method === 'HEAD');
    if (isAllowed) sendJson(res, 200, await describe(req, url));
    else sendJson(res, 405, { error: 'method not allowed' });
  } else if (verb === 'headers') {
    sendJson(res, 200, { headers: headersOf(req) });
  } else if (verb === 'ip') {
    sendJson(res, 200, { origin: req.socket.remoteAddress ?? '' });
  } else if (verb === 'user-agent') {
    sendJson(res, 200, { 'user-agent': req.headers['user-agent'] ?? '' });
  } else if (verb === 'hostname') {
    sendJson(res, 200, { hostname: process.env['HOSTNAME'] ?? '' });
  } else if (verb === 'status' && number >= 200 && number <= 599) {
    res.writeHead(number);
    res.end();
  } else if (verb === 'delay' && number >= 0) {
    await delay(Math.min(number, MAX_DELAY_SEC) * 1000);
    sendJson(res, 200, await describe(req, url));
  } else if ((verb === 'bytes' || verb === 'stream-bytes') && number >= 0) {
    sendBytes(res, number);
  } else if (verb === 'stream' && number >= 0) {
    sendLines(req, res, url, number);
  } else if (verb === 'response-headers') {
    for (const [name, values] of Object.entries(argsOf(url))) res.setHeader(name, values);
    sendJson(res, 200, argsOf(url));
  } else if (url.pathname === '/') {
    sendText(
      res,
      'httpbin: /get /post /headers /ip /user-agent /status/N /delay/N /bytes/N /stream/N /anything\n',
    );
  } else {
    sendJson(res, 404, { error: 'not found' });
  }
});
