// The plugin's files on the node: where agent and runtime share a file system a launcher that points here; otherwise a
// copy of the bundled plugin, with a Node of its own, beside its launcher.
import {
  chmodSync,
  cpSync,
  existsSync,
  readFileSync,
  renameSync,
  rmSync,
  writeFileSync,
} from 'node:fs';
import { join } from 'node:path';
import { PLUGIN_TYPE } from './conf-list.ts';

const PLUGIN_SCRIPT = join(import.meta.dirname, '..', 'plugin', 'main.ts');
/** Which Node and which program a bundle has. */
const VERSION = 'version';
/** Folder beside the launcher; build/main.ts writes the launcher. */
const FOLDER = `.${PLUGIN_TYPE}`;

/** The content of a file, or undefined. */
export function readOrUndefined(path: string): string | undefined {
  try {
    return readFileSync(path, 'utf8');
  } catch {
    return undefined;
  }
}

/** Writes through a temporary name when the content differs; true when it did. */
export function writeIfChanged(path: string, content: string, mode: number): boolean {
  if (readOrUndefined(path) === content) return false;
  const temporary = `${path}.tmp.${process.pid}`;
  writeFileSync(temporary, content, { mode });
  chmodSync(temporary, mode);
  renameSync(temporary, path);
  return true;
}

/** Puts the plugin into the runtime's folder; true when something changed. */
export function installPlugin(binDir: string, pluginDir: string | undefined): boolean {
  const target = join(binDir, PLUGIN_TYPE);
  if (pluginDir === undefined) {
    const launcher = `#!/bin/sh\nexec '${process.execPath}' '${PLUGIN_SCRIPT}' "$@"\n`;
    return writeIfChanged(target, launcher, 0o755);
  }
  const isCopied = copyBundle(pluginDir, join(binDir, FOLDER));
  const launcher = readFileSync(join(pluginDir, 'launcher'), 'utf8');
  return writeIfChanged(target, launcher, 0o755) || isCopied;
}

/** Copies the folder when the bundle in it is another; by renaming, so that a call never sees half of it. */
function copyBundle(source: string, folder: string): boolean {
  const version = readFileSync(join(source, VERSION), 'utf8');
  if (readOrUndefined(join(folder, VERSION)) === version) return false;
  const fresh = `${folder}.new`;
  const old = `${folder}.old`;
  for (const path of [fresh, old]) rmSync(path, { recursive: true, force: true });
  cpSync(source, fresh, { recursive: true });
  if (existsSync(folder)) renameSync(folder, old);
  renameSync(fresh, folder);
  rmSync(old, { recursive: true, force: true });
  return true;
}

/** Takes the plugin away again. */
export function removePlugin(binDir: string): void {
  rmSync(join(binDir, PLUGIN_TYPE), { force: true });
  rmSync(join(binDir, FOLDER), { recursive: true, force: true });
}
