// From the waypoint to an endpoint in the mesh: HBONE to the endpoint's node proxy (played by node:http2 over mutual
// TLS on another loopback address), with exactly the endpoint's identity expected.
import assert from 'node:assert/strict';
import { once } from 'node:events';
import { createServer } from 'node:http';
import { createSecureServer } from 'node:http2';
import type { Http2SecureServer, ServerHttp2Stream } from 'node:http2';
import type { IncomingHttpHeaders } from 'node:http2';
import { connect } from 'node:net';
import type { AddressInfo, Socket } from 'node:net';
import type { TLSSocket } from 'node:tls';
import { after, before, describe, it } from 'node:test';
import { SERVICE, VIP, WaypointFixture } from '../../support/waypoint-fixture.ts';

const HOST = 'web.demo.svc.cluster.local';
const GOOD = '127.0.77.1';
const IMPOSTOR = '127.0.77.2';
const app = createServer((request, response) => response.end(`app saw ${request.url ?? ''}`));
const proxies: Http2SecureServer[] = [];
const sockets = new Set<Socket>();
const connects: { headers: IncomingHttpHeaders; identity: string }[] = [];
let sessions = 0;
let waypoint: WaypointFixture;

/** A node proxy that shows an identity and relays CONNECT streams to the application. */
async function startNodeProxy(address: string, identity: string): Promise<void> {
  const server = createSecureServer({
    ...waypoint.issue(identity),
    requestCert: true,
    rejectUnauthorized: true,
    ALPNProtocols: ['h2'],
  });
  server.on('session', () => sessions++);
  server.on('stream', (stream: ServerHttp2Stream, headers) => {
    const peer = (stream.session?.socket as TLSSocket | undefined)?.getPeerCertificate();
    connects.push({ headers, identity: peer?.subjectaltname ?? '' });
    const upstream = connect((app.address() as AddressInfo).port, '127.0.0.1');
    sockets.add(upstream);
    upstream.on('error', () => undefined);
    stream.on('error', () => undefined);
    stream.respond({ ':status': 200 });
    stream.pipe(upstream).pipe(stream);
  });
  server.on('sessionError', () => undefined);
  server.listen(15008, address);
  await once(server, 'listening');
  proxies.push(server);
}

before(async () => {
  app.listen(0, '127.0.0.1');
  await once(app, 'listening');
  const workload = (uid: string, ip: string, servicePort: number): object => ({
    uid,
    name: uid,
    namespace: 'demo',
    serviceAccount: 'web',
    workloadIps: [ip],
    protocol: 'HBONE',
    services: { [SERVICE]: { [servicePort]: 8080 } },
  });
  const names = ['good', 'impostor'];
  waypoint = await WaypointFixture.start({
    workloads: {
      workloads: [workload('good', GOOD, 80), workload('impostor', IMPOSTOR, 81)],
      services: [
        {
          name: 'web',
          namespace: 'demo',
          hostname: HOST,
          vips: [`/${VIP}`],
          ports: { 80: 0, 81: 0 },
        },
      ],
    },
    l7: {
      clusters: names.map((name, at) => ({
        name,
        namespace: 'demo',
        hostname: HOST,
        servicePort: 80 + at,
        connectTimeoutMs: 3000,
      })),
      serviceRoutes: [
        {
          namespace: 'demo',
          hostname: HOST,
          name: 'web',
          ports: names.map((name, at) => ({
            servicePort: 80 + at,
            protocol: 'HTTP',
            routes: [{ name, forward: { clusters: [{ cluster: name, weight: 1 }] } }],
          })),
        },
      ],
    },
  });
  await startNodeProxy(GOOD, 'spiffe://cluster.local/ns/demo/sa/web');
  await startNodeProxy(IMPOSTOR, 'spiffe://cluster.local/ns/demo/sa/other');
});

after(async () => {
  await waypoint.close();
  for (const socket of sockets) socket.destroy();
  for (const proxy of proxies) proxy.close();
  app.closeAllConnections();
  app.close();
});

describe('waypoint to the mesh', () => {
  it('opens tunnels to podIP:targetPort with its own identity, over one connection', async () => {
    const answers = await Promise.all(
      Array.from({ length: 6 }, (_, at) => waypoint.request({ path: `/r${at}` })),
    );
    for (const [at, answer] of answers.entries()) {
      assert.equal(answer.status, 200);
      assert.equal(answer.body.toString(), `app saw /r${at}`);
    }
    assert.equal(sessions, 1);
    for (const { headers, identity } of connects) {
      assert.equal(headers[':authority'], `${GOOD}:8080`);
      assert.match(identity, /URI:spiffe:\/\/cluster\.local\/ns\/demo\/sa\/waypoint/);
      assert.match(String(headers['baggage']), /k8s\.namespace\.name=demo/);
    }
  });

  it('does not talk to an endpoint that proves another identity', async () => {
    const before = connects.length;
    const response = await waypoint.request({ path: '/x', authority: `${VIP}:81` });
    assert.equal(response.status, 503);
    assert.equal(connects.length, before);
    assert.match(
      await waypoint.metrics(),
      /response_code="503",grpc_response_status="",response_flags="UF"/,
    );
  });
});
