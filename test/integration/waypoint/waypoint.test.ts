// A waypoint process with real peers on both sides: node:http2 as the source's node proxy, node:http, node:http2 and
// node:net as endpoints. Endpoints are plain TCP here; tunnels to endpoints are covered by the cluster tests.
import assert from 'node:assert/strict';
import { createHash, randomBytes } from 'node:crypto';
import { once } from 'node:events';
import { createServer } from 'node:http';
import type { IncomingMessage, Server, ServerResponse } from 'node:http';
import { connect as connectHttp2, createServer as createHttp2Server } from 'node:http2';
import type { ClientHttp2Session, ServerHttp2Stream } from 'node:http2';
import { createServer as createTcpServer } from 'node:net';
import type { AddressInfo, Server as TcpServer, Socket } from 'node:net';
import type { Duplex } from 'node:stream';
import { after, before, describe, it } from 'node:test';
import { requestOver, VIP, WaypointFixture } from '../../support/waypoint-fixture.ts';

const HOST = 'web.demo.svc.cluster.local';
const KEY = `demo/${HOST}`;
const cluster = (name: string, port: number, more: object = {}): object => ({
  name,
  namespace: 'demo',
  hostname: HOST,
  servicePort: port,
  ...more,
});
const to = (name: string, more: object = {}): object => ({
  clusters: [{ cluster: name, weight: 1 }],
  ...more,
});
const path = (kind: object): object[] => [{ path: kind }];

let web: Server;
let h2: ReturnType<typeof createHttp2Server>;
let echo: TcpServer;
let waypoint: WaypointFixture;
let flaky = 0;
const seen: IncomingMessage[] = [];
const held: Socket[] = [];

function portOf(server: { address(): AddressInfo | string | null }): number {
  return (server.address() as AddressInfo).port;
}

function handle(request: IncomingMessage, response: ServerResponse): void {
  seen.push(request);
  const url = request.url ?? '';
  const chunks: Buffer[] = [];
  request.on('data', (chunk: Buffer) => chunks.push(chunk));
  request.on('end', () => {
    const body = Buffer.concat(chunks);
    if (url.startsWith('/flaky')) {
      flaky++;
      response.statusCode = flaky % 3 === 0 ? 200 : 503;
      response.end(body);
    } else if (url.startsWith('/close')) request.socket.destroy();
    else if (url.startsWith('/never')) return;
    else if (url.startsWith('/none')) response.writeHead(204).end();
    else if (url.startsWith('/big')) response.end(Buffer.alloc(8 << 20, 7));
    else if (url.startsWith('/trailers')) {
      response.writeHead(200, { trailer: 'x-sum' });
      response.write('part');
      response.addTrailers({ 'x-sum': '42' });
      response.end();
    } else if (url.startsWith('/cut')) {
      response.writeHead(200, { 'content-length': '100' });
      response.write('short', () => request.socket.destroy());
    } else {
      response.setHeader('x-url', url);
      response.setHeader('x-host', request.headers.host ?? '');
      response.setHeader('x-added', request.headers['x-new'] ?? '');
      response.end(body);
    }
  });
}

