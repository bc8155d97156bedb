// Tunnels to a pod that has just ended: their connections can no longer be registered (ztunnel-spec 3.4, step 6), so nothing
// is dialled for them, and they are told as Istio's are. Over the wire, with the parts of a data thread.
import assert from 'node:assert/strict';
import { once } from 'node:events';
import { createServer, type AddressInfo } from 'node:net';
import { after, describe, it } from 'node:test';
import { HbonePool, isTunnelFailure } from '../../../common/hbone/tunnel-pool.ts';
import { HboneServer } from '../../../common/hbone/tunnel-server.ts';
import { SeriesTable } from '../../../common/telemetry/series-table.ts';
import { WorkloadStore } from '../../../common/workload/store.ts';
import { openTcpListener } from '../../../engine/reactor/socket-options.ts';
import { connectTcp } from '../../../engine/reactor/tcp-connect.ts';
import { TcpListener } from '../../../engine/reactor/tcp-listener.ts';
import { TlsContext } from '../../../engine/tls/tls-context.ts';
import { readConfig } from '../../../ztunnel/config.ts';
import { CertificateStore } from '../../../ztunnel/identity/certificate-store.ts';
import { ConnectionManager } from '../../../ztunnel/proxy/connection-manager.ts';
import { ConnectionRecorder } from '../../../ztunnel/proxy/connection-result.ts';
import { HostAddresses } from '../../../ztunnel/proxy/host-addresses.ts';
import { serveInbound } from '../../../ztunnel/proxy/inbound.ts';
import { L7Sight } from '../../../ztunnel/proxy/l7-sight.ts';
import { L7_SIGHT_FAMILIES } from '../../../ztunnel/proxy/l7-series.ts';
import { LocalWorkload } from '../../../ztunnel/proxy/local-workload.ts';
import { PolicyGate } from '../../../ztunnel/proxy/policy-gate.ts';
import type { ProxyContext } from '../../../ztunnel/proxy/proxy-context.ts';
import { TRAFFIC_FAMILIES } from '../../../ztunnel/proxy/traffic-families.ts';
import { makeWorkload } from '../../support/mesh-builders.ts';
import { quietLogger } from '../../support/quiet-logger.ts';
import { TestAuthority, spiffe } from '../engine/certificates.ts';
import { startReactor } from '../engine/support.ts';

const POD = { name: 'pod', namespace: 'default', serviceAccount: 'pod' };
const reactor = startReactor();
const authority = new TestAuthority();
const clientContext = TlsContext.client(authority.issue('client', spiffe('client')));
const serverContext = TlsContext.server(authority.issue('server', spiffe('server')));
const access = quietLogger();
after(() => {
  clientContext.close();
  serverContext.close();
  authority.remove();
  reactor.close();
});

function makeContext(): ProxyContext {
  const store = new WorkloadStore();
  store.upsertWorkload(makeWorkload('pod', '127.0.0.1'));
  const table = new SeriesTable([...TRAFFIC_FAMILIES, ...L7_SIGHT_FAMILIES], () => undefined);
  const config = readConfig({ ENABLE_ORIG_SRC: 'false', FAKE_CA: 'true', FAKE_CA_ROOT: '/none' });
  const now = (): number => reactor.now();
  return {
    ...{ reactor, store, logger: quietLogger() },
    // Outside of pods there is nothing to mark.
    config: { ...config, packetMark: undefined },
    gate: new PolicyGate(reactor, new Map()),
    certificates: new CertificateStore(reactor, () => undefined),
    recorder: new ConnectionRecorder(table, access),
    sight: new L7Sight(table, config.l7Sight, now),
    hosts: new HostAddresses(() => undefined, now),
    findPod: () => undefined,
    resolve: () => undefined,
  };
}

describe('a tunnel to a pod', () => {
  it('that has ended is answered 401: its connection cannot be registered, and nothing is dialled', async () => {
    let dialled = 0;
    const app = createServer((socket) => {
      dialled++;
      socket.on('error', () => undefined).resume();
    }).listen(0, '127.0.0.1');
    await once(app, 'listening');
    const context = makeContext();
    const local = new LocalWorkload(context.store, reactor, POD);
    const pod = { local, netns: undefined, connections: new ConnectionManager() };
    const served: Promise<void>[] = [];
    const hbone = new HboneServer({
      context: () => serverContext,
      onRequest: (request) => void served.push(serveInbound(context, pod, request)),
    });
    const bound = openTcpListener({ address: '127.0.0.1', port: 0 });
    const listener = new TcpListener(reactor, bound.fd, (stream) => hbone.accept(stream));
    const pool = new HbonePool(reactor, {
      dial: ({ address, port }) => connectTcp(reactor, { address, port }),
      context: () => clientContext,
    });
    const { port } = app.address() as AddressInfo;
    const open = () =>
      pool.connect({
        ...{ address: '127.0.0.1', port: bound.port, authority: `127.0.0.1:${port}` },
        ...{ headers: [], sourceIdentity: spiffe('client') },
        expectedIdentities: [spiffe('server')],
      });
    try {
      const before = await open();
      assert.ok(!isTunnelFailure(before), 'it is served while the pod is here');
      before.stream.reset();
      pod.connections.abortAll('pod_removed', 'the pod has left the mesh');
      const late = await open();
      assert.ok(isTunnelFailure(late));
      assert.deepEqual([late.code, late.status], ['status', 401]);
      await Promise.all(served);
      assert.equal(dialled, 1);
      assert.equal(pod.connections.count('inbound'), 0);
      const [line] = access.lines.filter(({ fields }) => 'reason' in fields).slice(-1);
      assert.partialDeepStrictEqual(line?.fields, { reason: 'pod_removed' });
    } finally {
      pool.close('test ends');
      listener.close();
      hbone.close('test ends');
      app.close();
    }
  });
});
