// A process whose data thread holds what 16 slow readers do not read, frees it, and again, while small pieces come and go.
// Prints MB of memory: at first, at its highest, in the end.
import { readFileSync } from 'node:fs';
import { isMainThread, Worker } from 'node:worker_threads';
import { malloc } from '../../engine/native/libc.ts';
import { ByteQueue } from '../../engine/native/memory.ts';
import { seededRandom } from './seeded-random.ts';

const PIECE = 65_536;

function heldMb(): number {
  const status = readFileSync('/proc/self/status', 'utf8');
  return Number(/RssAnon:\s+(\d+)/.exec(status)?.[1]) / 1024;
}

function queueOf(address: number, length: number): ByteQueue {
  const queue = new ByteQueue();
  queue.push(address, length);
  return queue;
}

function run(): void {
  const random = seededRandom(1);
  const piece = malloc(PIECE);
  const small: ByteQueue[] = [];
  const first = heldMb();
  let highest = 0;
  for (let round = 0; round < 12; round++) {
    const readers = Array.from({ length: 16 }, () => new ByteQueue());
    for (let i = 0; i < 48; i++) {
      for (const reader of readers) {
        reader.push(piece, PIECE);
        if (i % 4 === 0) small.push(queueOf(piece, 700));
      }
    }
    highest = Math.max(highest, heldMb());
    for (const reader of readers) reader.clear();
    while (small.length > 200) small.splice(random(small.length), 1)[0]?.clear();
  }
  process.stdout.write(JSON.stringify({ first, highest, end: heldMb() }));
}

if (isMainThread) new Worker(new URL(import.meta.url));
else run();
