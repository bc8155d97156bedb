// Joins its standard input and output to a loopback port of the netns it was started in; for port-forward. A program
// that listens on ::1 only is found too.
import { connect, type LookupFunction } from 'node:net';

const port = Number(process.argv[2]);
const lookup: LookupFunction = (_host, _options, done) =>
  done(null, [
    { address: '127.0.0.1', family: 4 },
    { address: '::1', family: 6 },
  ]);
const socket = connect({ host: 'localhost', port, lookup, allowHalfOpen: true }, () => {
  process.stdin.pipe(socket);
  socket.pipe(process.stdout);
});
socket.on('error', (err) => {
  process.stderr.write(`cannot forward to port ${port}: ${err.message}`);
  process.exit(1);
});
socket.on('close', () => process.stdin.destroy());
