// One process for a data directory: a second one would rewrite the journal under the first. An abstract unix socket is the
// lock, because the kernel releases it however the process ends.
import { createHash } from 'node:crypto';
import { mkdirSync, realpathSync } from 'node:fs';
import { createServer } from 'node:net';
import { MeshError } from '../../../common/errors.ts';

/** Takes the lock; resolves to its release. Throws `data_in_use`. */
export function lockDirectory(dir: string): Promise<() => void> {
  mkdirSync(dir, { recursive: true, mode: 0o700 });
  const name = createHash('sha256').update(realpathSync(dir)).digest('hex').slice(0, 40);
  const server = createServer((socket) => socket.destroy());
  return new Promise((resolve, reject) => {
    server.once('error', (cause: NodeJS.ErrnoException) => {
      const isTaken = cause.code === 'EADDRINUSE';
      const message = isTaken
        ? `${dir} is in use by another API server`
        : `cannot lock ${dir}: ${cause.message}`;
      reject(new MeshError('data_in_use', message, { cause }));
    });
    server.listen(`\0ambient-mesh-apiserver-${name}`, () => resolve(() => void server.close()));
  });
}