before(async () => {
  web = createServer({ keepAliveTimeout: 300 }, handle);
  web.on('upgrade', (_request, socket) => {
    socket.on('error', () => undefined);
    socket.write(
      'HTTP/1.1 101 Switching Protocols\r\nupgrade: echo\r\nconnection: upgrade\r\n\r\n',
    );
    socket.pipe(socket);
  });
  h2 = createHttp2Server();
  h2.on('stream', (stream: ServerHttp2Stream) => {
    stream.respond(
      { ':status': 200, 'content-type': 'application/grpc' },
      { waitForTrailers: true },
    );
    stream.on('wantTrailers', () => stream.sendTrailers({ 'grpc-status': '0' }));
    stream.pipe(stream);
  });
  echo = createTcpServer({ allowHalfOpen: true }, (socket) => {
    held.push(socket);
    socket.on('error', () => undefined);
    socket.write('hello ');
    socket.pipe(socket);
  });
  for (const server of [web, h2, echo]) {
    server.listen(0, '127.0.0.1');
    await once(server, 'listening');
  }
  const dead = createTcpServer();
  dead.listen(0, '127.0.0.1');
  await once(dead, 'listening');
  const deadPort = portOf(dead);
  dead.close();
  waypoint = await WaypointFixture.start({
    env: { REQUEST_HEADERS_TIMEOUT: '600ms', DRAIN_DELAY: '300ms' },
    workloads: {
      workloads: [
        {
          uid: 'web-1',
          name: 'web-1',
          workloadName: 'web',
          namespace: 'demo',
          workloadIps: ['127.0.0.1'],
          services: {
            [KEY]: {
              80: portOf(web),
              81: portOf(h2),
              82: portOf(echo),
              83: portOf(web),
              84: deadPort,
              85: portOf(web),
            },
          },
        },
      ],
      services: [
        {
          name: 'web',
          namespace: 'demo',
          hostname: HOST,
          vips: [`/${VIP}`],
          ports: { 80: 1, 81: 1, 82: 1, 83: 1, 84: 1, 85: 1, 86: 1 },
        },
        {
          name: 'other',
          namespace: 'demo',
          hostname: 'other.demo',
          vips: ['/10.96.8.8'],
          ports: { 80: 1 },
        },
      ],
    },
    l7: {
      clusters: [
        cluster('web', 80),
        cluster('grpc', 81, { http2: true }),
        cluster('tcp', 82),
        cluster('dead', 84),
        cluster('limited', 85, { maxRequests: 1 }),
        cluster('empty', 80, { hasMembers: true }),
      ],
      subsetMembers: [{ cluster: 'empty', workloadUids: ['nobody'] }],
      serviceRoutes: [
        {
          namespace: 'demo',
          hostname: HOST,
          name: 'web',
          ports: [
            { servicePort: 80, protocol: 'HTTP', routes: webRoutes() },
            { servicePort: 81, protocol: 'GRPC', routes: [{ name: 'grpc', forward: to('grpc') }] },
            { servicePort: 82, protocol: 'TCP', tcpClusters: [{ cluster: 'tcp', weight: 1 }] },
            {
              servicePort: 83,
              protocol: 'AUTO',
              routes: [{ name: 'auto', forward: to('web') }],
              tcpClusters: [{ cluster: 'tcp', weight: 1 }],
            },
            {
              servicePort: 85,
              protocol: 'HTTP',
              routes: [{ name: 'one', forward: to('limited') }],
            },
            { servicePort: 86, protocol: 'HTTP', routes: [] },
          ],
        },
      ],
      authorizationPolicies: [
        {
          namespace: 'demo',
          name: 'no-admin',
          action: 'DENY',
          services: [KEY],
          rules: [{ to: [{ paths: [{ prefix: '/admin' }], ports: [80, 81] }] }],
        },
        {
          namespace: 'demo',
          name: 'no-missing',
          action: 'DENY',
          services: [KEY],
          rules: [{ to: [{ ports: [86], paths: [{ exact: '/denied' }] }] }],
        },
      ],
    },
  });
});

function webRoutes(): object[] {
  return [
    {
      name: 'flaky',
      matches: path({ prefix: '/flaky' }),
      forward: to('web', { retry: { attempts: 3, retryOn: ['5xx'], backoffBaseMs: 1 } }),
    },
    {
      name: 'dead',
      matches: path({ exact: '/dead' }),
      forward: to('dead', {
        retry: { attempts: 1, retryOn: ['connect-failure'], backoffBaseMs: 1 },
      }),
    },
    { name: 'empty', matches: path({ exact: '/empty' }), forward: to('empty') },
    { name: 'gone', matches: path({ exact: '/gone' }), forward: to('gone') },
    { name: 'invalid', matches: path({ exact: '/invalid' }), forward: to('') },
    { name: 'never', matches: path({ prefix: '/never' }), forward: to('web', { timeoutMs: 150 }) },
    {
      name: 'split',
      matches: path({ prefix: '/split' }),
      forward: {
        clusters: [
          { cluster: 'web', weight: 90 },
          { cluster: '', weight: 10 },
        ],
      },
    },
    {
      name: 'fault',
      matches: path({ exact: '/fault' }),
      fault: { abortHttpStatus: 418, abortPercent: 100 },
      forward: to('web'),
    },
    {
      name: 'delay',
      matches: path({ exact: '/delay' }),
      fault: { delayMs: 120, delayPercent: 100 },
      forward: to('web'),
    },
    {
      name: 'redirect',
      matches: path({ exact: '/old' }),
      redirect: { code: 302, pathFull: '/new' },
    },
    {
      name: 'direct',
      matches: path({ exact: '/direct' }),
      directResponse: { status: 202, body: Buffer.from('made here').toString('base64') },
    },
    {
      name: 'rewrite',
      matches: path({ prefix: '/v1/' }),
      requestHeaders: { set: [{ name: 'x-new', value: 'yes' }], remove: ['x-old'] },
      responseHeaders: { add: [{ name: 'x-resp', value: 'added' }], remove: ['x-host'] },
      forward: to('web', { rewrite: { pathPrefix: '/v2/', authority: 'other' } }),
    },
    {
      name: 'get-only',
      matches: [{ path: { exact: '/get' }, method: { exact: 'GET' } }],
      forward: to('web'),
    },
    {
      name: 'rest',
      matches: [{ path: { prefix: '/' }, method: { regex: 'GET|POST|HEAD|PUT' } }],
      forward: to('web'),
    },
  ];
}

