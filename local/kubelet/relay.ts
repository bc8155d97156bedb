// A TCP relay on the bridge to the API server, so that pods and node processes reach it wherever it listens,
// loopback included. TLS passes through untouched.
import { connect, createServer, type AddressInfo, type Server } from 'node:net';
import { MeshError } from '../../common/errors.ts';

/** Listens on `host`, any port, and joins each connection to the target. */
export function startRelay(
  host: string,
  target: { readonly host: string; readonly port: number },
): Promise<{ server: Server; port: number }> {
  const server = createServer({ allowHalfOpen: true, noDelay: true }, (downstream) => {
    const upstream = connect({ ...target, allowHalfOpen: true, noDelay: true });
    downstream.on('error', () => upstream.destroy());
    upstream.on('error', () => downstream.destroy());
    downstream.on('close', () => upstream.destroy());
    upstream.on('close', () => downstream.destroy());
    downstream.pipe(upstream);
    upstream.pipe(downstream);
  });
  return new Promise((resolve, reject) => {
    server.once('error', (cause) =>
      reject(new MeshError('no_network', `cannot listen on ${host}`, { cause })),
    );
    server.listen(0, host, () => resolve({ server, port: (server.address() as AddressInfo).port }));
  });
}
