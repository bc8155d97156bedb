// Ports for programs that a test starts. They are from below the range that the kernel gives out by itself: a port from
// that range can be taken again, or linger in TIME_WAIT, before the program binds it. What has been given out may not be
// listened on yet: it is not given again, and a test file that runs meanwhile, another process, has another part.
import { createServer } from 'node:net';

const FIRST = 16_000;
const PARTS = 32;
const PORTS_OF_PART = 500;
const first = FIRST + (process.pid % PARTS) * PORTS_OF_PART;
const given = new Set<number>();

/** A port on loopback that nobody listens on now, another one each time. */
export async function freePort(): Promise<number> {
  while (given.size < PORTS_OF_PART) {
    const port = first + Math.floor(Math.random() * PORTS_OF_PART);
    if (given.has(port)) continue;
    given.add(port);
    if (await canListen(port)) return port;
  }
  throw new Error(`all of ${PORTS_OF_PART} ports have been given out`);
}

function canListen(port: number): Promise<boolean> {
  return new Promise((resolve) => {
    const server = createServer();
    server.on('error', () => resolve(false));
    server.listen(port, '127.0.0.1', () => server.close(() => resolve(true)));
  });
}
