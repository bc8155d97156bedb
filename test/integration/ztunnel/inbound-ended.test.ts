// What comes between a request for a tunnel and its answer: its pod has ended, so that the connection cannot be registered, or
// policies change. It is told as by Istio's. Over the wire, with the parts of a data thread.
import assert from 'node:assert/strict';
import { once } from 'node:events';
import { createServer, type AddressInfo } from 'node:net';
import { after, describe, it } from 'node:test';
import { HbonePool, isTunnelFailure } from '../../../common/hbone/tunnel-pool.ts';
import { HboneServer } from '../../../common/hbone/tunnel-server.ts';
import type { Tunnel, TunnelFailure } from '../../../common/hbone/types.ts';
import { openTcpListener } from '../../../engine/reactor/socket-options.ts';
import { connectTcp } from '../../../engine/reactor/tcp-connect.ts';
import { TcpListener } from '../../../engine/reactor/tcp-listener.ts';
import { TlsContext } from '../../../engine/tls/tls-context.ts';
import { ConnectionManager } from '../../../ztunnel/proxy/connection-manager.ts';
import { serveInbound } from '../../../ztunnel/proxy/inbound.ts';
import { LocalWorkload } from '../../../ztunnel/proxy/local-workload.ts';
import { quietLogger } from '../../support/quiet-logger.ts';
import { TestAuthority, spiffe } from '../engine/certificates.ts';
import { startReactor, until } from '../engine/support.ts';
import { makeContext } from './proxy-context.ts';

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

interface Scene {
  readonly connections: ConnectionManager;
  /** How often the application was connected to, and what it has heard. */
  readonly app: { dialled: number; heard: number };
  open(): Promise<Tunnel | TunnelFailure>;
  /** The last line of a connection that did not go well; all have been served. */
  lastFailure(): Promise<object | undefined>;
  close(): void;
}

/** An application, its pod's tunnels, and a client of theirs. */
async function setUp(onChange?: (connections: ConnectionManager) => void): Promise<Scene> {
  const app = { dialled: 0, heard: 0 };
  const server = createServer((socket) => {
    app.dialled++;
    socket.on('error', () => undefined).on('data', (bytes) => (app.heard += bytes.length));
  }).listen(0, '127.0.0.1');
  await once(server, 'listening');
  const context = makeContext(reactor, access);
  const local = new LocalWorkload(context.store, reactor, POD);
  const connections: ConnectionManager = new ConnectionManager(() => onChange?.(connections));
  const served: Promise<void>[] = [];
  const hbone = new HboneServer({
    context: () => serverContext,
    onRequest: (request) =>
      void served.push(serveInbound(context, { local, netns: undefined, connections }, request)),
  });
  const bound = openTcpListener({ address: '127.0.0.1', port: 0 });
  const listener = new TcpListener(reactor, bound.fd, (stream) => hbone.accept(stream));
  const pool = new HbonePool(reactor, {
    dial: ({ address, port }) => connectTcp(reactor, { address, port }),
    context: () => clientContext,
  });
  const { port } = server.address() as AddressInfo;
  return {
    ...{ connections, app },
    open: () =>
      pool.connect({
        ...{ address: '127.0.0.1', port: bound.port, authority: `127.0.0.1:${port}` },
        ...{ headers: [], sourceIdentity: spiffe('client') },
        expectedIdentities: [spiffe('server')],
        early: { take: () => Buffer.from('early') },
      }),
    lastFailure: async () => {
      await Promise.all(served);
      return access.lines.findLast(({ fields }) => 'reason' in fields)?.fields;
    },
    close: () => {
      pool.close('test ends');
      listener.close();
      hbone.close('test ends');
      server.close();
    },
  };
}

function assertRefused(answer: Tunnel | TunnelFailure): void {
  assert.ok(isTunnelFailure(answer));
  assert.deepEqual([answer.code, answer.status], ['status', 401]);
}

describe('a tunnel to a pod', () => {
  it('that has ended is answered 401: its connection cannot be registered, and nothing is dialled', async () => {
    const scene = await setUp();
    try {
      const before = await scene.open();
      assert.ok(!isTunnelFailure(before), 'it is served while the pod is here');
      await until(() => scene.app.heard === 5, 'the application has heard it');
      before.stream.reset();
      scene.connections.abortAll('pod_removed', 'the pod has left the mesh');
      assertRefused(await scene.open());
      assert.equal(scene.app.dialled, 1);
      assert.equal(scene.connections.count('inbound'), 0);
      assert.partialDeepStrictEqual(await scene.lastFailure(), { reason: 'pod_removed' });
    } finally {
      scene.close();
    }
  });

  it('whose policies change while its application is dialled is answered 401, and no byte passes', async () => {
    // Registered, judged, and dialled; then judged again.
    const scene = await setUp((connections) =>
      queueMicrotask(() => {
        for (const one of connections.inbound()) one.abort('policy_changed', 'denied now');
      }),
    );
    try {
      assertRefused(await scene.open());
      assert.partialDeepStrictEqual(await scene.lastFailure(), { reason: 'policy_changed' });
      await until(() => scene.app.dialled === 1, 'it was dialled');
      assert.deepEqual([scene.app.heard, scene.connections.count('inbound')], [0, 0]);
    } finally {
      scene.close();
    }
  });
});
