// A TCP server for tests, run as a process in a pod's namespace: answers each line with `NAME saw PEER: LINE`.
import { createServer } from 'node:net';

const [name = 'server', port = '8080'] = process.argv.slice(2);
const server = createServer({ allowHalfOpen: true }, (socket) => {
  const peer = (socket.remoteAddress ?? '').replace('::ffff:', '');
  let text = '';
  socket.on('data', (chunk) => {
    text += chunk.toString();
    for (let at = text.indexOf('\n'); at >= 0; at = text.indexOf('\n')) {
      socket.write(`${name} saw ${peer}: ${text.slice(0, at)}\n`);
      text = text.slice(at + 1);
    }
  });
  socket.on('end', () => socket.end());
  socket.on('error', () => socket.destroy());
});
server.listen(Number(port), '::', () => process.stdout.write('listening\n'));
// As an application does that is told to end: nothing new, what runs is finished.
process.on('SIGTERM', () => server.close());
