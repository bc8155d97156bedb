// Our node proxy under istiod, which a double plays from transcripts: none of our control plane is here. Then beside
// Istio's ztunnels, which node:http2 plays: see hbone-peers.ts. Needs a network namespace of its own (test/run.ts).
import assert from 'node:assert/strict';
import { once } from 'node:events';
import type { IncomingHttpHeaders } from 'node:http2';
import { createServer } from 'node:net';
import { after, before, describe, it } from 'node:test';
import { eventually } from '../support/netns-mesh.ts';
import { FarZtunnel, NearZtunnel, textOf } from './hbone-peers.ts';
import { Istiod } from './istiod.ts';
import { dial, ProxyProcess } from './proxy.ts';
import { play } from './transcript.ts';

const istiod = new Istiod();
const proxy = new ProxyProcess();
const [STREAM_WINDOW, CONNECTION_WINDOW, FRAME] = [4 << 20, 16 << 20, 1 << 20];
/** What is dialled there is not echoed: the tests answer. */
const BY_HAND = 9000;
const isByHand = (authority = ''): boolean => authority.includes(':900');
const idOf = (account: string): string => `spiffe://cluster.local/ns/default/sa/${account}`;
const closers: { close(): void }[] = [];

before(async () => {
  const port = await istiod.listen();
  const address = `https://127.0.0.1:${port}`;
  const root = proxy.file('root.pem', istiod.root.certPem);
  proxy.start({
    ...{ PROXY_MODE: 'dedicated', PROXY_WORKLOAD_INFO: 'default/client/client' },
    ...{ XDS_ADDRESS: address, XDS_ROOT_CA: root, ALT_XDS_HOSTNAME: 'istiod.test' },
    ...{ CA_ADDRESS: address, CA_ROOT_CA: root, ALT_CA_HOSTNAME: 'istiod.test' },
    ...{
      AUTH_TOKEN: proxy.file('token', 'the-token'),
      XDS_HEADER_X_ONE: '1',
      CA_HEADER_X_TWO: '2',
    },
    ...{ NODE_NAME: 'node-1', INSTANCE_IP: '10.1.2.3', ISTIO_META_CLUSTER_ID: 'east' },
    ...{ POD_NAME: 'ztunnel-x', POD_NAMESPACE: 'istio-system', SERVICE_ACCOUNT: 'ztunnel' },
    ...{
      ISTIO_META_FLAVOUR: 'plain',
      UNSTABLE_ENABLE_SOCKS5: 'true',
      ENABLE_ORIG_SRC: 'false',
      NETWORK: 'here',
    },
  });
});

after(async () => {
  for (const closer of closers) closer.close();
  await proxy.close();
  istiod.close();
});

describe('istiod', () => {
  it('is asked for both types with the node, and the proxy is ready when both were acknowledged', () =>
    play('warm-up', istiod, proxy));

  it('is told which resource is bad and why; the good ones of the push are taken', () =>
    play('one bad resource', istiod, proxy));

  it('is told that a resource is of another type than its push', () =>
    play('a resource of another type', istiod, proxy));

  it('hears each time whether a resource is taken; what was known stays when its next version is refused', () =>
    play('a refused resource comes right, and wrong again', istiod, proxy));

  it('is told that a policy’s range is none: it is refused, not widened', () =>
    play('a policy with a bad range', istiod, proxy));

  it('removes by name, also what is not there', () => play('removals', istiod, proxy));

  it('is acknowledged a type that means nothing', () => play('an unknown type', istiod, proxy));

  it('is told the versions that were kept when it is back, and nothing is lost meanwhile', () =>
    play('a restart of istiod', istiod, proxy));

  it('sees token, cluster and further headers on each stream, over TLS', () => {
    for (const headers of istiod.streams) {
      assert.equal(headers['authorization'], 'Bearer the-token');
      assert.equal(headers['clusterid'], 'east');
      assert.equal(headers['x_one'], '1');
    }
    assert.equal(istiod.streams.length, 2);
  });

  it('is asked for a certificate as a dedicated proxy asks: its own, a day, no metadata', async () => {
    await eventually('a request', () => istiod.certificateRequests.length > 0);
    const [request] = istiod.certificateRequests;
    assert.equal(request?.ttlSec, 86_400);
    assert.equal(request.hasMetadata, false);
    assert.equal(request.headers['authorization'], 'Bearer the-token');
    assert.equal(request.headers['clusterid'], 'east');
    assert.equal(request.headers['x_two'], '2');
    assert.match(request.csr, /^-----BEGIN CERTIFICATE REQUEST-----/);
  });
});

