// A TCP server for tests, run as a process in a pod: speaks first and ends its direction at once, then listens to the end of
// the other. Says what it got as lines on standard output: the number of bytes and their SHA-256.
import { createHash } from 'node:crypto';
import { createServer } from 'node:net';

const [port = '8083'] = process.argv.slice(2);
const server = createServer({ allowHalfOpen: true }, (socket) => {
  const hash = createHash('sha256');
  let count = 0;
  socket.end('first and last\n');
  socket.on('data', (chunk: Buffer) => {
    hash.update(chunk);
    count += chunk.length;
  });
  socket.on('error', () => socket.destroy());
  socket.on('end', () => process.stdout.write(`${count} ${hash.digest('hex')}\n`));
});
server.listen(Number(port), '::', () => process.stdout.write('listening\n'));
