// The limit of a pod's connections, over tunnels: requests that wait for the pod's policies count too, also when their client has
// taken them back.
import assert from 'node:assert/strict';
import { after, it } from 'node:test';
import { HbonePool, isTunnelFailure } from '../../../common/hbone/tunnel-pool.ts';
import type { Tunnel, TunnelFailure } from '../../../common/hbone/types.ts';
import { Netns } from '../../../engine/reactor/netns.ts';
import { openTcpListener } from '../../../engine/reactor/socket-options.ts';
import { connectTcp } from '../../../engine/reactor/tcp-connect.ts';
import { TlsContext } from '../../../engine/tls/tls-context.ts';
import { HBONE_PORT, OUTBOUND_PORT, PLAINTEXT_PORT } from '../../../ztunnel/inpod/pod-sockets.ts';
import { PodProxy } from '../../../ztunnel/proxy/pod-proxy.ts';
import { openPodShare, podShareMemory } from '../../../ztunnel/proxy/pod-share.ts';
import { quietLogger } from '../../support/quiet-logger.ts';
import { TestAuthority } from '../engine/certificates.ts';
import { startReactor, until } from '../engine/support.ts';
import { makeContext } from './proxy-context.ts';

const LIMIT = 3;
const ID = 'spiffe://cluster.local/ns/default/sa/pod';
const POD = { name: 'pod', namespace: 'default', serviceAccount: 'pod' };
const reactor = startReactor();
const authority = new TestAuthority();
const material = authority.issue('pod', ID);
const client = TlsContext.client(material);
after(() => {
  client.close();
  authority.remove();
  reactor.close();
});

it('requests that wait for a policy count against the limit, and no longer than they wait', async () => {
  const context = makeContext(reactor, quietLogger(), {
    env: { POD_MAX_CONNECTIONS: String(LIMIT) },
    pod: { authorizationPolicies: ['default/late'] },
  });
  context.certificates.put({
    ...{ identity: ID, serial: '1', notBeforeMs: 0, notAfterMs: Date.now() + 60_000 },
    ...material,
  });
  const sockets = [OUTBOUND_PORT, PLAINTEXT_PORT, HBONE_PORT].map((port) => ({
    ...{ port, at: openTcpListener({ address: '127.0.0.1', port: 0 }) },
  }));
  const memory = podShareMemory(2);
  const pod = PodProxy.open(context, 'uid', POD, {
    netns: Netns.own(),
    sockets: sockets.map(({ port, at }) => ({ port, fd: at.fd })),
    share: openPodShare(memory, 0),
  });
  const told = openPodShare(memory, 1).connections;
  const pool = new HbonePool(reactor, {
    dial: ({ address, port }) => connectTcp(reactor, { address, port }),
    context: () => client,
  });
  const { port } = sockets[2]?.at ?? { port: 0 };
  const open = (signal?: AbortSignal): Promise<Tunnel | TunnelFailure> =>
    pool.connect(
      {
        ...{ address: '127.0.0.1', port, authority: '127.0.0.1:9', headers: [] },
        ...{ sourceIdentity: ID, expectedIdentities: [ID] },
      },
      signal,
    );
  try {
    const abort = new AbortController();
    const waiting = Array.from({ length: LIMIT }, () => open(abort.signal));
    await until(() => told.others === LIMIT, 'all of them are told of');
    // Their client has gone; what was begun for them has not.
    abort.abort();
    await Promise.all(waiting);
    const refused = await open();
    assert.ok(isTunnelFailure(refused));
    assert.equal(refused.status, 503, 'no more than the limit wait');
    assert.equal(told.others, LIMIT);
    await until(() => told.others === 0, 'the wait is over');
    assert.equal(pod.use.limitedTotal, 1);
  } finally {
    pool.close('test ends');
    pod.close('pod_removed', 'test ends');
  }
});
