// The admin, metrics and readiness endpoints over HTTP: paths, methods, answers and encodings of Istio's node proxy.
import assert from 'node:assert/strict';
import { get, request } from 'node:http';
import type { IncomingMessage } from 'node:http';
import { connect } from 'node:net';
import { after, before, describe, it } from 'node:test';
import { brotliDecompressSync, gunzipSync, inflateSync, zstdDecompressSync } from 'node:zlib';
import { createLoggerRoot } from '../../../common/telemetry/logger.ts';
import { openEndpoints } from '../../../common/telemetry/proxy-endpoints.ts';
import { parseSamples, sum } from '../../../common/telemetry/samples.ts';
import { SeriesReader, SeriesTable } from '../../../common/telemetry/series-table.ts';
import { freePort } from '../../support/free-port.ts';

interface Answer {
  readonly status: number;
  readonly headers: IncomingMessage['headers'];
  readonly body: Buffer;
}

const reader = new SeriesReader();
const table = new SeriesTable(
  [
    { name: 'istio_tcp_received_bytes', help: 'Bytes.', type: 'counter' },
    { name: 'unused', help: 'Never counted.', type: 'counter' },
  ],
  (message) => reader.apply(message),
);
const loggers = createLoggerRoot({
  level: 'info',
  sink: { write: () => undefined, flush: () => undefined },
});
const state = { pending: ['state manager'] as string[], quits: 0, scrapes: 0 };
const ports = { admin: 0, stats: 0, readiness: 0 };
let endpoints: { close(): Promise<void> };

function ask(
  port: number,
  path: string,
  options: { method?: string; headers?: Record<string, string>; host?: string } = {},
): Promise<Answer> {
  const { host = '127.0.0.1', ...rest } = options;
  return new Promise((resolve, reject) => {
    const sent = request({ host, port, path, agent: false, ...rest }, (response) => {
      const chunks: Buffer[] = [];
      response.on('data', (chunk: Buffer) => chunks.push(chunk));
      response.on('error', reject);
      response.on('end', () =>
        resolve({
          status: response.statusCode ?? 0,
          headers: response.headers,
          body: Buffer.concat(chunks),
        }),
      );
    });
    sent.on('error', reject);
    sent.end();
  });
}

before(async () => {
  for (let i = 0; i < 2000; i++) table.add(table.cell('istio_tcp_received_bytes', `n="${i}"`), i);
  for (const name of ['admin', 'stats', 'readiness'] as const) ports[name] = await freePort();
  endpoints = await openEndpoints({
    program: 'ztunnel',
    host: '127.0.0.1',
    config: {
      adminPort: ports.admin,
      statsPort: ports.stats,
      readinessPort: ports.readiness,
      logLevel: 'warn,access=info',
    },
    readers: [reader],
    beforeScrape: () => {
      state.scrapes++;
    },
    configDump: () =>
      Promise.resolve({
        workloads: (function* () {
          for (let i = 0; i < 3000; i++) yield { uid: `w${i}`, ips: [] };
        })(),
        policies: (function* () {})(),
        config: { a: 1, b: { c: 'd\n' } },
        nothing: undefined,
      }),
    pending: () => state.pending,
    describeLevels: () => loggers.describeLevels(),
    setLevels: (levels, isReset) => loggers.setLevels(levels, isReset),
    quit: () => {
      state.quits++;
    },
    routes: {
      '/broken': { help: 'throws', handle: () => Promise.reject(new Error('it broke')) },
    },
  });
});

after(() => endpoints.close());

