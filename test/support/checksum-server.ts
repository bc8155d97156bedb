// A server for tests, as a process in a pod: takes bytes until the client half-closes, answers with a line (how many, and
// their SHA-256), then as many bytes of its own, then ends. See checksum-client.ts.
import { createHash } from 'node:crypto';
import { createServer } from 'node:net';
import { pipeline } from 'node:stream/promises';
import { Readable } from 'node:stream';
import { checkedBytes } from './checked-bytes.ts';

const [port = '8082'] = process.argv.slice(2);

const server = createServer({ allowHalfOpen: true }, (socket) => {
  const hash = createHash('sha256');
  let count = 0;
  socket.on('data', (chunk: Buffer) => {
    hash.update(chunk);
    count += chunk.length;
  });
  socket.on('error', () => socket.destroy());
  socket.on('end', () => {
    socket.write(`${count} ${hash.digest('hex')}\n`);
    pipeline(Readable.from(checkedBytes('down', count)), socket).catch(() => socket.destroy());
  });
});
server.listen(Number(port), '::', () => process.stdout.write('listening\n'));
