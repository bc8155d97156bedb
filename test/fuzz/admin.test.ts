// The endpoints of a running node proxy (admin, metrics, readiness): whatever a request asks for, by whatever method, and
// whatever bytes come instead of one, the answer is short, is no failure of the proxy, and shows nothing of its code.
import assert from 'node:assert/strict';
import { spawn, type ChildProcess } from 'node:child_process';
import { once } from 'node:events';
import { mkdtempSync, readFileSync, rmSync, writeFileSync } from 'node:fs';
import { connect } from 'node:net';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { after, before, describe, it } from 'node:test';
import fc from 'fast-check';
import { systemClock } from '../../common/clock.ts';
import { createRoot } from '../../common/identity/ca.ts';
import { freePort } from '../support/free-port.ts';

const RUNS = { numRuns: 3000, seed: 20_261_123 };
const MAX_BODY_BYTES = 256 << 10;
const STACK = /\n\s+at |node:internal|\.ts:\d+/;
const STATE = {
  workloads: [
    { uid: 'a', name: 'hello', namespace: 'shop', workloadIps: ['10.0.0.1'], protocol: 'HBONE' },
    { uid: 'b', name: 'world', namespace: 'shop', workloadIps: ['10.0.0.2', 'fd00::2'] },
  ],
};
const METHODS = ['GET', 'GET', 'POST', 'HEAD', 'PUT', 'DELETE', 'OPTIONS', 'PATCH', 'TRACE'];
const PARAMETERS = ['src', 'dst', 'top', 'sort', 'pod', 'level', 'reset', 'thread', 'frequency'];
const WORDS = [
  ...['10.0.0.1', '10.0.0.1:80', '[fd00::2]:80', '[fd00::2', 'shop/hello', 'shop/world:80', '/:0'],
  ...[
    'info',
    'proxy=debug',
    'a=trace,b=off',
    '=info',
    'bytes',
    '-1',
    '1e9',
    '99999999999999999999',
  ],
  ...['true', 'data', 'data-9999', 'control', '__proto__', 'constructor', '%00', '%', '%zz', ''],
];

interface Answer {
  readonly status: number;
  readonly head: string;
  readonly body: string;
}

const dir = mkdtempSync(join(tmpdir(), 'ztunnel-fuzz-'));
const ports = { admin: 0, stats: 0, readiness: 0 };
let proxy: ChildProcess;
let log = '';
let paths: string[] = [];

/** Sends bytes as a request of its own connection; undefined when it ends without an answer. */
async function send(port: number, bytes: Buffer): Promise<Answer | undefined> {
  const socket = connect({ host: '127.0.0.1', port, allowHalfOpen: true });
  const chunks: Buffer[] = [];
  socket.on('data', (chunk) => chunks.push(chunk));
  socket.on('error', () => undefined);
  socket.setTimeout(10_000, () => assert.fail(`no answer to ${JSON.stringify(bytes.toString())}`));
  socket.end(bytes);
  await new Promise((resolve) => socket.once('close', resolve));
  const text = Buffer.concat(chunks).toString('latin1');
  const at = text.indexOf('\r\n\r\n');
  if (at < 0) return undefined;
  const head = text.slice(0, at);
  const body = text.slice(at + 4);
  return {
    status: Number(/^HTTP\/1\.1 (\d{3}) /.exec(text)?.[1]),
    head,
    body: /^transfer-encoding: chunked$/im.test(head) ? dechunked(body) : body,
  };
}

function dechunked(text: string): string {
  let body = '';
  for (let at = 0; at < text.length;) {
    const size = Number.parseInt(text.slice(at), 16);
    const start = text.indexOf('\r\n', at) + 2;
    body += text.slice(start, start + size);
    at = start + size + 2;
  }
  return body;
}

function request(method: string, target: string): Buffer {
  const head = `${method} ${target} HTTP/1.1\r\nhost: localhost\r\nconnection: close\r\n`;
  return Buffer.from(`${head}content-length: 0\r\n\r\n`, 'latin1');
}

function assertHarmless(answer: Answer | undefined, what: string): void {
  if (answer === undefined) return;
  const { status, head, body } = answer;
  // As Istio's; to HEAD without a body.
  const isInactive =
    status === 500 &&
    /^(heap profiling is not active\n)?$/.test(body) &&
    what.includes('/pprof/heap');
  assert.ok((status >= 200 && status < 500) || isInactive, `${what}: ${status} ${body}`);
  assert.ok(body.length < MAX_BODY_BYTES, `${what}: ${body.length} bytes`);
  assert.doesNotMatch(head + body, STACK, what);
}

const value = fc.oneof(
  fc.constantFrom(...WORDS),
  fc.string({ maxLength: 30 }).map(encodeURIComponent),
  fc.string({ unit: 'binary', maxLength: 30 }).map((text) => encodeURI(text.toWellFormed())),
  fc
    .constantFrom('a', 'x=info,', '%2C', '/')
    .chain((unit) => fc.integer({ min: 0, max: 2000 }).map((count) => unit.repeat(count))),
);
const query = fc
  .array(fc.tuple(fc.constantFrom(...PARAMETERS, 'x', '__proto__'), value), { maxLength: 5 })
  .map((pairs) => pairs.map(([name, text]) => `${name}=${text}`).join('&'));
/** What Node's client would not send, and its server takes. */
const visible = fc
  .array(fc.integer({ min: 0x21, max: 0x7e }), { maxLength: 40 })
  .map((codes) => String.fromCharCode(...codes));

