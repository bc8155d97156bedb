// A server for tests, as a process in a pod: whoever sends a line gets bytes as long as it takes them.
import { createServer } from 'node:net';
import type { Socket } from 'node:net';

const [port = '8081'] = process.argv.slice(2);
const CHUNK = Buffer.alloc(65_536, 'x');

function flood(socket: Socket): void {
  while (socket.writable && socket.write(CHUNK));
  socket.once('drain', () => flood(socket));
}

createServer((socket) => {
  socket.once('data', () => flood(socket));
  socket.on('error', () => socket.destroy());
}).listen(Number(port), '::', () => process.stdout.write('listening\n'));