after(async () => {
  await waypoint.close();
  for (const socket of held) socket.destroy();
  web.closeAllConnections();
  web.close();
  h2.close();
  echo.close();
});

/** The access lines so far that name a path. */
async function accessLine(wanted: string): Promise<Record<string, unknown>> {
  const deadline = Date.now() + 3000;
  while (Date.now() < deadline) {
    for (const line of waypoint.output.split('\n')) {
      if (line.includes('"scope":"access"') && line.includes(wanted)) {
        return JSON.parse(line) as Record<string, unknown>;
      }
    }
    await new Promise((resolve) => setTimeout(resolve, 20));
  }
  throw new Error(`no access line for ${wanted}`);
}

describe('waypoint: failures', () => {
  const rows: [name: string, request: string, status: number, flags: string, body: string][] = [
    ['a denied path', '/admin/x', 403, '-', 'RBAC: access denied'],
    ['a denied path behind dot segments', '/a/../admin', 403, '-', 'RBAC: access denied'],
    ['a denied path behind percent encoding', '/%61dmin', 403, '-', 'RBAC: access denied'],
    ['a path that leaves the root', '/../x', 400, '-', 'bad path'],
    ['no endpoint', '/empty', 503, 'UH', 'no healthy upstream'],
    ['a refused connection', '/dead', 503, 'UF,URX', ''],
    ['a cluster that is not known', '/gone', 503, 'NC', ''],
    ['an invalid backend', '/invalid', 500, '-', ''],
    ['an upstream that does not answer in time', '/never', 504, 'UT', 'upstream request timeout'],
    ['an upstream that closes', '/close', 503, 'UC', ''],
    ['an injected fault', '/fault', 418, 'FI', 'fault filter abort'],
  ];
  for (const [name, target, status, flags, body] of rows) {
    it(`answers ${status} for ${name}`, async () => {
      const response = await waypoint.request({ path: target });
      assert.equal(response.status, status);
      assert.equal(response.headers['server'], 'istio-envoy');
      if (body !== '') assert.equal(response.body.toString(), body);
      const line = await accessLine(`"path":"${target}"`);
      assert.equal(line['response_code'], status);
      assert.deepEqual(
        new Set(String(line['response_flags']).split(',')),
        new Set(flags.split(',')),
      );
    });
  }

  it('answers 404 without a route, but 403 first where a policy denies', async () => {
    assert.equal((await waypoint.request({ path: '/x', authority: `${VIP}:86` })).status, 404);
    assert.equal((await waypoint.request({ path: '/denied', authority: `${VIP}:86` })).status, 403);
    assert.equal((await waypoint.request({ path: '/x', method: 'DELETE' })).status, 404);
  });

  it('refuses tunnels to what is not bound to it', async () => {
    for (const authority of ['10.96.8.8:80', '127.0.0.1:80', '10.1.1.1:80', `${VIP}:99`]) {
      assert.equal((await waypoint.tunnel(authority)).status, 404, authority);
    }
    assert.equal((await waypoint.tunnel('nonsense')).status, 400);
  });

  it('resets a response that the upstream cut short', async () => {
    const { stream } = await waypoint.tunnel();
    await assert.rejects(requestOver(stream, { path: '/cut' }));
    assert.equal((await accessLine('"path":"/cut"'))['response_flags'], 'UC');
  });

  it('answers gRPC callers with a gRPC status', async () => {
    const response = await waypoint.request({
      path: '/admin',
      method: 'POST',
      headers: { 'content-type': 'application/grpc' },
    });
    assert.equal(response.status, 200);
    assert.equal(response.headers['grpc-status'], '7');
    assert.equal(response.headers['grpc-message'], 'RBAC: access denied');
  });

  it('overflows when the circuit breaker is full', async () => {
    const { stream } = await waypoint.tunnel(`${VIP}:85`);
    const waiting = requestOver(stream, { path: '/never' }).catch(() => undefined);
    const deadline = Date.now() + 3000;
    while (!seen.some(({ url }) => url === '/never') && Date.now() < deadline) {
      await new Promise((resolve) => setTimeout(resolve, 10));
    }
    const response = await waypoint.request({ path: '/over', authority: `${VIP}:85` });
    assert.equal(response.status, 503);
    stream.destroy();
    await waiting;
    assert.equal((await accessLine('"path":"/over"'))['response_flags'], 'UO');
  });
});

