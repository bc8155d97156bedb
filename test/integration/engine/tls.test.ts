// Our TLS against node:tls and the openssl command, as server and client: chains, names, ALPN, versions, faults.
import assert from 'node:assert/strict';
import { spawn } from 'node:child_process';
import { once } from 'node:events';
import net from 'node:net';
import { after, describe, it } from 'node:test';
import tls from 'node:tls';
import { nativeQueueCount } from '../../../engine/reactor/bytes.ts';
import type { CloseReason } from '../../../engine/reactor/duplex.ts';
import { openTcpListener } from '../../../engine/reactor/socket-options.ts';
import { StreamError } from '../../../engine/reactor/stream-error.ts';
import { connectTcp } from '../../../engine/reactor/tcp-connect.ts';
import { TcpListener } from '../../../engine/reactor/tcp-listener.ts';
import {
  startTls,
  tlsConnectionCount,
  type TlsOptions,
} from '../../../engine/tls/tls-connection.ts';
import { TlsContext } from '../../../engine/tls/tls-context.ts';
import type { TlsConnection } from '../../../engine/tls/types.ts';
import { TestAuthority, spiffe } from './certificates.ts';
import { collect, startReactor, until } from './support.ts';

const reactor = startReactor();
const authority = new TestAuthority();
const client = authority.issue('client', spiffe('client'));
const server = authority.issue('server', spiffe('server'));
const forServers = authority.issue('for-servers', spiffe('client'), 'ca', 'serverAuth');
const forClients = authority.issue('for-clients', spiffe('server'), 'ca', 'clientAuth');
const serverContext = TlsContext.server(server);
const clientContext = TlsContext.client(client);
after(() => {
  serverContext.close();
  clientContext.close();
  authority.remove();
  reactor.close();
});

function ourServer(
  options: TlsOptions = {},
  context = serverContext,
): {
  port: number;
  connections: TlsConnection[];
  failures: CloseReason[];
  close(): void;
} {
  const bound = openTcpListener({ address: '127.0.0.1', port: 0 });
  const connections: TlsConnection[] = [];
  const failures: CloseReason[] = [];
  const listener = new TcpListener(reactor, bound.fd, (tcp) => {
    startTls(tcp, context, options).then(
      (connection) => {
        connections.push(connection);
        connection.handler = {
          onData: (at, length) => void connection.write(at, length),
          onEnd: () => connection.end(),
          onDrain: () => undefined,
          onClose: () => undefined,
        };
        connection.resume();
      },
      (err: unknown) => void failures.push((err as StreamError).reason),
    );
  });
  return { port: bound.port, connections, failures, close: () => listener.close() };
}

function nodeOptions(port: number): tls.ConnectionOptions {
  return {
    host: '127.0.0.1',
    port,
    ca: authority.rootsPem,
    cert: client.certChainPem,
    key: client.privateKeyPem,
    ALPNProtocols: ['h2'],
    checkServerIdentity: () => undefined,
  };
}

async function nodeServer(
  options: tls.TlsOptions,
  onSocket: (socket: tls.TLSSocket) => void = (socket) => void socket.pipe(socket),
): Promise<{ port: number; server: tls.Server }> {
  const listening = tls.createServer(
    {
      ca: authority.rootsPem,
      cert: server.certChainPem,
      key: server.privateKeyPem,
      requestCert: true,
      rejectUnauthorized: true,
      ALPNProtocols: ['h2'],
      ...options,
    },
    (socket) => {
      socket.on('error', () => undefined);
      onSocket(socket);
    },
  );
  listening.listen(0, '127.0.0.1');
  await once(listening, 'listening');
  return { port: (listening.address() as net.AddressInfo).port, server: listening };
}

async function connectOurs(port: number, options: TlsOptions = {}): Promise<TlsConnection> {
  return startTls(
    await connectTcp(reactor, { address: '127.0.0.1', port }),
    clientContext,
    options,
  );
}

function rejectsWith(code: string, detail: RegExp): (err: unknown) => boolean {
  return (err) => {
    assert.ok(err instanceof StreamError);
    assert.match(
      `${err.reason.code}: ${err.reason.detail}`,
      new RegExp(`^${code}: .*${detail.source}`),
    );
    return true;
  };
}

/** Extension numbers of a ClientHello (RFC 8446 4.1.2) in one record. */
function extensionsOfHello(record: Buffer): number[] {
  let at = 5 + 4 + 2 + 32;
  at += 1 + record.readUInt8(at);
  at += 2 + record.readUInt16BE(at);
  at += 1 + record.readUInt8(at);
  const end = at + 2 + record.readUInt16BE(at);
  const found: number[] = [];
  for (at += 2; at < end; at += 4 + record.readUInt16BE(at + 2))
    found.push(record.readUInt16BE(at));
  return found;
}

