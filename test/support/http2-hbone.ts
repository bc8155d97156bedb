// A peer of tunnels for tests that is not ours: node:http2, run as a process in a pod with CERT, KEY and CA.
// `client HOST PORT...` carries each connection to a port of loopback to HOST's same port by HBONE; `server ADDRESS PORT...`
// ends tunnels to these ports of ADDRESS at the same port of loopback. Each tunnel is told on standard output, as JSON.
import { connect as connectHttp2, createSecureServer } from 'node:http2';
import type { Http2Stream } from 'node:http2';
import { connect, createServer } from 'node:net';
import type { Socket } from 'node:net';
import type { TLSSocket } from 'node:tls';

const [role = '', host = '', ...ports] = process.argv.slice(2);
const { CERT: cert = '', KEY: key = '', CA: ca = '' } = process.env;
const WINDOW = 4 << 20;
const settings = { initialWindowSize: WINDOW, enablePush: false };

function tell(fields: object): void {
  process.stdout.write(`${JSON.stringify(fields)}\n`);
}

const namesOf = (socket: TLSSocket): string => socket.getPeerCertificate().subjectaltname ?? '';

function join(stream: Http2Stream, socket: Socket): void {
  stream.pipe(socket);
  socket.pipe(stream);
  socket.on('error', () => stream.close(8));
  stream.on('error', () => socket.resetAndDestroy());
  stream.on('close', () => {
    if (stream.rstCode !== 0) socket.resetAndDestroy();
  });
}

function runClient(): void {
  const session = connectHttp2(`https://${host}:15008`, {
    ...{ cert, key, ca, settings, checkServerIdentity: () => undefined },
  });
  session.on('error', (err: Error) => tell({ failed: err.message }));
  for (const port of ports) {
    const server = createServer({ allowHalfOpen: true, pauseOnConnect: true }, (socket) => {
      const authority = `${host}:${port}`;
      const stream = session.request(
        { ':method': 'CONNECT', ':authority': authority },
        { endStream: false },
      );
      stream.on('response', ({ ':status': status }) => {
        tell({ authority, status, peer: namesOf(session.socket as TLSSocket) });
        if (status === 200) join(stream, socket);
        else socket.resetAndDestroy();
      });
      stream.on('error', () => socket.resetAndDestroy());
    });
    server.listen(Number(port), '127.0.0.1');
  }
}

function runServer(): void {
  const server = createSecureServer({ cert, key, ca, requestCert: true, settings });
  server.on('stream', (stream, headers) => {
    const { ':authority': authority = '', baggage, forwarded } = headers;
    const port = authority.slice(host.length + 1);
    const isServed = headers[':method'] === 'CONNECT' && ports.includes(port);
    const peer = namesOf(stream.session?.socket as TLSSocket);
    tell({ authority, status: isServed ? 200 : 404, peer, baggage, forwarded });
    stream.on('error', () => undefined);
    if (!isServed) {
      stream.respond({ ':status': 404 }, { endStream: true });
      return;
    }
    const socket = connect({ host: '127.0.0.1', port: Number(port), allowHalfOpen: true }, () => {
      stream.respond({ ':status': 200 });
      join(stream, socket);
    });
  });
  server.on('sessionError', () => undefined);
  server.listen(15_008, '0.0.0.0');
}

if (role === 'client') runClient();
else runServer();
tell({ role });
