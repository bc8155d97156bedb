// Conversations of HTTP/1 and HTTP/2 as they went over a wire, between node:http and node:http2; and what an observer makes of
// them, however they are cut.
import { once } from 'node:events';
import http from 'node:http';
import http2 from 'node:http2';
import net from 'node:net';
import { addressOfBuffer } from '../../engine/native/llhttp.ts';
import { HttpObserver } from '../../engine/observe/http-observer.ts';
import { ObserveBudget } from '../../engine/observe/observe-budget.ts';
import type { HttpExchange, ObserveEnd } from '../../engine/observe/types.ts';

/** Bytes in the order they passed. */
export type Conversation = readonly { readonly isForward: boolean; readonly bytes: Buffer }[];

async function listening(server: net.Server): Promise<number> {
  server.listen(0, '127.0.0.1');
  await once(server, 'listening');
  return (server.address() as net.AddressInfo).port;
}

/** Records what `talk` and the server say to each other on one connection. */
async function record(
  server: net.Server,
  talk: (port: number) => Promise<void>,
): Promise<Conversation> {
  const upstreamPort = await listening(server);
  const said: { isForward: boolean; bytes: Buffer }[] = [];
  const proxy = net.createServer((client) => {
    const upstream = net.connect(upstreamPort, '127.0.0.1');
    const pass = (from: net.Socket, to: net.Socket, isForward: boolean): void => {
      from.on('data', (bytes: Buffer) => {
        said.push({ isForward, bytes });
        to.write(bytes);
      });
      from.on('end', () => to.end());
      from.on('error', () => to.destroy());
    };
    pass(client, upstream, true);
    pass(upstream, client, false);
  });
  await talk(await listening(proxy));
  proxy.close();
  server.close();
  return said;
}

/** Pipelined requests with sized, chunked and no bodies, an interim answer, and HEAD. */
export function recordHttp1(): Promise<Conversation> {
  const server = http.createServer((request, response) => {
    request.resume().on('end', () => {
      response.writeEarlyHints({ link: '</a>; rel=preload' });
      response.writeHead(Number(request.url?.slice(1)), { 'x-long': 'v'.repeat(300) });
      response.write('one');
      response.end('two'.repeat(200));
    });
  });
  return record(server, async (port) => {
    const client = net.connect(port, '127.0.0.1');
    client.write('POST /201 HTTP/1.1\r\nHost: a\r\nContent-Length: 5\r\n\r\nhello');
    client.write('HEAD /404 HTTP/1.1\r\nHost: a\r\n\r\nGET /200 HTTP/1.1\r\nHost: a\r\n\r\n');
    client.write('PUT /500 HTTP/1.1\r\nHost: a\r\nTransfer-Encoding: chunked\r\n\r\n');
    client.end('5\r\nhello\r\n6;x=y\r\n world\r\n0\r\nTrailer: t\r\n\r\n');
    await once(client.resume(), 'close');
  });
}

/** Streams at once, with bodies, trailers, resets, and header tables in use. */
export function recordHttp2(): Promise<Conversation> {
  const server = http2.createServer({ settings: { headerTableSize: 256, maxFrameSize: 20_000 } });
  server.on('stream', (stream, headers) => {
    stream.on('error', () => undefined);
    if (headers[':path'] === '/reset') {
      stream.close(http2.constants.NGHTTP2_INTERNAL_ERROR);
      return;
    }
    const answer = {
      ':status': Number(headers['x-code']),
      'content-type': 'application/grpc',
      'x-seen': headers['x-name'],
    };
    stream.respond(answer, { waitForTrailers: true });
    stream.on('wantTrailers', () => stream.sendTrailers({ 'grpc-status': '5' }));
    stream.end('body'.repeat(3000));
  });
  return record(server, async (port) => {
    const client = http2.connect(`http://127.0.0.1:${port}`, {
      settings: { headerTableSize: 8192 },
    });
    const ask = async (headers: http2.OutgoingHttpHeaders, body = ''): Promise<void> => {
      const stream = client.request({ ':method': 'POST', ...headers });
      stream.on('error', () => undefined);
      stream.end(body);
      await new Promise((resolve) => stream.resume().once('close', resolve));
    };
    const asked = [200, 201, 404, 503].map((code) =>
      ask({ 'x-code': code, 'x-name': `name-${code}` }, 'x'.repeat(code * 20)),
    );
    await Promise.all([...asked, ask({ ':path': '/reset' })]);
    await ask({ 'x-code': 200, 'x-name': 'name-404', 'x-again': 'y'.repeat(200) });
    client.close();
    await once(client, 'close');
  });
}

/** What an observer told of a conversation. */
export interface Told {
  /** `protocol method status grpc-status`, in order. */
  readonly exchanges: readonly string[];
  readonly end: ObserveEnd | undefined;
}

/** Observes a conversation, each of its pieces cut at most every `cut()` bytes. */
export function observeConversation(
  conversation: Conversation,
  cut: () => number = () => 1 << 20,
): Told {
  const exchanges: HttpExchange[] = [];
  const ends: ObserveEnd[] = [];
  let clock = 0;
  const observer = new HttpObserver(
    {
      now: () => clock++ / 1e6,
      onExchange: (exchange) => void exchanges.push(exchange),
      onEnd: (end) => void ends.push(end),
    },
    new ObserveBudget(1, 1000, 0),
  );
  for (const { isForward, bytes } of conversation) {
    const memory = Buffer.allocUnsafeSlow(Math.max(1, bytes.length));
    bytes.copy(memory);
    const address = addressOfBuffer(memory);
    for (let at = 0; at < bytes.length;) {
      const length = Math.min(Math.max(1, cut()), bytes.length - at);
      if (isForward) observer.sawForward(address + at, length);
      else observer.sawBackward(address + at, length);
      at += length;
    }
    if (!memory.subarray(0, bytes.length).equals(bytes)) throw new Error('bytes were changed');
  }
  observer.sawBackwardEnd();
  observer.ended();
  if (ends.length !== 1) throw new Error(`ended ${ends.length} times`);
  const tell = ({ protocol, method, status, grpcStatus }: HttpExchange): string =>
    `${protocol} ${method} ${status} ${grpcStatus ?? '-'}`;
  return { exchanges: exchanges.map(tell), end: ends[0] };
}
