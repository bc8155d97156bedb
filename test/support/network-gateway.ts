// A network gateway for tests, run as a process in a pod: ends the outer tunnel on 15008 with the certificate in CERT and
// KEY, and joins each CONNECT to HOST's 15008, whatever its authority; each is told on standard output. It cannot see
// into the inner tunnel.
import { createSecureServer } from 'node:http2';
import { connect } from 'node:net';

const [host = ''] = process.argv.slice(2);
const { CERT: cert = '', KEY: key = '' } = process.env;
const server = createSecureServer({ cert, key, requestCert: true, rejectUnauthorized: false });
server.on('stream', (stream, headers) => {
  const { ':method': method, ':authority': authority } = headers;
  process.stdout.write(`${String(method)} ${String(authority)}\n`);
  const socket = connect({ host, port: 15008, allowHalfOpen: true }, () => {
    stream.respond({ ':status': 200 });
    stream.pipe(socket).pipe(stream);
  });
  socket.on('error', () => stream.close());
  stream.on('error', () => socket.destroy());
  stream.on('close', () => socket.destroy());
});
server.on('sessionError', () => undefined);
server.listen(15008, '::', () => process.stdout.write('listening\n'));