/** What the openssl command says of a handshake with our server, and of what comes after it. */
async function sClient(port: number, ...args: string[]): Promise<string> {
  const files = ['-CAfile', 'ca.pem', '-cert', 'client.pem', '-key', 'client.key'];
  const argv = ['s_client', '-connect', `127.0.0.1:${port}`, '-alpn', 'h2', ...files, ...args];
  const child = spawn('openssl', argv, { cwd: authority.dir });
  let text = '';
  child.stdout.on('data', (chunk: Buffer) => (text += chunk.toString()));
  child.stdin.write('some bytes\n');
  // Tickets come after the handshake, before the echo.
  await until(() => text.includes('some bytes') || child.exitCode !== null, 'the echo');
  child.kill();
  await once(child, 'close');
  return text;
}

const certificatesIn = (text: string): number => text.split('BEGIN CERTIFICATE').length - 1;

describe('tls server', () => {
  it('sends its leaf and intermediates, and no root', async () => {
    const direct = ourServer();
    assert.equal(certificatesIn(await sClient(direct.port, '-showcerts')), 1);
    direct.close();
    const context = TlsContext.server(authority.issueByIntermediate('far', spiffe('far')));
    const far = ourServer({}, context);
    const text = await sClient(far.port, '-showcerts', '-verify_return_error');
    assert.match(text, /Verify return code: 0 \(ok\)/);
    assert.equal(certificatesIn(text), 2);
    far.close();
    context.close();
  });

  it('gives no session tickets, and resumes nothing', async () => {
    const ours = ourServer();
    const session = authority.path('session.pem');
    const text = await sClient(ours.port, '-sess_out', session);
    assert.match(text, /New, TLSv1.3/);
    assert.doesNotMatch(text, /New Session Ticket/);
    const socket = tls.connect(nodeOptions(ours.port));
    let tickets = 0;
    socket.on('session', () => tickets++);
    await once(socket, 'secureConnect');
    const kept = socket.getSession();
    socket.write('x');
    await once(socket, 'data');
    socket.destroy();
    const again = tls.connect({ ...nodeOptions(ours.port), session: kept });
    await once(again, 'secureConnect');
    assert.deepEqual([tickets, again.isSessionReused()], [0, false]);
    again.destroy();
    ours.close();
  });

  it('with one key exchange takes no other', async () => {
    const context = TlsContext.server(server, { groups: 'X25519MLKEM768' });
    const bound = openTcpListener({ address: '127.0.0.1', port: 0 });
    const listener = new TcpListener(reactor, bound.fd, (tcp) => {
      startTls(tcp, context).catch(() => undefined);
    });
    const socket = tls.connect(nodeOptions(bound.port));
    await once(socket, 'secureConnect');
    assert.partialDeepStrictEqual(socket.getEphemeralKeyInfo(), { name: 'X25519MLKEM768' });
    socket.destroy();
    const other = tls.connect({ ...nodeOptions(bound.port), ecdhCurve: 'X25519:P-256' });
    await assert.rejects(once(other, 'secureConnect'), /handshake failure/);
    listener.close();
    context.close();
  });

  it('serves node:tls: TLS 1.3, AES-GCM, ALPN, the peer known by its URI SAN', async () => {
    const ours = ourServer();
    const socket = tls.connect(nodeOptions(ours.port));
    await once(socket, 'secureConnect');
    assert.equal(socket.getProtocol(), 'TLSv1.3');
    assert.equal(socket.getCipher().name, 'TLS_AES_256_GCM_SHA384');
    assert.equal(socket.alpnProtocol, 'h2');
    socket.end(Buffer.alloc(1_000_000, 7));
    let bytes = 0;
    socket.on('data', (chunk: Buffer) => (bytes += chunk.length));
    await once(socket, 'end');
    assert.equal(bytes, 1_000_000);
    assert.deepEqual(ours.connections[0]?.peer, { uriSans: [spiffe('client')], alpn: 'h2' });
    ours.close();
  });

  it('serves whatever server name a client asks for: names are no matter of DNS here', async () => {
    const ours = ourServer();
    const socket = tls.connect({ ...nodeOptions(ours.port), servername: 'other.example.com' });
    await once(socket, 'secureConnect');
    socket.destroy();
    ours.close();
  });

  it('prefers AES-256 to AES-128, whatever the client does', async () => {
    const ours = ourServer();
    const [strong, weak] = ['TLS_AES_256_GCM_SHA384', 'TLS_AES_128_GCM_SHA256'];
    for (const [ciphers, taken] of [
      [`${strong}:${weak}`, strong],
      [`TLS_CHACHA20_POLY1305_SHA256:${weak}`, weak],
    ] as const) {
      const socket = tls.connect({ ...nodeOptions(ours.port), ciphers });
      await once(socket, 'secureConnect');
      assert.equal(socket.getCipher().name, taken);
      socket.destroy();
    }
    ours.close();
  });

  for (const [ecdhCurve, name] of [
    ['X25519', 'X25519'],
    ['P-256', 'prime256v1'],
    ['P-384', 'secp384r1'],
    ['X25519MLKEM768', 'X25519MLKEM768'],
  ] as const) {
    it(`agrees on keys by ${ecdhCurve}`, async () => {
      const ours = ourServer();
      const socket = tls.connect({ ...nodeOptions(ours.port), ecdhCurve });
      await once(socket, 'secureConnect');
      assert.partialDeepStrictEqual(socket.getEphemeralKeyInfo(), { name });
      socket.destroy();
      ours.close();
    });
  }

  const faults: [string, tls.ConnectionOptions, RegExp][] = [
    ['no client certificate', { cert: '', key: '' }, /certificate/],
    ['ChaCha20', { ciphers: 'TLS_CHACHA20_POLY1305_SHA256' }, /no shared cipher/],
    ['TLS 1.2', { maxVersion: 'TLSv1.2' }, /protocol/],
    ['another ALPN', { ALPNProtocols: ['http/1.1'] }, /alpn|no application protocol/],
  ];
  for (const [name, override, detail] of faults) {
    it(`refuses ${name}`, async () => {
      const ours = ourServer();
      const options = { ...nodeOptions(ours.port), ...override };
      if (options.cert === '') {
        delete options.cert;
        delete options.key;
      }
      const socket = tls.connect(options);
      socket.on('error', () => undefined);
      await until(() => ours.failures.length === 1, 'refusal');
      assert.equal(ours.failures[0]?.code, 'tls');
      assert.match(ours.failures[0].detail, detail);
      socket.destroy();
      ours.close();
    });
  }

  it('refuses a client whose certificate is for servers only', async () => {
    const ours = ourServer();
    const { certChainPem: cert, privateKeyPem: key } = forServers;
    const socket = tls.connect({ ...nodeOptions(ours.port), cert, key });
    socket.on('error', () => undefined);
    await until(() => ours.failures.length === 1, 'refusal');
    assert.match(ours.failures[0]?.detail ?? '', /purpose/);
    socket.destroy();
    ours.close();
  });

  it('refuses a peer its owner does not want, a slow one, and garbage', async () => {
    const picky = ourServer({ verifyPeer: (uris) => `not ${uris.join()}` });
    const socket = tls.connect(nodeOptions(picky.port));
    socket.on('error', () => undefined);
    await until(() => picky.failures.length === 1, 'refusal');
    assert.match(picky.failures[0]?.detail ?? '', /not spiffe/);
    socket.destroy();
    picky.close();
    const ours = ourServer({ handshakeTimeoutMs: 30 });
    const silent = net.connect({ host: '127.0.0.1', port: ours.port });
    silent.on('error', () => undefined);
    await until(() => ours.failures.length === 1, 'timeout');
    assert.equal(ours.failures[0]?.code, 'timeout');
    const garbage = net.connect({ host: '127.0.0.1', port: ours.port });
    garbage.on('error', () => undefined);
    garbage.write('GET / HTTP/1.1\r\n\r\n');
    await until(() => ours.failures.length === 2, 'garbage');
    assert.equal(ours.failures[1]?.code, 'tls');
    silent.destroy();
    garbage.destroy();
    ours.close();
  });

  it('limits handshakes that run at once', async () => {
    const ours = ourServer({ maxHandshakes: 1 });
    const sockets = [0, 1].map(() => net.connect({ host: '127.0.0.1', port: ours.port }));
    for (const socket of sockets) socket.on('error', () => undefined);
    await until(() => ours.failures.length === 1, 'limit');
    assert.equal(ours.failures[0]?.code, 'limit');
    for (const socket of sockets) socket.destroy();
    await until(() => ours.failures.length === 2, 'the other');
    ours.close();
  });

  it('talks to openssl s_client', async () => {
    const ours = ourServer();
    const args = ['s_client', '-connect', `127.0.0.1:${ours.port}`, '-alpn', 'h2', '-quiet'];
    args.push('-cert', authority.path('client.pem'), '-key', authority.path('client.key'));
    args.push('-CAfile', authority.path('ca.pem'), '-verify_return_error');
    const child = spawn('openssl', args, { stdio: ['pipe', 'pipe', 'ignore'] });
    child.stdin.write('hello\n');
    const [answer] = (await once(child.stdout, 'data')) as [Buffer];
    assert.equal(answer.toString(), 'hello\n');
    child.kill();
    ours.close();
  });
});