describe('waypoint: HTTP/1.1', () => {
  it('keeps one tunnel alive for many requests and reuses upstream connections', async () => {
    const { stream } = await waypoint.tunnel();
    const sockets = new Set<number | undefined>();
    for (let i = 0; i < 20; i++) {
      const response = await requestOver(
        stream,
        { path: `/keep/${i}`, method: 'POST' },
        `body ${i}`,
      );
      assert.equal(response.body.toString(), `body ${i}`);
      sockets.add(seen.at(-1)?.socket.remotePort);
    }
    assert.equal(sockets.size, 1);
  });

  it('survives upstreams that close idle connections', async () => {
    const { stream } = await waypoint.tunnel();
    for (let i = 0; i < 3; i++) {
      assert.equal((await requestOver(stream, { path: '/idle' })).status, 200);
      await new Promise((resolve) => setTimeout(resolve, 300 + i * 2));
    }
  });

  it('answers pipelined requests in order', async () => {
    const { stream } = await waypoint.tunnel();
    let text = '';
    const done = new Promise<void>((resolve) => {
      stream.on('data', (chunk: Buffer) => {
        text += chunk.toString('latin1');
        if ((text.match(/HTTP\/1\.1 200/g) ?? []).length === 5 && text.endsWith('\r\n\r\n'))
          resolve();
      });
    });
    stream.write([1, 2, 3, 4, 5].map((n) => `GET /p${n} HTTP/1.1\r\nhost: web\r\n\r\n`).join(''));
    await done;
    assert.deepEqual(
      [...text.matchAll(/x-url: (\S+)/g)].map((match) => match[1]),
      ['/p1', '/p2', '/p3', '/p4', '/p5'],
    );
  });

  it('passes chunked bodies and trailers', async () => {
    const response = await waypoint.request({ path: '/trailers' });
    assert.equal(response.body.toString(), 'part');
    assert.equal(response.trailers['x-sum'], '42');
    const posted = await waypoint.request(
      { path: '/x', method: 'POST', headers: { 'transfer-encoding': 'chunked' } },
      'in chunks',
    );
    assert.equal(posted.body.toString(), 'in chunks');
  });

  it('has no body for HEAD and 204', async () => {
    const { stream } = await waypoint.tunnel();
    assert.equal((await requestOver(stream, { path: '/x', method: 'HEAD' })).status, 200);
    assert.equal((await requestOver(stream, { path: '/none' })).status, 204);
    assert.equal((await requestOver(stream, { path: '/x' })).status, 200);
  });

  it('moves large bodies both ways unchanged', async () => {
    const body = randomBytes(12 << 20);
    const response = await waypoint.request({ path: '/large', method: 'POST' }, body);
    assert.equal(sha(response.body), sha(body));
    assert.equal((await waypoint.request({ path: '/big' })).body.length, 8 << 20);
  });

  it('keeps a slow reader from filling memory', async () => {
    const { stream } = await waypoint.tunnel();
    stream.pause();
    stream.write('GET /big HTTP/1.1\r\nhost: web\r\nconnection: close\r\n\r\n');
    await new Promise((resolve) => setTimeout(resolve, 200));
    let bytes = 0;
    for await (const chunk of stream) bytes += (chunk as Buffer).length;
    assert.ok(bytes > 8 << 20);
  });

  it('answers Expect: 100-continue itself', async () => {
    const { stream } = await waypoint.tunnel();
    stream.write(
      'POST /x HTTP/1.1\r\nhost: web\r\ncontent-length: 2\r\nexpect: 100-continue\r\n\r\n',
    );
    const [first] = (await once(stream, 'data')) as [Buffer];
    assert.match(first.toString(), /^HTTP\/1\.1 100 Continue\r\n\r\n/);
    stream.write('ok');
    const [second] = (await once(stream, 'data')) as [Buffer];
    assert.match(second.toString(), /^HTTP\/1\.1 200 OK/);
  });

  it('passes an upgrade through', async () => {
    const { stream } = await waypoint.tunnel();
    stream.write('GET /ws HTTP/1.1\r\nhost: web\r\nconnection: Upgrade\r\nupgrade: echo\r\n\r\n');
    const [head] = (await once(stream, 'data')) as [Buffer];
    assert.match(head.toString(), /^HTTP\/1\.1 101 /);
    assert.match(head.toString(), /upgrade: echo/i);
    stream.write('ping');
    const [pong] = (await once(stream, 'data')) as [Buffer];
    assert.equal(pong.toString(), 'ping');
    stream.destroy();
  });

  it('serves HTTP/1.0, without chunks, closing or not as asked', async () => {
    const { stream } = await waypoint.tunnel();
    stream.write('GET /x HTTP/1.0\r\nconnection: keep-alive\r\n\r\n');
    const [kept] = (await once(stream, 'data')) as [Buffer];
    assert.match(kept.toString(), /connection: keep-alive/);
    stream.write('GET /trailers HTTP/1.0\r\n\r\n');
    let text = '';
    for await (const chunk of stream) text += String(chunk);
    assert.match(text, /connection: close\r\n/);
    assert.ok(text.endsWith('\r\n\r\npart'));
  });

  it('answers 408 to a head that stalls, also on a connection that has served before', async () => {
    const { stream } = await waypoint.tunnel();
    assert.equal((await requestOver(stream, { path: '/first' })).status, 200);
    stream.write('GET /second HTTP/1.1\r\nhost: ');
    let answer = '';
    for await (const chunk of stream) answer += String(chunk);
    assert.match(answer, /^HTTP\/1\.1 408 /);
  });

  const bad: [name: string, text: string, status: number][] = [
    [
      'length and chunks',
      'POST / HTTP/1.1\r\nhost: a\r\ncontent-length: 3\r\ntransfer-encoding: chunked\r\n\r\n',
      400,
    ],
    ['two hosts', 'GET / HTTP/1.1\r\nhost: a\r\nhost: b\r\n\r\n', 400],
    ['no host', 'GET / HTTP/1.1\r\n\r\n', 400],
    ['a space before the colon', 'GET / HTTP/1.1\r\nhost : a\r\n\r\n', 400],
    ['bare line feeds', 'GET / HTTP/1.1\nhost: a\n\n', 400],
    [
      'headers beyond 60 KiB',
      `GET / HTTP/1.1\r\nhost: a\r\nx: ${'y'.repeat(61 * 1024)}\r\n\r\n`,
      431,
    ],
    ['more than 100 headers', `GET / HTTP/1.1\r\nhost: a\r\n${'x: y\r\n'.repeat(101)}\r\n`, 431],
  ];
  for (const [name, text, status] of bad) {
    it(`answers ${status} to ${name} and closes`, async () => {
      const { stream } = await waypoint.tunnel();
      stream.write(text);
      let answer = '';
      for await (const chunk of stream) answer += String(chunk);
      assert.match(answer, new RegExp(`^HTTP/1\\.1 ${status} `));
    });
  }
});

