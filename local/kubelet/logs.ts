// `kubectl logs`: a container's log file, from the end if asked, followed if asked. Lines carry no time of their
// own; --timestamps and --since are not served.
import { createReadStream, existsSync, openSync, closeSync, readSync, statSync } from 'node:fs';
import type { ServerResponse } from 'node:http';
import { pipeline } from 'node:stream/promises';
import { sleep, systemClock } from '../../common/clock.ts';
import { MeshError } from '../../common/errors.ts';
import type { PodWorker } from './pod-worker.ts';

const FOLLOW_POLL_MS = 150;
const CHUNK_BYTES = 64 * 1024;

/** The offset in a file where its last `lines` lines begin. */
export function tailOffset(path: string, lines: number): number {
  let position = statSync(path).size;
  if (lines <= 0) return position;
  const fd = openSync(path, 'r');
  try {
    let missing = lines;
    let isLastByte = true;
    const chunk = Buffer.alloc(CHUNK_BYTES);
    while (position > 0) {
      const length = Math.min(CHUNK_BYTES, position);
      readSync(fd, chunk, 0, length, position - length);
      for (let i = length - 1; i >= 0; i--) {
        // The newline that ends the last line begins no other.
        if (chunk[i] === 10 && !isLastByte && --missing === 0) return position - length + i + 1;
        isLastByte = false;
      }
      position -= length;
    }
    return 0;
  } finally {
    closeSync(fd);
  }
}

function isTrue(query: URLSearchParams, name: string): boolean {
  return ['true', '1'].includes(query.get(name) ?? '');
}

async function follow(
  worker: PodWorker,
  container: string,
  start: number,
  response: ServerResponse,
): Promise<void> {
  const path = worker.logFile(container);
  let offset = start;
  while (!response.destroyed) {
    const runner = worker.container(container);
    const isOver = runner === undefined || runner.isOver;
    const size = existsSync(path) ? statSync(path).size : 0;
    if (size < offset) offset = 0;
    if (size > offset) {
      const stream = createReadStream(path, { start: offset, end: size - 1 });
      for await (const chunk of stream) response.write(chunk);
      offset = size;
    } else if (isOver) break;
    await sleep(systemClock, FOLLOW_POLL_MS);
  }
  response.end();
}

/** Answers a log request. */
export async function serveLogs(
  worker: PodWorker,
  container: string,
  query: URLSearchParams,
  response: ServerResponse,
): Promise<void> {
  const isPrevious = isTrue(query, 'previous');
  const path = worker.logFile(container) + (isPrevious ? '.previous' : '');
  if (worker.container(container) === undefined || !existsSync(path)) {
    const what = isPrevious ? 'previous terminated container' : 'container';
    throw new MeshError('no_log', `${what} "${container}" has no log (yet)`);
  }
  const lines = query.get('tailLines');
  const start = lines === null ? 0 : tailOffset(path, Number(lines));
  response.writeHead(200, { 'content-type': 'text/plain' });
  response.flushHeaders();
  if (isTrue(query, 'follow') && !isPrevious) {
    await follow(worker, container, start, response);
    return;
  }
  const limit = Number(query.get('limitBytes') ?? Infinity);
  const end = Number.isFinite(limit) ? { end: start + limit - 1 } : {};
  await pipeline(createReadStream(path, { start, ...end }), response);
}
