// What an application has sent already travels with the request for its tunnel, before the answer: a round trip less for
// each new connection. It must reach nobody who refuses, and go out again only where the first cannot have had it.
import assert from 'node:assert/strict';
import { after, afterEach, beforeEach, describe, it } from 'node:test';
import { HbonePool, isTunnelFailure } from '../../../common/hbone/tunnel-pool.ts';
import { HboneServer } from '../../../common/hbone/tunnel-server.ts';
import type { Tunnel, TunnelFailure, TunnelRequest } from '../../../common/hbone/types.ts';
import { nativeQueueCount } from '../../../engine/reactor/bytes.ts';
import { openTcpListener } from '../../../engine/reactor/socket-options.ts';
import { connectTcp } from '../../../engine/reactor/tcp-connect.ts';
import { TcpListener } from '../../../engine/reactor/tcp-listener.ts';
import { TlsContext } from '../../../engine/tls/tls-context.ts';
import { describeTunnelFailure, TunnelError } from '../../../ztunnel/proxy/failures.ts';
import { TestAuthority, spiffe } from '../engine/certificates.ts';
import { collect, startReactor, until } from '../engine/support.ts';

const reactor = startReactor();
const authority = new TestAuthority();
const clientContext = TlsContext.client(authority.issue('client', spiffe('client')));
const serverContext = TlsContext.server(authority.issue('server', spiffe('server')));
after(() => {
  clientContext.close();
  serverContext.close();
  authority.remove();
  reactor.close();
});

const EARLY = Buffer.from('GET / HTTP/1.1\r\n\r\n');

describe('early bytes', () => {
  let server: HboneServer;
  let listener: TcpListener;
  let port = 0;
  let pool: HbonePool;
  let requests: TunnelRequest[];
  let onRequest: (request: TunnelRequest) => void;
  let taken = 0;

  beforeEach(() => {
    requests = [];
    taken = 0;
    onRequest = () => undefined;
    server = new HboneServer({
      context: () => serverContext,
      onRequest: (request) => {
        requests.push(request);
        onRequest(request);
      },
    });
    const bound = openTcpListener({ address: '127.0.0.1', port: 0 });
    port = bound.port;
    listener = new TcpListener(reactor, bound.fd, (stream) => server.accept(stream));
    pool = new HbonePool(reactor, {
      dial: (target) => connectTcp(reactor, target),
      context: () => clientContext,
      responseTimeoutMs: 1000,
    });
  });

  afterEach(() => {
    pool.close('done');
    listener.close();
    server.close('done');
  });

  function open(bytes: Uint8Array = EARLY): Promise<Tunnel | TunnelFailure> {
    return pool.connect({
      address: '127.0.0.1',
      port,
      authority: '10.0.0.9:80',
      headers: [],
      sourceIdentity: spiffe('client'),
      expectedIdentities: [spiffe('server')],
      early: { take: () => (taken++, bytes) },
    });
  }

  async function failure(): Promise<TunnelFailure> {
    const result = await open();
    assert.ok(isTunnelFailure(result), 'there is a tunnel');
    return result;
  }

  it('are there before the server has answered, once, and before what follows', async () => {
    onRequest = (request) => {
      const timer = setInterval(() => {
        // Held in native memory: nothing was accepted yet.
        if (nativeQueueCount() === 0) return;
        clearInterval(timer);
        const stream = request.accept([]);
        const seen = collect(stream);
        void seen.end.then(() => {
          stream.writeBytes(Buffer.from(seen.text()));
          stream.end();
        });
      }, 5);
    };
    const tunnel = await open();
    assert.ok(!isTunnelFailure(tunnel), JSON.stringify(tunnel));
    assert.equal(tunnel.earlyBytes, EARLY.length);
    const answer = collect(tunnel.stream);
    tunnel.stream.writeBytes(Buffer.from('more'));
    tunnel.stream.end();
    await answer.end;
    assert.equal(answer.text(), `${String(EARLY)}more`);
  });

  it('without any the request goes alone', async () => {
    onRequest = (request) => request.accept([]).resume();
    const tunnel = await open(new Uint8Array(0));
    assert.ok(!isTunnelFailure(tunnel));
    assert.equal(tunnel.earlyBytes, 0);
  });

  for (const status of [401, 503]) {
    it(`a server that refuses with ${status} has passed nothing on: the rules of ${status} hold`, async () => {
      onRequest = (request) => request.refuse(status);
      const refused = await failure();
      assert.deepEqual([refused.status, refused.mayBeDelivered], [status, undefined]);
      const { canRetry } = describeTunnelFailure(new TunnelError(refused));
      assert.equal(canRetry, status === 503);
    });
  }

  it('a connection that breaks before the answer is not tried again: the application may have had them', async () => {
    onRequest = () => setImmediate(() => listenerBreaks());
    const listenerBreaks = (): void => pool.close('cut');
    const broken = await failure();
    assert.deepEqual([broken.code, broken.mayBeDelivered], ['h2', true]);
    const { canRetry, canWait } = describeTunnelFailure(new TunnelError(broken));
    assert.deepEqual([canRetry, canWait], [false, false]);
  });

  it('no answer in time is not tried again either', async () => {
    const late = await failure();
    assert.deepEqual([late.code, late.mayBeDelivered], ['timeout', true]);
    assert.equal(describeTunnelFailure(new TunnelError(late)).canRetry, false);
  });

  it('a server that goes says of each request that waits that nothing was done: they are sent again', async () => {
    onRequest = (request) => {
      if (requests.length > 1) request.accept([]).resume();
    };
    const opening = open();
    await until(() => requests.length === 1, 'a request');
    server.close('the pod leaves');
    const tunnel = await opening;
    assert.ok(!isTunnelFailure(tunnel), JSON.stringify(tunnel));
    assert.deepEqual([requests.length, taken], [2, 2]);
  });
});
