// A SOCKS5 client for tests, run as a process in a pod: asks 127.0.0.1:15080 for HOST PORT without waiting for any answer,
// then sends a line and ends; prints the answer bytes (hex) of the handshake, a space, and the rest as text.
import { connect } from 'node:net';
import { parseIp } from '../../common/workload/ip.ts';

const [host = '', port = '0'] = process.argv.slice(2);
const bytes: Buffer[] = [];
const ip = parseIp(host);
const kind = ip?.length === 4 ? [1] : [4];
const address = ip === undefined ? [3, host.length, ...Buffer.from(host)] : [...kind, ...ip];
const portBytes = [Number(port) >> 8, Number(port) & 0xff];
const socket = connect({ host: '127.0.0.1', port: 15080, allowHalfOpen: true });
socket.end(
  Buffer.concat([
    Buffer.from([5, 1, 0, 5, 1, 0, ...address, ...portBytes]),
    Buffer.from('hello\n'),
  ]),
);
socket.on('data', (chunk: Buffer) => bytes.push(chunk));
socket.on('error', (err: NodeJS.ErrnoException) => process.stdout.write(err.code ?? 'error'));
socket.on('close', () => {
  const all = Buffer.concat(bytes);
  process.stdout.write(`${all.subarray(0, 12).toString('hex')} ${all.subarray(12).toString()}`);
});
