// Revocation lists at a real waypoint: read from a file, reloaded while running; callers and endpoints, new and
// established. An endpoint's node proxy is played by node:http2.
import assert from 'node:assert/strict';
import { once } from 'node:events';
import { mkdtempSync, rmSync, writeFileSync } from 'node:fs';
import { createServer } from 'node:http';
import { createSecureServer } from 'node:http2';
import type { Http2SecureServer, ServerHttp2Session, ServerHttp2Stream } from 'node:http2';
import { connect } from 'node:net';
import type { AddressInfo } from 'node:net';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { after, before, describe, it } from 'node:test';
import { revocationList } from '../../support/revocation-list.ts';
import {
  CLIENT_IDENTITY,
  get,
  requestOver,
  SERVICE,
  VIP,
  WaypointFixture,
} from '../../support/waypoint-fixture.ts';
import type { PeerTls } from '../../support/waypoint-fixture.ts';

const HOST = 'web.demo.svc.cluster.local';
const ENDPOINT = '127.0.78.1';
const dir = mkdtempSync(join(tmpdir(), 'waypoint-crl-'));
const path = join(dir, 'crl.pem');
const app = createServer((_request, response) => response.end('from the app'));
let nodeProxy: Http2SecureServer;
let waypoint: WaypointFixture;
let endpointTls: PeerTls;
let caller: PeerTls;

async function until(what: string, check: () => boolean | Promise<boolean>): Promise<void> {
  const deadline = Date.now() + 15_000;
  while (!(await check())) {
    if (Date.now() > deadline) assert.fail(`not in time: ${what}\n${waypoint.output}`);
    await new Promise((resolve) => setTimeout(resolve, 25));
  }
}

async function startNodeProxy(): Promise<void> {
  nodeProxy = createSecureServer({ ...endpointTls, requestCert: true, ALPNProtocols: ['h2'] });
  nodeProxy.on('stream', (stream: ServerHttp2Stream) => {
    const upstream = connect((app.address() as AddressInfo).port, '127.0.0.1');
    upstream.on('error', () => undefined);
    stream.on('error', () => undefined);
    stream.on('close', () => upstream.destroy());
    stream.respond({ ':status': 200 });
    stream.pipe(upstream).pipe(stream);
  });
  nodeProxy.on('sessionError', () => undefined);
  nodeProxy.listen(15008, ENDPOINT);
  await once(nodeProxy, 'listening');
}

/** Writes lists and waits until they are in force. */
async function revoke(...certificates: string[]): Promise<void> {
  const before = waypoint.output.split('lists are in force').length;
  writeFileSync(path, revocationList(waypoint.root, certificates));
  await until('the lists are in force', () => {
    return waypoint.output.split('lists are in force').length > before;
  });
}

async function rejections(reporter: string): Promise<number> {
  const name = `istio_crl_policy_rejections_total{reporter="${reporter}"} `;
  const line = (await waypoint.metrics()).split('\n').find((one) => one.startsWith(name));
  return Number(line?.slice(name.length) ?? 0);
}

before(async () => {
  app.listen(0, '127.0.0.1');
  await once(app, 'listening');
  waypoint = await WaypointFixture.start({
    env: { CRL_PATH: path },
    workloads: {
      workloads: [
        {
          ...{ uid: 'web', name: 'web', namespace: 'demo', serviceAccount: 'web' },
          workloadIps: [ENDPOINT],
          protocol: 'HBONE',
          services: { [SERVICE]: { 80: 8080 } },
        },
      ],
      services: [
        { name: 'web', namespace: 'demo', hostname: HOST, vips: [`/${VIP}`], ports: { 80: 0 } },
      ],
    },
    l7: {
      clusters: [
        { name: 'web', namespace: 'demo', hostname: HOST, servicePort: 80, connectTimeoutMs: 3000 },
      ],
      serviceRoutes: [
        {
          namespace: 'demo',
          hostname: HOST,
          name: 'web',
          ports: [
            {
              servicePort: 80,
              protocol: 'HTTP',
              routes: [{ name: 'web', forward: { clusters: [{ cluster: 'web', weight: 1 }] } }],
            },
          ],
        },
      ],
    },
  });
  endpointTls = waypoint.issue('spiffe://cluster.local/ns/demo/sa/web');
  caller = waypoint.issue(CLIENT_IDENTITY);
  await startNodeProxy();
});

after(async () => {
  await waypoint.close();
  nodeProxy.close();
  app.close();
  app.closeAllConnections();
  rmSync(dir, { recursive: true, force: true });
});

describe('revocation lists at a waypoint', () => {
  it('a file that is not there revokes nobody', async () => {
    assert.equal((await waypoint.request()).status, 200);
  });

  it('a caller that is revoked loses its connection and gets no other; others go on', async () => {
    const session = waypoint.session(caller);
    const { stream } = await waypoint.tunnel(undefined, session);
    assert.equal((await requestOver(stream, {})).status, 200);
    const ended = new Promise((resolve) => session.once('close', resolve));
    await revoke(caller.cert);
    await ended;
    await assert.rejects(waypoint.tunnel(undefined, waypoint.session(caller)));
    assert.equal((await waypoint.request()).status, 200);
    await until('both are counted', async () => (await rejections('destination')) === 2);
    await until('a line says why', () =>
      waypoint.output.includes('peer certificate revoked by CRL'),
    );
  });

  it('an endpoint that is revoked loses its connection and gets no other', async () => {
    const sessions: ServerHttp2Session[] = [];
    nodeProxy.on('session', (session) => sessions.push(session));
    assert.equal((await waypoint.request()).status, 200);
    await revoke(endpointTls.cert);
    assert.equal((await waypoint.request()).status, 503);
    await until('it is counted', async () => (await rejections('source')) >= 2);
  });

  it('a file that cannot be read is told with the readiness and leaves the lists in force', async () => {
    writeFileSync(path, 'not a list');
    const ready = (): Promise<string> =>
      get(waypoint.ports.ready, '/healthz/ready').then(({ body }) => body.toString());
    await until('the warning', async () => (await ready()).includes('warning: '));
    assert.equal((await waypoint.request()).status, 503);
    await revoke();
    assert.equal((await waypoint.request()).status, 200);
    assert.equal(await ready(), 'ready\n');
  });

  it('shows when its certificate expires, and that no connection escapes the lists', async () => {
    const metrics = await waypoint.metrics();
    const expiry =
      /ambient_certificate_expiry_seconds\{identity="spiffe:[^"]*\/sa\/waypoint"\} (\d+)/;
    const seconds = Number(expiry.exec(metrics)?.[1]);
    assert.ok(seconds > 80_000 && seconds <= 86_400, String(seconds));
    for (const reporter of ['source', 'destination']) {
      assert.ok(
        metrics.includes(`istio_crl_untracked_connections_total{reporter="${reporter}"} 0`),
      );
    }
  });
});