const BAGGAGE =
  'k8s.cluster.name=east,k8s.namespace.name=default,k8s.pod.name=client,service.name=client,service.version=v1';
const FORWARDED = /^for="[0-9.]+:\d+";host=(web|across)\.default\.svc\.cluster\.local$/;

/** Takes `forwarded` and `traceparent`, whose values differ each time, out; the rest of the headers as it came. */
function checkedHeaders(headers: IncomingHttpHeaders): Record<string, unknown> {
  const { forwarded, traceparent, ...rest } = headers;
  assert.match(forwarded ?? '', FORWARDED);
  assert.match(String(traceparent), /^00-[0-9a-f]{32}-[0-9a-f]{16}-00$/);
  return Object.fromEntries(Object.entries(rest));
}

/** The part of `traceparent` that is logged. */
const traceIdIn = (headers: IncomingHttpHeaders): string =>
  String(headers['traceparent']).slice(3, 35);

/** How many lines of the access log have the trace id as their last field. */
function accessLines(direction: 'inbound' | 'outbound', traceId: string): number {
  const lines = proxy.log
    .split('\n')
    .filter((line) => line.endsWith(`"trace_id":"${traceId}","message":"connection complete"}`));
  return lines.filter((line) => line.includes(`"direction":"${direction}"`)).length;
}

describe('the token', () => {
  it('is read again for each stream: a renewed one is shown by the next', async () => {
    const before = istiod.streams.length;
    proxy.file('token', 'another-token\n');
    istiod.endStream(1, 'bye');
    await eventually('another stream', () => istiod.streams.length > before);
    for (const type of ['istio.workload.Address', 'istio.security.Authorization'])
      await istiod.request(`type.googleapis.com/${type}`);
    assert.equal(istiod.streams.at(-1)?.['authorization'], 'Bearer another-token');
  });

  it('the ends of streams are counted by reason, messages and their bytes by type', async () => {
    const text = await proxy.metrics();
    assert.match(text, /^istio_xds_connection_terminations_total\{reason="Reconnect"\} [1-9]/m);
    const url = 'url="type.googleapis.com/istio.workload.Address"';
    assert.match(text, new RegExp(`^istio_xds_message_total\\{${url}\\} [1-9]`, 'm'));
    assert.match(text, new RegExp(`^istio_xds_message_bytes_total\\{${url}\\} [1-9]`, 'm'));
  });
});