/** A known path, one like it, or any. */
const path = fc.oneof(
  { weight: 6, arbitrary: fc.nat().map((at) => paths[at % paths.length] ?? '/') },
  {
    weight: 2,
    arbitrary: fc
      .tuple(fc.nat(), fc.constantFrom('/', '//', '/..', '/%2e%2e', '%00', '#x', ';x', '\\', '.ts'))
      .map(([at, end]) => `${paths[at % paths.length] ?? '/'}${end}`),
  },
  {
    weight: 2,
    arbitrary: fc.constantFrom(
      '//',
      '*',
      'http://',
      'http://[',
      '//[::1',
      '/__proto__',
      '/%',
      '/a b',
    ),
  },
  { weight: 2, arbitrary: visible.map((text) => `/${text}`) },
);

/** Whether it would end the proxy, or record for a second or more. */
function isOrder(method: string, target: string): boolean {
  const end = /quitquitquit|drain/;
  const isEnd = method === 'POST' && end.test(target);
  // What follows a # is no query.
  return isEnd || (target.includes('pprof/profile') && !/^[^#]*frequency=-1/.test(target));
}

before(async () => {
  const { certPem, keyPem } = createRoot('test', systemClock);
  const rootFile = join(dir, 'root.pem');
  writeFileSync(rootFile, certPem + keyPem);
  for (const name of ['admin', 'stats', 'readiness'] as const) ports[name] = await freePort();
  proxy = spawn(process.execPath, ['ztunnel/main.ts'], {
    env: {
      PATH: process.env['PATH'],
      XDS_ADDRESS: '',
      LOCAL_XDS: JSON.stringify(STATE),
      FAKE_CA: 'true',
      FAKE_CA_ROOT: rootFile,
      INPOD_UDS: join(dir, 'zds.sock'),
      ADMIN_PORT: String(ports.admin),
      STATS_PORT: String(ports.stats),
      READINESS_PORT: String(ports.readiness),
    },
  });
  for (const stream of [proxy.stdout, proxy.stderr]) {
    stream?.on('data', (chunk: Buffer) => (log += chunk.toString()));
  }
  const deadline = Date.now() + 20_000;
  let index: Answer | undefined;
  while (index === undefined) {
    assert.ok(Date.now() < deadline && proxy.exitCode === null, log);
    index = await send(ports.admin, request('GET', '/'));
    await new Promise((resolve) => setTimeout(resolve, 20));
  }
  paths = ['/', ...[...index.body.matchAll(/href="([^"]+)"/g)].map(([, name = '']) => `/${name}`)];
});

after(async () => {
  if (proxy.exitCode === null) {
    proxy.kill('SIGKILL');
    await once(proxy, 'exit');
  }
  rmSync(dir, { recursive: true, force: true });
});

const residentKb = (): number =>
  Number(/VmRSS:\s+(\d+)/.exec(readFileSync(`/proc/${proxy.pid ?? 0}/status`, 'utf8'))?.[1]);

describe('admin, metrics and readiness', () => {
  it('any path, query and method is answered, shortly, and never by a failure', async () => {
    assert.ok(paths.includes('/debug/why') && paths.includes('/connections'), paths.join(' '));
    await fc.assert(
      fc.asyncProperty(
        fc.constantFrom(...METHODS),
        path,
        query,
        fc.constantFrom<keyof typeof ports>('admin', 'admin', 'admin', 'stats', 'readiness'),
        async (method, at, asked, port) => {
          const isProfile = at.includes('pprof/profile');
          const target = `${at}?${isProfile ? `frequency=-1&${asked}` : asked}`;
          if (isOrder(method, target)) return;
          const answer = await send(ports[port], request(method, target));
          if (port === 'readiness' && answer?.body.startsWith('not ready')) return;
          assertHarmless(answer, `${port} ${method} ${target}`);
        },
      ),
      RUNS,
    );
  });

  it('any bytes instead of a request are refused, or end the connection', async () => {
    const line = fc
      .tuple(fc.constantFrom('GET ', 'POST ', ''), fc.uint8Array({ maxLength: 200 }))
      .map(([start, bytes]) => Buffer.concat([Buffer.from(start), bytes, Buffer.from('\r\n\r\n')]));
    await fc.assert(
      fc.asyncProperty(line, async (bytes) => {
        assertHarmless(await send(ports.admin, bytes), bytes.toString('hex'));
      }),
      { ...RUNS, numRuns: 300 },
    );
  });

  it('levels for ever more scopes are refused: the list of them stays short', async () => {
    let last: Answer | undefined;
    for (let round = 0; round < 60; round++) {
      const scopes = Array.from({ length: 200 }, (_none, at) => `s${round}x${at}=debug`).join(',');
      last = await send(ports.admin, request('POST', `/logging?level=${scopes}`));
      assertHarmless(last, `round ${round}`);
    }
    assert.equal(last?.status, 400);
    const shown = await send(ports.admin, request('POST', '/logging'));
    assert.ok((shown?.body.length ?? 0) < 8192, `${shown?.body.length} bytes`);
    const reset = await send(ports.admin, request('POST', '/logging?reset'));
    assert.equal(reset?.body, 'current log level is info\n');
  });

  it('the proxy is as it was: it runs, answers, and has written no trace of a failure', async () => {
    assert.equal(proxy.exitCode, null, log);
    const dump = await send(ports.admin, request('GET', '/config_dump'));
    assert.match(dump?.body ?? '', /"hello"/);
    assert.doesNotMatch(log, STACK);
    assert.ok(residentKb() < 250_000, `${residentKb()} KB`);
  });
});
