// A small TCP peer for tests, started inside a network namespace.
//   serve PORT NAME            each connection is greeted with NAME, then echoed
//   connect HOST PORT [SOURCE] prints the greeting, then sends each line of stdin and prints the answer
import { connect, createServer } from 'node:net';

const [mode, a = '', b = '', source] = process.argv.slice(2);
if (mode === 'serve') {
  const server = createServer((socket) => {
    socket.on('error', () => socket.destroy());
    socket.write(`${b}\n`);
    socket.pipe(socket);
  });
  server.listen(Number(a), '::', () => process.stdout.write('ready\n'));
} else {
  const socket = connect({
    host: a,
    port: Number(b),
    ...(source === undefined ? {} : { localAddress: source }),
  });
  socket.on('error', (err) => {
    process.stdout.write(`error ${err.message}\n`);
    process.exit(1);
  });
  socket.on('end', () => process.exit(0));
  socket.pipe(process.stdout);
  process.stdin.pipe(socket);
}