describe('Istio’s ztunnel as a server of tunnels', () => {
  const far = new FarZtunnel(istiod.peer(idOf('server')), ({ headers, stream }) => {
    stream.respond({ ':status': 200, baggage: 'k8s.namespace.name=default' });
    if (!isByHand(headers[':authority'])) stream.pipe(stream);
  });
  closers.push(far);

  it('sees the request and headers of a ztunnel, and no others', async () => {
    await far.listen('127.0.0.2');
    const socket = await dial('10.96.0.1', 80);
    socket.end('hello');
    assert.equal(await textOf(socket), 'hello');
    assert.deepEqual(checkedHeaders(far.tunnels[0]?.headers ?? {}), {
      ':method': 'CONNECT',
      ':authority': '127.0.0.2:8080',
      baggage: BAGGAGE,
    });
  });

  it('sees the settings and windows of a ztunnel', () => {
    const { enablePush, initialWindowSize, maxFrameSize, maxHeaderListSize } = far.settings;
    assert.deepEqual(
      { enablePush, initialWindowSize, maxFrameSize, maxHeaderListSize },
      {
        enablePush: false,
        initialWindowSize: STREAM_WINDOW,
        maxFrameSize: FRAME,
        maxHeaderListSize: 16_384,
      },
    );
    assert.equal(far.connectionWindow, CONNECTION_WINDOW);
  });

  it('is spoken to in TLS 1.3 with AES-GCM, without a server name, with the identity of the pod', () => {
    assert.equal(far.protocol, 'TLSv1.3');
    assert.equal(far.cipher, 'TLS_AES_256_GCM_SHA384');
    assert.ok(!far.servername, String(far.servername));
    assert.equal(far.peerNames, `URI:${idOf('client')}`);
  });

  it('sees the trace id that is in our log, another for each connection of an application', async () => {
    const socket = await dial('10.96.0.1', 80);
    socket.end('again');
    assert.equal(await textOf(socket), 'again');
    const ids = far.tunnels.slice(0, 2).map(({ headers }) => traceIdIn(headers));
    assert.notEqual(ids[0], ids[1]);
    for (const id of ids) await eventually('the line', () => accessLines('outbound', id) === 1);
  });

  it('sees the application’s half-close, and answers after it', async () => {
    const socket = await dial('127.0.0.2', BY_HAND);
    const { stream } = await far.tunnelTo(`127.0.0.2:${BY_HAND}`);
    socket.end('and no more');
    assert.equal(await textOf(stream), 'and no more');
    stream.end('an answer after the end');
    assert.equal(await textOf(socket), 'an answer after the end');
  });

  it('ends its own direction, and hears the application after that', async () => {
    const socket = await dial('127.0.0.2', BY_HAND + 1);
    const { stream } = await far.tunnelTo(`127.0.0.2:${BY_HAND + 1}`);
    // node:http2 gives up a stream that is ended before anybody reads from it.
    const rest = textOf(stream);
    stream.end('server first');
    assert.equal(await textOf(socket), 'server first');
    socket.end('and then the client');
    assert.equal(await rest, 'and then the client');
  });

  it('is told nothing when the application resets: its stream ends', async () => {
    const socket = await dial('127.0.0.2', 8081);
    const { stream } = await far.tunnelTo('127.0.0.2:8081');
    socket.resetAndDestroy();
    await eventually('the stream has ended', () => stream.closed || stream.readableEnded);
    assert.ok([0, 8].includes(stream.rstCode), String(stream.rstCode));
  });

  it('refuses: the application’s connection closes', async () => {
    const refusing = new FarZtunnel(istiod.peer(idOf('gateway')), ({ stream }) =>
      stream.respond({ ':status': 503 }, { endStream: true }),
    );
    closers.push(refusing);
    await refusing.listen('127.0.0.8');
    const socket = await dial('127.0.0.8', 80);
    socket.write('hello');
    const closed = new Promise((resolve) => socket.once('close', resolve));
    socket.resume();
    await closed;
    await eventually('it has a line', () => proxy.log.includes('503'));
  });

  it('of another network is reached through its gateway: a tunnel in a tunnel, the network told in the inner one', async () => {
    const remote = new FarZtunnel(istiod.peer(idOf('remote')), ({ stream }) => {
      stream.respond({ ':status': 200, baggage: 'k8s.namespace.name=default' });
      stream.pipe(stream);
    });
    const gateway = new FarZtunnel(
      istiod.peer('spiffe://cluster.local/ns/far/sa/gateway'),
      ({ stream }) => {
        stream.respond({ ':status': 200 });
        remote.join(stream);
      },
    );
    closers.push(remote, gateway);
    await gateway.listen('127.0.0.5', 15_009);
    const socket = await dial('10.96.0.2', 80);
    socket.end('hello');
    assert.equal(await textOf(socket), 'hello');
    const wanted = {
      ':method': 'CONNECT',
      ':authority': 'across.default.svc.cluster.local:80',
      baggage: BAGGAGE,
    };
    assert.deepEqual(checkedHeaders(gateway.tunnels[0]?.headers ?? {}), wanted);
    assert.deepEqual(checkedHeaders(remote.tunnels[0]?.headers ?? {}), {
      ...wanted,
      'x-forwarded-network': 'here',
    });
    const ids = [gateway, remote].map(({ tunnels }) => traceIdIn(tunnels[0]?.headers ?? {}));
    assert.equal(ids[0], ids[1]);
    await eventually('the line', () => accessLines('outbound', ids[0] ?? '') === 1);
    assert.equal(remote.peerNames, `URI:${idOf('client')}`);
  });
});

