// A TCP client for tests, run as a process in a pod: waits for the server to speak and to end its direction, sends COUNT
// bytes after that, and ends. Prints JSON: what it heard, and the SHA-256 of what it sent.
import { once } from 'node:events';
import { connect } from 'node:net';
import { checkedBytes, checkedDigest } from './checked-bytes.ts';

const [host = '', port = '8083', size = '0'] = process.argv.slice(2);
const count = Number(size);
const socket = connect({ host, port: Number(port), allowHalfOpen: true });
let heard = '';
socket.on('data', (chunk: Buffer) => (heard += chunk.toString()));
await once(socket, 'end');
for (const block of checkedBytes('up', count)) {
  if (!socket.write(block)) await once(socket, 'drain');
}
socket.end();
await once(socket, 'finish');
process.stdout.write(`${JSON.stringify({ heard, digest: checkedDigest('up', count) })}\n`);
