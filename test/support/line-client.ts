// A TCP client for tests, run as a process in a pod's namespace: copies its standard input to HOST PORT and the
// answer to its standard output; exits 0 when the connection ended in order, 3 when it did not.
import { connect } from 'node:net';

const [host = '', port = '0'] = process.argv.slice(2);
const socket = connect({ host, port: Number(port), allowHalfOpen: true });
socket.on('connect', () => {
  process.stdin.pipe(socket);
});
socket.on('data', (chunk) => process.stdout.write(chunk));
socket.on('end', () => {
  socket.end();
  process.exitCode = 0;
  process.stdin.destroy();
});
socket.on('error', (err: NodeJS.ErrnoException) => {
  process.stderr.write(`${err.code ?? err.message}\n`);
  process.exitCode = 3;
  process.stdin.destroy();
});
