// A port in this network namespace that leads to a Unix socket: how a proxy in a pod's namespace reaches the control
// plane of a test. Arguments: the socket's path. Prints the port.
import { connect, createServer } from 'node:net';
import type { AddressInfo } from 'node:net';

const [, , path = ''] = process.argv;
const server = createServer((client) => {
  const upstream = connect(path);
  client.pipe(upstream).pipe(client);
  client.on('error', () => upstream.destroy());
  upstream.on('error', () => client.destroy());
});
server.listen(0, '127.0.0.1', () => {
  console.log((server.address() as AddressInfo).port);
});
