// Keeps container logs from filling the disk: a log beyond the limit starts again. Programs append, so the file
// may be cut under them.
import { statSync, truncateSync } from 'node:fs';

const MAX_LOG_BYTES = 64 << 20;

/** Empties a log that has grown beyond the limit. */
export function limitLog(path: string, maxBytes = MAX_LOG_BYTES): void {
  const stat = statSync(path, { throwIfNoEntry: false });
  if (stat !== undefined && stat.size > maxBytes) truncateSync(path);
}
