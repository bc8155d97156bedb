// Joins its standard input and output to a loopback port of the netns it was started in; for port-forward.
import { connect } from 'node:net';

const port = Number(process.argv[2]);
const socket = connect({ host: '127.0.0.1', port, allowHalfOpen: true }, () => {
  process.stdin.pipe(socket);
  socket.pipe(process.stdout);
});
socket.on('error', (err) => {
  process.stderr.write(`cannot forward to port ${port}: ${err.message}`);
  process.exit(1);
});
socket.on('close', () => process.stdin.destroy());
