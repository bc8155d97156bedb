// A client for tests, as a process in a pod: sends COUNT bytes to checksum-server.ts, half-closes, reads as many, and prints
// JSON: what each side got, whether all of it was right, and how long each direction took. PAUSE: it reads slowly, with so
// many milliseconds after each megabyte, and nothing at all for a second before.
import { createHash } from 'node:crypto';
import { once } from 'node:events';
import { connect } from 'node:net';
import { setTimeout as sleep } from 'node:timers/promises';
import { checkedBytes, checkedDigest } from './checked-bytes.ts';

const [host = '', port = '8082', size = '0', pauseMs = '0'] = process.argv.slice(2);
const count = Number(size);

async function run(): Promise<object> {
  const socket = connect({ host, port: Number(port), allowHalfOpen: true });
  await once(socket, 'connect');
  const started = performance.now();
  for (const block of checkedBytes('up', count)) {
    if (!socket.write(block)) await once(socket, 'drain');
  }
  socket.end();
  let answer: string | undefined;
  let answeredMs = 0;
  let received = 0;
  if (Number(pauseMs) > 0) await sleep(1000);
  const hash = createHash('sha256');
  let head = Buffer.alloc(0);
  for await (const chunk of socket as AsyncIterable<Buffer>) {
    let rest = chunk;
    if (answer === undefined) {
      head = Buffer.concat([head, chunk]);
      const at = head.indexOf(10);
      if (at < 0) continue;
      answer = head.subarray(0, at).toString();
      answeredMs = performance.now() - started;
      rest = head.subarray(at + 1);
    }
    hash.update(rest);
    const before = received >> 20;
    received += rest.length;
    if (Number(pauseMs) > 0 && received >> 20 > before) await sleep(Number(pauseMs));
  }
  const downMs = performance.now() - started - answeredMs;
  const [arrived = '', upDigest = ''] = (answer ?? '').split(' ');
  const isRight =
    Number(arrived) === count &&
    received === count &&
    upDigest === checkedDigest('up', count) &&
    hash.digest('hex') === checkedDigest('down', count);
  return { sent: count, arrived: Number(arrived), received, isRight, upMs: answeredMs, downMs };
}

process.stdout.write(
  `${JSON.stringify(await run().catch((err: unknown) => ({ error: String(err) })))}\n`,
);
