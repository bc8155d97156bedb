// A pooled connection that can open no more streams, as nghttp2 says it: their numbers are used up, or memory is.
import assert from 'node:assert/strict';
import { after, it } from 'node:test';
import { HbonePool, isTunnelFailure } from '../../../common/hbone/tunnel-pool.ts';
import { HboneServer } from '../../../common/hbone/tunnel-server.ts';
import { OwnedSession } from '../../../engine/http2/owned-session.ts';
import { openTcpListener } from '../../../engine/reactor/socket-options.ts';
import { StreamError } from '../../../engine/reactor/stream-error.ts';
import { connectTcp } from '../../../engine/reactor/tcp-connect.ts';
import { TcpListener } from '../../../engine/reactor/tcp-listener.ts';
import { TlsContext } from '../../../engine/tls/tls-context.ts';
import { TestAuthority, spiffe } from '../engine/certificates.ts';
import { startReactor } from '../engine/support.ts';

const reactor = startReactor();
const authority = new TestAuthority();
const material = authority.issue('a', spiffe('a'));
const contexts = { client: TlsContext.client(material), server: TlsContext.server(material) };
after(() => {
  contexts.client.close();
  contexts.server.close();
  authority.remove();
  reactor.close();
});

it('is told to who asks, and nothing is timed for a stream that is not there', async (t) => {
  const server = new HboneServer({ context: () => contexts.server, onRequest: () => undefined });
  const { fd, port } = openTcpListener({ address: '127.0.0.1', port: 0 });
  const listener = new TcpListener(reactor, fd, (stream) => server.accept(stream));
  const pool = new HbonePool(reactor, {
    dial: (target) => connectTcp(reactor, target),
    context: () => contexts.client,
    responseTimeoutMs: 50,
  });
  t.mock.method(OwnedSession.prototype, 'request', () => {
    throw new StreamError('protocol', 'cannot open stream');
  });
  const thrown: unknown[] = [];
  const onThrown = (err: unknown): void => void thrown.push(err);
  process.on('uncaughtException', onThrown);
  try {
    const result = await pool.connect({
      ...{ address: '127.0.0.1', port, authority: '127.0.0.1:9', headers: [] },
      ...{ sourceIdentity: spiffe('a'), expectedIdentities: [spiffe('a')] },
    });
    assert.ok(isTunnelFailure(result));
    assert.match(result.detail, /cannot open stream/);
    await new Promise<void>((resolve) => {
      reactor.after(150, resolve);
    });
    assert.deepEqual(thrown, []);
  } finally {
    process.off('uncaughtException', onThrown);
    pool.close('test ends');
    server.close('test ends');
    listener.close();
  }
});
