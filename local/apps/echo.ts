// The echo application of Istio's tests, as far as the samples use it: HTTP, TCP and gRPC ports given by flags
// (--port, --tcp, --grpc, --xds-grpc-server, each may be repeated), answers with lines that describe the request.
// gRPC is spoken by hand over node:http2: one unary method, proto.EchoTestService/Echo, both messages {1: text}.
import { createServer as createHttpServer } from 'node:http';
import { createServer as createHttp2Server, type ServerHttp2Stream } from 'node:http2';
import { createServer as createTcpServer } from 'node:net';
import { hostname } from 'node:os';
import { listenEverywhere } from './http-app.ts';

const MAX_MESSAGE_BYTES = 4 * 1024 * 1024;

interface Flags {
  readonly ports: number[];
  readonly tcp: number[];
  readonly grpc: number[];
  version: string;
}

function parseFlags(args: readonly string[]): Flags {
  const flags: Flags = { ports: [], tcp: [], grpc: [], version: '' };
  const words = args.flatMap((arg) => (arg.startsWith('--') ? arg.split(/=(.*)/s, 2) : [arg]));
  for (let index = 0; index + 1 < words.length; index += 2) {
    const value = words[index + 1] ?? '';
    if (words[index] === '--port') flags.ports.push(Number(value));
    else if (words[index] === '--tcp') flags.tcp.push(Number(value));
    else if (/^--(xds-grpc-server|grpc)$/.test(words[index] ?? '')) flags.grpc.push(Number(value));
    else if (words[index] === '--version') flags.version = value;
  }
  return flags;
}

const flags = parseFlags(process.argv.slice(2));

function describe(port: number, fields: readonly (readonly [string, string])[]): string {
  const all = [
    ['ServiceVersion', flags.version],
    ['ServicePort', String(port)],
    ...fields,
    ['Hostname', hostname()],
  ] as const;
  return all.map(([name, value]) => `${name}=${value}\n`).join('');
}

function serveHttp(port: number): void {
  const server = createHttpServer((req, res) => {
    const headers: [string, string][] = [];
    for (let index = 0; index + 1 < req.rawHeaders.length; index += 2) {
      const name = req.rawHeaders[index] ?? '';
      headers.push(['RequestHeader', `${name}:${req.rawHeaders[index + 1] ?? ''}`]);
    }
    const code = Number(/[?&]codes=(\d+)/.exec(req.url ?? '')?.[1] ?? 200);
    const body = describe(port, [
      ['Host', req.headers.host ?? ''],
      ['URL', req.url ?? ''],
      ['Method', req.method ?? ''],
      ['Proto', `HTTP/${req.httpVersion}`],
      ['IP', req.socket.remoteAddress ?? ''],
      ...headers,
      ['StatusCode', String(code)],
    ]);
    res.writeHead(code, { 'content-type': 'text/plain' });
    res.end(body);
  });
  listenEverywhere(server, port);
}

function serveTcp(port: number): void {
  const server = createTcpServer((socket) => {
    socket.on('error', () => socket.destroy());
    socket.write(describe(port, [['StatusCode', '200']]));
    socket.pipe(socket);
  });
  server.once('error', () => server.listen(port, '0.0.0.0'));
  server.listen(port, '::');
}

function varint(value: number): Buffer {
  const bytes: number[] = [];
  for (let rest = value; ; rest = Math.floor(rest / 128)) {
    if (rest < 128) {
      bytes.push(rest);
      return Buffer.from(bytes);
    }
    bytes.push((rest % 128) | 128);
  }
}

/** A gRPC frame of a message whose field 1 is a string. */
function encodeMessage(text: string): Buffer {
  const content = Buffer.from(text);
  const message = Buffer.concat([Buffer.from([10]), varint(content.length), content]);
  const head = Buffer.alloc(5);
  head.writeUInt32BE(message.length, 1);
  return Buffer.concat([head, message]);
}

/** The string in field 1 of the first message, if that is how it begins. */
function decodeMessage(frame: Buffer): string {
  if (frame.length < 7 || frame[5] !== 10) return '';
  let length = 0;
  let offset = 6;
  for (let shift = 0; shift < 28 && offset < frame.length; shift += 7) {
    const byte = frame[offset++] ?? 0;
    length |= (byte & 127) << shift;
    if (byte < 128) break;
  }
  return frame.subarray(offset, offset + length).toString();
}

function answerGrpc(stream: ServerHttp2Stream, port: number, path: string, frame: Buffer): void {
  const isKnown = path.endsWith('/Echo');
  stream.respond({ ':status': 200, 'content-type': 'application/grpc' }, { waitForTrailers: true });
  stream.on('wantTrailers', () =>
    stream.sendTrailers(
      isKnown ? { 'grpc-status': '0' } : { 'grpc-status': '12', 'grpc-message': 'unknown method' },
    ),
  );
  if (!isKnown) {
    stream.end();
    return;
  }
  const text = describe(port, [
    ['StatusCode', '200'],
    ['Echo', decodeMessage(frame)],
    ['Proto', 'GRPC'],
  ]);
  stream.end(encodeMessage(text));
}

function serveGrpc(port: number): void {
  const server = createHttp2Server();
  server.on('sessionError', () => undefined);
  server.on('stream', (stream, headers) => {
    const chunks: Buffer[] = [];
    let length = 0;
    stream.on('error', () => stream.destroy());
    stream.on('data', (chunk: Buffer) => {
      length += chunk.length;
      if (length > MAX_MESSAGE_BYTES) stream.close(11);
      else chunks.push(chunk);
    });
    stream.on('end', () => {
      if (!stream.destroyed)
        answerGrpc(stream, port, headers[':path'] ?? '', Buffer.concat(chunks));
    });
  });
  server.once('error', () => server.listen(port, '0.0.0.0'));
  server.listen(port, '::');
}

for (const port of new Set(flags.ports)) serveHttp(port);
for (const port of new Set(flags.tcp)) serveTcp(port);
for (const port of new Set(flags.grpc)) serveGrpc(port);
process.once('SIGTERM', () => process.exit(0));
console.log(
  `echo listens: http ${flags.ports.join()} tcp ${flags.tcp.join()} grpc ${flags.grpc.join()}`,
);
