// An application behind a PROXY tunnel for tests, run as a process in a pod: listens on loopback only, reads the header
// of PROXY protocol version 2 and one line, and answers with the header's body (hex), who its client is, and the line.
import { createServer } from 'node:net';
import type { Server } from 'node:net';

const [port = '9000'] = process.argv.slice(2);
const HEAD_BYTES = 16;
const server = (): Server =>
  createServer((socket) => {
    let bytes = Buffer.alloc(0);
    socket.on('data', (chunk: Buffer) => {
      bytes = Buffer.concat([bytes, chunk]);
      if (bytes.length < HEAD_BYTES) return;
      const end = HEAD_BYTES + bytes.readUInt16BE(14);
      const line = bytes.subarray(end).toString();
      if (line.endsWith('\n')) {
        const header = bytes.subarray(HEAD_BYTES, end).toString('hex');
        socket.end(`${header} ${socket.remoteAddress ?? ''} ${line}`);
      }
    });
    socket.on('error', () => socket.destroy());
  });
server().listen(Number(port), '127.0.0.1', () =>
  server().listen(Number(port), '::1', () => process.stdout.write('listening\n')),
);