describe('waypoint: routes', () => {
  it('rewrites the prefix and the authority, and edits headers', async () => {
    const response = await waypoint.request({ path: '/v1/a?b=c', headers: { 'x-old': '1' } });
    assert.equal(response.headers['x-url'], '/v2/a?b=c');
    assert.equal(response.headers['x-added'], 'yes');
    assert.equal(response.headers['x-resp'], 'added');
    assert.equal(response.headers['x-host'], undefined);
    assert.equal(seen.at(-1)?.headers.host, 'other');
    assert.equal(seen.at(-1)?.headers['x-old'], undefined);
  });

  it('redirects and answers directly', async () => {
    const moved = await waypoint.request({ path: '/old?q=1', headers: { host: 'web.demo' } });
    assert.equal(moved.status, 302);
    assert.equal(moved.headers.location, 'http://web.demo/new?q=1');
    const direct = await waypoint.request({ path: '/direct' });
    assert.equal(direct.status, 202);
    assert.equal(direct.body.toString(), 'made here');
  });

  it('retries until the upstream is well', async () => {
    flaky = 0;
    const response = await waypoint.request({ path: '/flaky', method: 'POST' }, 'kept');
    assert.equal(response.status, 200);
    assert.equal(response.body.toString(), 'kept');
    assert.equal(flaky, 3);
  });

  it('delays by a fault', async () => {
    const start = Date.now();
    assert.equal((await waypoint.request({ path: '/delay' })).status, 200);
    assert.ok(Date.now() - start >= 110);
    assert.equal((await accessLine('"path":"/delay"'))['response_flags'], 'DI');
  });

  it('splits by weight within statistical error', async () => {
    const { stream } = await waypoint.tunnel();
    let first = 0;
    const total = 600;
    for (let i = 0; i < total; i++) {
      if ((await requestOver(stream, { path: '/split' })).status === 200) first++;
    }
    // Five standard deviations of a binomial with p = 0.9.
    const deviation = Math.sqrt(total * 0.9 * 0.1);
    assert.ok(Math.abs(first - total * 0.9) < 5 * deviation, `${first} of ${total}`);
  });

  it('generates a request id, passes trace headers, and drops forged client certificates', async () => {
    await waypoint.request({
      path: '/trace',
      headers: {
        traceparent: '00-1-2-01',
        'x-b3-traceid': 'abc',
        'x-forwarded-client-cert': 'URI=x',
      },
    });
    const headers = seen.at(-1)?.headers ?? {};
    assert.match(String(headers['x-request-id']), /^[0-9a-f-]{36}$/);
    assert.equal(headers['traceparent'], '00-1-2-01');
    assert.equal(headers['x-b3-traceid'], 'abc');
    assert.equal(headers['x-forwarded-client-cert'], undefined);
  });
});