describe('Istio’s ztunnel as a client of tunnels', () => {
  const near = new NearZtunnel(istiod.peer(idOf('server')));
  closers.push(near);
  const app = createServer({ allowHalfOpen: true }, (socket) => {
    socket.on('error', () => undefined);
    socket.on('data', (chunk: Buffer) => socket.write(chunk));
    socket.on('end', () => socket.end(' and the end'));
  });
  closers.push(app);

  it('sees the settings and windows of a ztunnel that serves', async () => {
    app.listen(9090, '127.0.0.9');
    await once(app, 'listening');
    await near.open('127.0.0.9');
    const { initialWindowSize, maxFrameSize, maxHeaderListSize, maxConcurrentStreams } =
      near.settings;
    assert.deepEqual(
      { initialWindowSize, maxFrameSize, maxHeaderListSize, maxConcurrentStreams },
      {
        initialWindowSize: STREAM_WINDOW,
        maxFrameSize: FRAME,
        maxHeaderListSize: 65_536,
        maxConcurrentStreams: 200,
      },
    );
    assert.notEqual(near.settings.enableConnectProtocol, true);
    assert.equal(near.connectionWindow, CONNECTION_WINDOW);
  });

  it('is answered 200 with the baggage of the pod, and its half-close reaches the application', async () => {
    const { headers, stream } = await near.request('127.0.0.9:9090');
    assert.equal(headers[':status'], 200);
    assert.equal(headers['baggage'], BAGGAGE);
    assert.deepEqual(Object.keys(headers).sort(), [':status', 'baggage']);
    stream.end('hello');
    assert.equal(await textOf(stream), 'hello and the end');
  });

  it('finds the trace id that it sent in our log', async () => {
    const sent = `00-${'0123456789ABCDEF'.repeat(2)}-b7ad6b7169203331-01`;
    const { stream } = await near.request('127.0.0.9:9090', 'CONNECT', sent);
    stream.end('hello');
    await textOf(stream);
    const id = '0123456789abcdef'.repeat(2);
    await eventually('the line', () => accessLines('inbound', id) === 1);
  });

  const REFUSALS: readonly (readonly [string, number, string, string?])[] = [
    ['a method that is not CONNECT', 400, '127.0.0.9:9090', 'GET'],
    ['an authority without a port', 400, '127.0.0.9'],
    ['an address that is not of this pod', 400, '127.0.0.2:9090'],
    ['an application that does not listen', 503, '127.0.0.9:9091'],
    ['our own listener', 503, '127.0.0.9:15006'],
    ['an unknown host name', 503, 'nobody.default.svc.cluster.local:80'],
  ];
  for (const [claim, status, authority, method] of REFUSALS) {
    it(`is refused ${claim}`, async () => {
      const { headers, stream } = await near.request(authority, method);
      assert.equal(headers[':status'], status);
      assert.equal(headers['baggage'], undefined);
      assert.equal(await textOf(stream), '');
    });
  }

  it('is refused by a policy with 401, also on a connection that it holds', async () => {
    await play('a policy that denies', istiod, proxy);
    const { headers } = await near.request('127.0.0.9:9090');
    assert.equal(headers[':status'], 401);
    await play('the policy goes', istiod, proxy);
    const { headers: after } = await near.request('127.0.0.9:9090');
    assert.equal(after[':status'], 200);
  });

  it('loses a running tunnel when a policy comes that denies it', async () => {
    const { stream } = await near.request('127.0.0.9:9090');
    const closed = new Promise((resolve) => stream.once('close', resolve));
    await play('a policy that denies', istiod, proxy);
    stream.resume();
    await closed;
    await play('the policy goes', istiod, proxy);
  });
});