describe('metrics endpoint', () => {
  it('has the paths of Istio, and no other', async () => {
    assert.equal((await ask(ports.stats, '/metrics')).status, 200);
    assert.equal((await ask(ports.stats, '/stats/prometheus')).status, 200);
    for (const path of ['/', '/metrics/', '/toString', '/config_dump']) {
      assert.equal((await ask(ports.stats, path)).status, 404, path);
    }
  });

  it('says OpenMetrics to those who accept it; the body is the same and ends with # EOF', async () => {
    const plain = await ask(ports.stats, '/metrics');
    const open = await ask(ports.stats, '/metrics', {
      headers: { accept: 'application/openmetrics-text;version=1.0.0,text/plain;q=0.5' },
    });
    assert.equal(plain.headers['content-type'], 'text/plain; charset=utf-8');
    assert.equal(
      open.headers['content-type'],
      'application/openmetrics-text;charset=utf-8;version=1.0.0',
    );
    for (const { body } of [plain, open]) {
      assert.match(body.toString(), /\n# EOF\n$/);
      assert.equal(body.toString().match(/# EOF/g)?.length, 1);
      assert.doesNotMatch(body.toString(), /unused/);
      assert.match(body.toString(), /^# HELP istio_tcp_received_bytes Bytes\.$/m);
      assert.match(body.toString(), /^# TYPE istio_tcp_received_bytes counter$/m);
      assert.match(body.toString(), /^process_open_fds \d+$/m);
      assert.match(body.toString(), /^process_max_fds \d+$/m);
      assert.equal(sum(parseSamples(body.toString()), 'istio_tcp_received_bytes_total'), 1999000);
    }
    assert.ok(state.scrapes >= 2);
  });

  const decoders = {
    gzip: gunzipSync,
    br: brotliDecompressSync,
    zstd: zstdDecompressSync,
    deflate: inflateSync,
  };
  for (const [encoding, decode] of Object.entries(decoders)) {
    it(`compresses by ${encoding}`, async () => {
      const { headers, body } = await ask(ports.stats, '/metrics', {
        headers: { 'accept-encoding': encoding },
      });
      assert.equal(headers['content-encoding'], encoding);
      assert.match(decode(body).toString(), /n="1999"\} 1999\n/);
      assert.ok(body.length < 30_000, String(body.length));
    });
  }

  it('minds preferences, and refusals', async () => {
    const encodingFor = async (accept: string): Promise<string | undefined> =>
      (await ask(ports.stats, '/metrics', { headers: { 'accept-encoding': accept } })).headers[
        'content-encoding'
      ];
    assert.equal(await encodingFor('gzip;q=0.5, br;q=0.9'), 'br');
    assert.equal(await encodingFor('gzip;q=0, identity'), undefined);
    assert.equal(await encodingFor('*'), 'zstd');
    assert.equal(await encodingFor('snappy'), undefined);
  });

  it('a client that leaves in the middle harms nobody', async () => {
    await new Promise<void>((resolve) => {
      const sent = get({ port: ports.stats, host: '127.0.0.1', path: '/metrics' }, (response) => {
        response.once('data', () => {
          sent.destroy();
          resolve();
        });
      });
      sent.on('error', () => undefined);
    });
    assert.equal((await ask(ports.stats, '/metrics')).status, 200);
  });
});

describe('admin endpoint', () => {
  it('lists what it can do', async () => {
    const { status, headers, body } = await ask(ports.admin, '/');
    assert.equal(status, 200);
    assert.equal(headers['content-type'], 'text/html; charset=utf-8');
    for (const path of ['config_dump', 'logging', 'quitquitquit', 'broken']) {
      assert.match(body.toString(), new RegExp(`href="${path}"`));
    }
  });

  it('listens on both addresses of localhost, and only there', async () => {
    assert.equal((await ask(ports.admin, '/', { host: '::1' })).status, 200);
    await assert.rejects(ask(ports.admin, '/', { host: '127.0.0.2' }), { code: 'ECONNREFUSED' });
  });

  it('streams a large dump as one JSON document', async () => {
    const { headers, body } = await ask(ports.admin, '/config_dump');
    assert.equal(headers['content-type'], 'application/json');
    const dump = JSON.parse(body.toString()) as Record<string, unknown[]>;
    assert.equal(dump['workloads']?.length, 3000);
    assert.deepEqual(Object.keys(dump), ['workloads', 'policies', 'config']);
    assert.deepEqual(dump['policies'], []);
    assert.deepEqual(dump['config'], { a: 1, b: { c: 'd\n' } });
    assert.equal(`${JSON.stringify(dump, undefined, 2)}\n`, body.toString());
  });

  it('logging shows, changes, refuses and resets levels', async () => {
    const post = (query: string): Promise<Answer> =>
      ask(ports.admin, `/logging${query}`, { method: 'POST' });
    const say = async (query: string): Promise<string> => (await post(query)).body.toString();
    assert.equal(await say(''), 'current log level is info\n');
    assert.equal(await say('?level=debug'), 'current log level is debug\n');
    assert.equal(
      await say('?level=ztunnel::proxy=trace,access=off'),
      'current log level is proxy=trace,access=off,debug\n',
    );
    const bad = await post('?level=loud');
    assert.equal(bad.status, 400);
    assert.match(bad.body.toString(), /usage: POST \/logging/);
    assert.equal(await say('?reset'), 'current log level is access=info,warn\n');
    assert.equal(await say('?reset&level=error'), 'current log level is access=info,error\n');
    assert.equal((await ask(ports.admin, '/logging?level=info')).status, 405);
    assert.equal(loggers.describeLevels(), 'access=info,error');
  });

  it('quits by POST only', async () => {
    assert.equal((await ask(ports.admin, '/quitquitquit')).status, 405);
    assert.equal(state.quits, 0);
    const { status, body } = await ask(ports.admin, '/quitquitquit', { method: 'POST' });
    assert.deepEqual([status, body.toString(), state.quits], [200, 'shutdown now\n', 1]);
  });

  it('answers 500 with the text when a handler fails, 404 for what is not there', async () => {
    const { status, body } = await ask(ports.admin, '/broken');
    assert.deepEqual([status, body.toString()], [500, 'it broke\n']);
    assert.equal((await ask(ports.admin, '/nothing')).status, 404);
  });
});

describe('every endpoint', () => {
  it('waits some seconds for the head of a request, and takes 8 KiB of it', async () => {
    const slow = [ports.admin, ports.stats, ports.readiness].map(async (port) => {
      const socket = connect(port, '127.0.0.1');
      const startedMs = Date.now();
      socket.write('GET / HTTP/1.1\r\n');
      let text = '';
      for await (const chunk of socket) text += String(chunk);
      assert.match(text, /^HTTP\/1\.1 408 /);
      assert.ok(Date.now() - startedMs < 5000, `${Date.now() - startedMs} ms`);
    });
    await Promise.all(slow);
    const headers = { long: 'x'.repeat(9000) };
    assert.equal((await ask(ports.readiness, '/healthz/ready', { headers })).status, 431);
  });
});

describe('a client that ends its direction after the request', () => {
  const halfClosing = async (port: number, path: string): Promise<string> => {
    const socket = connect({ port, host: '127.0.0.1', allowHalfOpen: true });
    socket.end(`GET ${path} HTTP/1.1\r\nhost: x\r\n\r\n`);
    let text = '';
    for await (const chunk of socket) text += String(chunk);
    return text;
  };

  it('has the whole answer, and then the end', async () => {
    assert.match(
      await halfClosing(ports.admin, '/config_dump'),
      /^HTTP\/1\.1 200 [^]*\r\n0\r\n\r\n$/,
    );
    assert.match(await halfClosing(ports.stats, '/metrics'), /# EOF\n\r\n0\r\n\r\n$/);
    assert.match(await halfClosing(ports.admin, '/'), /<table>/);
  });
});

describe('readiness endpoint', () => {
  it('names what is pending', async () => {
    const { status, body } = await ask(ports.readiness, '/healthz/ready');
    assert.deepEqual([status, body.toString()], [500, 'not ready, pending: state manager\n']);
    state.pending = [];
    const ready = await ask(ports.readiness, '/healthz/ready');
    assert.deepEqual([ready.status, ready.body.toString()], [200, 'ready\n']);
    assert.equal((await ask(ports.readiness, '/healthz/ready', { method: 'POST' })).status, 405);
    assert.equal((await ask(ports.readiness, '/metrics')).status, 404);
  });

  it('names all that is pending', async () => {
    state.pending = ['state manager', 'workload proxy manager'];
    const { status, body } = await ask(ports.readiness, '/healthz/ready');
    const words = 'not ready, pending: state manager, workload proxy manager\n';
    assert.deepEqual([status, body.toString()], [500, words]);
  });
});