function sha(bytes: Buffer): string {
  return createHash('sha256').update(bytes).digest('hex');
}

async function http2Over(port: number): Promise<ClientHttp2Session> {
  const { stream } = await waypoint.tunnel(`${VIP}:${port}`);
  const session = connectHttp2('http://web', { createConnection: () => stream });
  session.on('error', () => undefined);
  return session;
}

async function http2Request(
  session: ClientHttp2Session,
  headers: Record<string, string>,
  body?: Buffer,
): Promise<{ status: unknown; body: Buffer; trailers: Record<string, unknown> }> {
  const stream = session.request(headers, { endStream: body === undefined });
  let trailers: Record<string, unknown> = {};
  stream.on('trailers', (list: Record<string, unknown>) => {
    trailers = list;
  });
  // Listeners first: a short response may be over before `response` has been awaited.
  const chunks: Buffer[] = [];
  stream.on('data', (chunk: Buffer) => chunks.push(chunk));
  const ended = once(stream, 'end');
  const answered = once(stream, 'response');
  if (body !== undefined) stream.end(body);
  const [response] = (await answered) as [Record<string, unknown>];
  await ended;
  return { status: response[':status'], body: Buffer.concat(chunks), trailers };
}

describe('waypoint: HTTP/2', () => {
  it('carries streams, large messages and trailers to an HTTP/2 upstream', async () => {
    const session = await http2Over(81);
    const body = randomBytes(3 << 20);
    const answers = await Promise.all(
      [1, 2, 3, 4].map((n) =>
        http2Request(
          session,
          {
            ':method': 'POST',
            ':path': `/pkg.Svc/M${n}`,
            'content-type': 'application/grpc',
            te: 'trailers',
          },
          body,
        ),
      ),
    );
    for (const answer of answers) {
      assert.equal(answer.status, 200);
      assert.equal(sha(answer.body), sha(body));
      assert.equal(answer.trailers['grpc-status'], '0');
    }
    session.close();
    assert.match(
      await waypoint.metrics(),
      /request_protocol="grpc",response_code="200",grpc_response_status="0"/,
    );
  });

  it('talks HTTP/1.1 to the upstream of a port that is declared http', async () => {
    const session = await http2Over(80);
    const answer = await http2Request(
      session,
      { ':method': 'POST', ':path': '/h2' },
      Buffer.from('x'),
    );
    assert.equal(answer.body.toString(), 'x');
    assert.equal(seen.at(-1)?.httpVersion, '1.1');
    assert.equal((await http2Request(session, { ':path': '/admin' })).status, 403);
    session.close();
  });

  it('serves HTTP/1.1 callers of an HTTP/2 upstream', async () => {
    const response = await waypoint.request(
      { path: '/pkg.Svc/M', method: 'POST', authority: `${VIP}:81` },
      'abc',
    );
    assert.equal(response.body.toString(), 'abc');
    assert.equal(response.trailers['grpc-status'], '0');
  });
});

