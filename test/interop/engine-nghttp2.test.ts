// Our HTTP/2 server against nghttp2's own tools: nghttp (bodies, trailers) over mutual TLS, and h2load
// (many streams and connections) over plain TCP.
import assert from 'node:assert/strict';
import { execFile } from 'node:child_process';
import { after, describe, it } from 'node:test';
import { promisify } from 'node:util';
import { serveHttp2 } from '../../engine/http2/http2-session.ts';
import type { Http2Session } from '../../engine/http2/types.ts';
import type { Duplex } from '../../engine/reactor/duplex.ts';
import { openTcpListener } from '../../engine/reactor/socket-options.ts';
import { TcpListener } from '../../engine/reactor/tcp-listener.ts';
import { startTls } from '../../engine/tls/tls-connection.ts';
import { TlsContext } from '../../engine/tls/tls-context.ts';
import { TestAuthority, spiffe } from '../integration/engine/certificates.ts';
import { startReactor } from '../integration/engine/support.ts';

const run = promisify(execFile);
const reactor = startReactor();
const authority = new TestAuthority();
const context = TlsContext.server(authority.issue('server', spiffe('server')));
authority.issue('client', spiffe('client'));
const sessions: Http2Session[] = [];

function serve(transport: Duplex): void {
  const session = serveHttp2(
    reactor,
    transport,
    { settings: { maxConcurrentStreams: 100 }, pingIntervalMs: 0, pingTimeoutMs: 0 },
    {
      onStream: (stream) => {
        stream.respond([[':status', '200']], false);
        stream.writeBytes(Buffer.alloc(2000, 'x'));
        stream.handler = {
          onData: (at, length) => void stream.write(at, length),
          onEnd: () => stream.endWithTrailers([['x-trailer', 'seen']]),
          onDrain: () => undefined,
          onClose: () => undefined,
        };
        stream.resume();
        return undefined;
      },
      onGoaway: () => undefined,
      onClose: () => undefined,
    },
  );
  sessions.push(session);
}

const secure = openTcpListener({ address: '127.0.0.1', port: 0 });
const plain = openTcpListener({ address: '127.0.0.1', port: 0 });
const listeners = [
  new TcpListener(reactor, secure.fd, (tcp) => void startTls(tcp, context).then(serve)),
  new TcpListener(reactor, plain.fd, serve),
];
after(() => {
  for (const listener of listeners) listener.close();
  for (const session of sessions) session.close('test ends');
  context.close();
  authority.remove();
  reactor.close();
});

describe('nghttp2 tools', () => {
  it('nghttp gets bodies and trailers', async () => {
    const { stdout } = await run('nghttp', [
      '-v',
      '-n',
      `--cert=${authority.path('client.pem')}`,
      `--key=${authority.path('client.key')}`,
      `--data=${authority.path('ca.pem')}`,
      `https://127.0.0.1:${secure.port}/`,
    ]);
    assert.match(stdout, /:status: 200/);
    assert.match(stdout, /x-trailer: seen/);
    assert.doesNotMatch(stdout, /(PROTOCOL|INTERNAL|FLOW_CONTROL)_ERROR/);
  });

  it('h2load finishes every request', async () => {
    const { stdout } = await run('h2load', [
      '-n5000',
      '-c10',
      '-m50',
      `http://127.0.0.1:${plain.port}/`,
    ]);
    assert.match(stdout, /5000 succeeded, 0 failed, 0 errored, 0 timeout/);
    assert.match(stdout, /5000 2xx/);
  });
});
