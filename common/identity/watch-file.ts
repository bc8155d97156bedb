// Tells when a file's content has changed, also when it is replaced by way of a symlink in its folder (as kubelet does
// with ConfigMaps and Secrets). Several changes within two seconds are one.
import { readFileSync, watch } from 'node:fs';
import { dirname } from 'node:path';

const DEBOUNCE_MS = 2000;
/** For filesystems that tell nothing, and folders that come later. */
const POLL_MS = 30_000;

/** Calls back after each change, also when the file comes or goes. Returns what ends the watch. */
export function watchFile(path: string, onChange: () => void): () => void {
  let known = contentOf(path);
  let timer: NodeJS.Timeout | undefined;
  const look = (): void => {
    timer = undefined;
    const content = contentOf(path);
    if (content === known) return;
    known = content;
    onChange();
  };
  const lookSoon = (): void => {
    timer ??= setTimeout(look, DEBOUNCE_MS).unref();
  };
  const poll = setInterval(look, POLL_MS).unref();
  let stop = (): void => undefined;
  try {
    const watcher = watch(dirname(path), { persistent: false }, lookSoon);
    watcher.on('error', () => watcher.close());
    stop = () => watcher.close();
  } catch {
    // The folder is not there; the poll sees when it is.
  }
  return () => {
    stop();
    clearInterval(poll);
    clearTimeout(timer);
  };
}

function contentOf(path: string): string | undefined {
  try {
    return readFileSync(path, 'latin1');
  } catch {
    return undefined;
  }
}
