// Ports for programs that a test starts. They are from below the range that the kernel gives out by itself: a port from
// that range can be taken again, or linger in TIME_WAIT, before the program binds it.
import { createServer } from 'node:net';

const FIRST = 10_240;
const LAST = 32_000;

/** A port on loopback that nobody listens on now. */
export async function freePort(): Promise<number> {
  for (;;) {
    const port = FIRST + Math.floor(Math.random() * (LAST - FIRST));
    if (await canListen(port)) return port;
  }
}

function canListen(port: number): Promise<boolean> {
  return new Promise((resolve) => {
    const server = createServer();
    server.on('error', () => resolve(false));
    server.listen(port, '127.0.0.1', () => server.close(() => resolve(true)));
  });
}
