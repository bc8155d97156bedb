// Start lines and header fields between HTTP/1.1 text and header lists with pseudo headers (RFC 9112, RFC 9110
// section 7). Pure. Hop-by-hop fields end here; framing fields are written by the connection that sends.
import { STATUS_CODES } from 'node:http';
import type { HeaderList } from '../http2/types.ts';
import type { Http1Head } from './parser.ts';

/** A request head turned into a header list, or why it is refused. */
export type RequestHead =
  | {
      readonly headers: HeaderList;
      /** The request asks for another protocol (`Connection: upgrade`), e.g. websocket. */
      readonly isUpgrade: boolean;
      readonly expectsContinue: boolean;
    }
  | { readonly problem: string };

/** How a body's end is marked on the wire. */
export type Framing = 'none' | 'length' | 'chunked' | 'close';

const HOP_BY_HOP = new Set([
  'connection',
  'keep-alive',
  'proxy-connection',
  'transfer-encoding',
  'te',
  'upgrade',
  'http2-settings',
]);

/** Builds the header list of a request. */
export function requestHead(head: Http1Head): RequestHead {
  const { headers, method } = head;
  if (method === 'CONNECT') return { problem: 'connect is not served' };
  let host: string | undefined;
  let connection = '';
  let upgrade = '';
  let expectsContinue = false;
  for (const [name, value] of headers) {
    if (name === 'host') {
      if (host !== undefined) return { problem: 'more than one host' };
      host = value;
    } else if (name === 'connection') connection += `,${value}`;
    else if (name === 'upgrade') upgrade = value;
    else if (name === 'expect') expectsContinue = value.toLowerCase() === '100-continue';
  }
  if (host === undefined && head.minorVersion >= 1) return { problem: 'no host' };
  const nominated = connection === '' ? undefined : connectionTokens(connection);
  const isUpgrade =
    upgrade !== '' && nominated?.has('upgrade') === true && upgrade.toLowerCase() !== 'h2c';
  const target = splitTarget(head.target, host ?? '');
  if (target === undefined) return { problem: 'bad request target' };
  const list: Array<readonly [string, string]> = [
    [':method', method],
    [':scheme', target.scheme],
    [':authority', target.authority],
    [':path', target.path],
  ];
  for (const header of headers) {
    const name = header[0];
    if (name === 'host' || HOP_BY_HOP.has(name) || nominated?.has(name) === true) continue;
    list.push(header);
  }
  if (isUpgrade) list.push(['upgrade', upgrade]);
  return { headers: list, isUpgrade, expectsContinue };
}

function connectionTokens(value: string): Set<string> {
  return new Set(
    value
      .toLowerCase()
      .split(',')
      .map((token) => token.trim()),
  );
}

function splitTarget(
  target: string,
  host: string,
): { scheme: string; authority: string; path: string } | undefined {
  if (target.startsWith('/') || target === '*') {
    return { scheme: 'http', authority: host, path: target };
  }
  // Absolute form: its authority wins over Host (RFC 9112 section 3.2.2).
  const match = /^(https?):\/\/([^/?#]+)([^#]*)$/i.exec(target);
  if (match === null) return undefined;
  const [, scheme = '', authority = '', rest = ''] = match;
  const path = rest.startsWith('/') ? rest : `/${rest}`;
  return { scheme: scheme.toLowerCase(), authority, path };
}

/** Builds the header list of a response. */
export function responseHead(head: Http1Head): HeaderList {
  let nominated: Set<string> | undefined;
  for (const [name, value] of head.headers) {
    if (name === 'connection') nominated = connectionTokens(value);
  }
  const list: Array<readonly [string, string]> = [[':status', String(head.status)]];
  for (const header of head.headers) {
    const name = header[0];
    if (name === 'upgrade' && head.status === 101) list.push(header);
    else if (!HOP_BY_HOP.has(name) && nominated?.has(name) !== true) list.push(header);
  }
  return list;
}

/** A header's first value. */
export function headerValue(headers: HeaderList, name: string): string | undefined {
  for (const header of headers) if (header[0] === name) return header[1];
  return undefined;
}

/** Writes a request head. */
export function writeRequestHead(headers: HeaderList, framing: Framing): string {
  let method = 'GET';
  let path = '/';
  let authority = '';
  let fields = '';
  let isUpgrade = false;
  for (const [name, value] of headers) {
    if (name === ':method') method = value;
    else if (name === ':path') path = value;
    else if (name === ':authority') authority = value;
    else if (name.charCodeAt(0) === COLON) continue;
    else {
      if (name === 'upgrade') isUpgrade = true;
      // `te` travels from HTTP/2 only as `trailers`, which HTTP/1.1 may not see without Connection: te.
      if (name === 'te') continue;
      fields += `${name}: ${value}\r\n`;
    }
  }
  if (isUpgrade) fields += 'connection: upgrade\r\n';
  if (framing === 'chunked') fields += 'transfer-encoding: chunked\r\n';
  return `${method} ${path} HTTP/1.1\r\nhost: ${authority}\r\n${fields}\r\n`;
}

const COLON = 58;

/** Writes a response head. */
export function writeResponseHead(headers: HeaderList, framing: Framing, closes: boolean): string {
  let status = '200';
  let fields = '';
  for (const [name, value] of headers) {
    if (name === ':status') status = value;
    else if (name.charCodeAt(0) !== COLON) fields += `${name}: ${value}\r\n`;
  }
  if (status === '101') fields += 'connection: upgrade\r\n';
  else if (closes) fields += 'connection: close\r\n';
  if (framing === 'chunked') fields += 'transfer-encoding: chunked\r\n';
  return `HTTP/1.1 ${status} ${STATUS_CODES[status] ?? ''}\r\n${fields}\r\n`;
}

/** Writes trailers after the last chunk. */
export function writeTrailers(trailers: HeaderList): string {
  let text = '0\r\n';
  for (const [name, value] of trailers) {
    if (name.charCodeAt(0) !== COLON) text += `${name}: ${value}\r\n`;
  }
  return `${text}\r\n`;
}
