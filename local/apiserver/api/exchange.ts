// One HTTP request being answered: what every handler reads of it and how it answers.
import type { IncomingMessage, ServerResponse } from 'node:http';
import { gzip } from 'node:zlib';
import { isDict } from '../objects.ts';
import type { Dict } from '../objects.ts';
import { StatusError, badRequest } from '../status-error.ts';
import type { User } from '../auth/user.ts';

const MAX_BODY_BYTES = 3 * 1024 * 1024;
const GZIP_MIN_BYTES = 128 * 1024;

export interface Exchange {
  readonly request: IncomingMessage;
  readonly response: ServerResponse;
  readonly url: URL;
  readonly query: URLSearchParams;
  readonly method: string;
  readonly user: User;
  readonly warnings: string[];
}

/** Reads a body up to the API's limit. */
export async function readBody(request: IncomingMessage): Promise<Buffer> {
  const parts: Buffer[] = [];
  let size = 0;
  for await (const part of request as AsyncIterable<Buffer>) {
    size += part.length;
    if (size > MAX_BODY_BYTES) {
      throw new StatusError(
        413,
        'RequestEntityTooLarge',
        'Request entity too large: limit is 3145728',
      );
    }
    parts.push(part);
  }
  return Buffer.concat(parts);
}

/** The media type of the body, without parameters. */
export function contentType(request: IncomingMessage): string {
  return (request.headers['content-type'] ?? 'application/json').split(';')[0]?.trim() ?? '';
}

/** Decodes a JSON or YAML body; undefined when it is empty. */
export async function readDocument(request: IncomingMessage): Promise<unknown> {
  const type = contentType(request);
  const body = await readBody(request);
  if (body.length === 0) return undefined;
  if (type === 'application/vnd.kubernetes.protobuf') {
    const { decodeProtobuf } = await import('../schema/protobuf.ts');
    return decodeProtobuf(body);
  }
  if (type.includes('cbor')) {
    throw new StatusError(
      415,
      'UnsupportedMediaType',
      'the body of the request was in an unknown format - accepted media types include: application/json, application/yaml',
    );
  }
  const text = body.toString('utf8');
  try {
    return JSON.parse(text) as unknown;
  } catch (err) {
    if (!type.includes('yaml')) {
      throw badRequest(`the body is not JSON: ${err instanceof Error ? err.message : ''}`);
    }
  }
  const { parse } = await import('yaml');
  try {
    // Alias expansion is limited by the parser (maxAliasCount), so a body cannot grow without bound.
    return parse(text) as unknown;
  } catch (err) {
    throw badRequest(`the body is not YAML: ${err instanceof Error ? err.message : ''}`);
  }
}

/** Decodes a body that must be an object. */
export async function readObject(request: IncomingMessage): Promise<Dict> {
  const document = await readDocument(request);
  if (!isDict(document)) throw badRequest('the body must be an object');
  return document;
}

/** Answers with JSON text, compressed when it is large and the client takes it. */
export function sendText(
  exchange: Exchange,
  status: number,
  json: string,
  type = 'application/json',
): void {
  const { response, request } = exchange;
  const headers: Record<string, string | string[]> = {
    'content-type': type,
    'cache-control': 'no-cache, private',
  };
  if (exchange.warnings.length > 0) {
    headers['warning'] = exchange.warnings.map((text) => `299 - ${JSON.stringify(text)}`);
  }
  const accepts = (request.headers['accept-encoding'] ?? '').includes('gzip');
  if (!accepts || json.length < GZIP_MIN_BYTES) {
    response.writeHead(status, { ...headers, 'content-length': Buffer.byteLength(json) });
    response.end(json);
    return;
  }
  gzip(json, { level: 1 }, (err, packed) => {
    if (err !== null) response.destroy(err);
    else {
      response.writeHead(status, { ...headers, 'content-encoding': 'gzip' });
      response.end(packed);
    }
  });
}

export function sendJson(exchange: Exchange, status: number, value: unknown): void {
  sendText(exchange, status, JSON.stringify(value));
}