describe('waypoint: TCP', () => {
  const readAll = async (stream: Duplex): Promise<string> => {
    let text = '';
    for await (const chunk of stream) text += String(chunk);
    return text;
  };

  it('relays with half-close both ways', async () => {
    const { stream } = await waypoint.tunnel(`${VIP}:82`);
    stream.end('over tcp');
    assert.equal(await readAll(stream), 'hello over tcp');
    assert.match(
      await waypoint.metrics(),
      /istio_tcp_connections_opened_total\{reporter="waypoint"/,
    );
  });

  it('detects HTTP, and falls back to TCP for bytes that are not and for servers that speak first', async () => {
    const http = await waypoint.request({ path: '/auto', authority: `${VIP}:83` });
    assert.equal(http.headers['x-url'], '/auto');
    const { stream } = await waypoint.tunnel(`${VIP}:83`);
    stream.end('\u0000\u0001raw');
    assert.equal(await readAll(stream), 'hello \u0000\u0001raw');
    const quiet = await waypoint.tunnel(`${VIP}:83`);
    const [greeting] = (await once(quiet.stream, 'data')) as [Buffer];
    assert.equal(greeting.toString(), 'hello ');
    quiet.stream.destroy();
  });
});

describe('waypoint: life', () => {
  it('dumps its configuration without secrets', async () => {
    const { get } = await import('../../support/waypoint-fixture.ts');
    const dump = (await get(waypoint.ports.admin, '/config_dump')).body.toString();
    assert.match(dump, /outbound|web\.demo/);
    assert.doesNotMatch(dump, /PRIVATE KEY/);
  });

  it('drains on SIGTERM: not ready, serves who has not heard yet, finishes, ends with 0', async () => {
    const { get } = await import('../../support/waypoint-fixture.ts');
    /** One request by hand on a connection that is kept; the answer's head. */
    const ask = async (stream: Duplex): Promise<string> => {
      stream.write(`GET /none HTTP/1.1\r\nhost: ${HOST}\r\n\r\n`);
      const [head] = (await once(stream, 'data')) as [Buffer];
      return head.toString();
    };
    const session = waypoint.session();
    const kept = (await waypoint.tunnel(undefined, session)).stream;
    assert.doesNotMatch(await ask(kept), /connection: close/);
    const { stream } = await waypoint.tunnel();
    const running = requestOver(stream, { path: '/delay' });
    await new Promise((resolve) => setTimeout(resolve, 30));
    const exited = once(waypoint.child, 'exit');
    const told = once(session, 'goaway');
    waypoint.child.kill('SIGTERM');
    assert.equal((await running).status, 200);
    assert.equal((await get(waypoint.ports.ready, '/healthz/ready')).status, 500);
    assert.equal((await waypoint.request({ path: '/none' })).status, 204);
    await told;
    // The client's CONNECT may have been on its way when the notice came.
    const late = (await waypoint.tunnel(undefined, session).catch(() => undefined))?.stream;
    assert.match(await ask(kept), /^HTTP\/1.1 204[^]*connection: close/);
    if (late !== undefined) assert.match(await ask(late), /connection: close/);
    const [code] = (await exited) as [number];
    assert.equal(code, 0);
  });
});