describe('tls client', () => {
  it('exchanges 5 MB with node:tls and half-closes', async () => {
    const { port, server: node } = await nodeServer({ allowHalfOpen: true });
    const connection = await connectOurs(port);
    assert.deepEqual(connection.peer.uriSans, [spiffe('server')]);
    const received = collect(connection);
    for (let i = 0; i < 50; i++) connection.writeBytes(Buffer.alloc(100_000, i));
    connection.end();
    assert.equal((await received.closed).code, 'ok');
    const all = Buffer.concat(received.chunks);
    assert.equal(all.length, 5_000_000);
    assert.ok(all.subarray(-100_000).equals(Buffer.alloc(100_000, 49)));
    node.close();
  });

  it('does not offer compressed certificates, which cost more than the handshake', async () => {
    const listener = net.createServer();
    listener.listen(0, '127.0.0.1');
    await once(listener, 'listening');
    const { port } = listener.address() as net.AddressInfo;
    const accepted = once(listener, 'connection');
    const handshake = startTls(
      await connectTcp(reactor, { address: '127.0.0.1', port }),
      clientContext,
    );
    const [socket] = (await accepted) as [net.Socket];
    const [hello] = (await once(socket, 'data')) as [Buffer];
    socket.destroy();
    await assert.rejects(handshake);
    const extensions = extensionsOfHello(hello);
    assert.ok(extensions.includes(16), 'alpn is there');
    assert.ok(!extensions.includes(27), 'compress_certificate is not');
    listener.close();
  });

  it('refuses a server of another authority, or one with the wrong name', async () => {
    const stranger = new TestAuthority();
    const material = stranger.issue('server', spiffe('server'));
    const { port, server: node } = await nodeServer({
      cert: material.certChainPem,
      key: material.privateKeyPem,
    });
    node.on('tlsClientError', () => undefined);
    await assert.rejects(connectOurs(port), rejectsWith('tls', /issuer|self-signed|verify|unable/));
    node.close();
    const right = await nodeServer({});
    right.server.on('tlsClientError', () => undefined);
    await assert.rejects(
      connectOurs(right.port, { serverName: 'wrong.example' }),
      rejectsWith('tls', /[Hh]ostname/),
    );
    const named = await connectOurs(right.port, { serverName: 'localhost' });
    named.reset();
    right.server.close();
    stranger.remove();
  });

  it('refuses a server whose certificate is for clients only', async () => {
    const { certChainPem: cert, privateKeyPem: key } = forClients;
    const { port, server: node } = await nodeServer({ cert, key });
    node.on('tlsClientError', () => undefined);
    await assert.rejects(connectOurs(port), rejectsWith('tls', /purpose/));
    node.close();
  });

  it('reports a server that closes in the handshake or without close_notify', async () => {
    const rude = net.createServer((socket) => socket.destroy());
    rude.listen(0, '127.0.0.1');
    await once(rude, 'listening');
    await assert.rejects(
      connectOurs((rude.address() as net.AddressInfo).port),
      rejectsWith('(reset|tls|io)', /./),
    );
    rude.close();
    const { port, server: node } = await nodeServer({}, (socket) => socket.destroy());
    const connection = await connectOurs(port);
    assert.notEqual((await collect(connection).closed).code, 'ok');
    node.close();
  });

  it('does not stall behind records that arrive in pieces', async () => {
    const { port, server: node } = await nodeServer({}, (socket) => void socket.pipe(socket));
    // A proxy between them that cuts the bytes anywhere.
    const cutter = net.createServer((socket) => {
      const inner = net.connect({ host: '127.0.0.1', port, noDelay: true });
      socket.setNoDelay(true);
      socket.on('close', () => inner.destroy());
      socket.on('error', () => undefined).pipe(inner.on('error', () => undefined));
      inner.on('data', (chunk: Buffer) => {
        for (let at = 0; at < chunk.length;) {
          const size = 1 + ((at * 7919) % 9000);
          socket.write(chunk.subarray(at, at + size));
          at += size;
        }
      });
      inner.on('end', () => socket.end());
    });
    cutter.listen(0, '127.0.0.1');
    await once(cutter, 'listening');
    const connection = await connectOurs((cutter.address() as net.AddressInfo).port);
    const received = collect(connection, false);
    let sent = 0;
    for (let round = 0; round < 60; round++) {
      const size = 1 + ((round * 104_729) % 60_000);
      connection.writeBytes(Buffer.alloc(size));
      sent += size;
      await until(() => received.bytes === sent, `round ${round}`);
    }
    connection.reset();
    cutter.close();
    node.close();
  });

  it('holds nothing when all is closed', async () => {
    await until(() => tlsConnectionCount() === 0, 'connections released');
    await until(() => reactor.registered === 0, 'descriptors released');
    assert.equal(nativeQueueCount(), 0);
  });
});
