// Which program plays an image: there is no image store, a container runs a program of this repository or a
// command of the machine. Images are matched by name without registry, tag and digest.
import { accessSync, constants, existsSync, realpathSync } from 'node:fs';
import { delimiter, join } from 'node:path';
import { appOfImage } from '../apps/images.ts';
import type { Container } from './objects.ts';

export interface Program {
  /** The script, relative to the repository. */
  readonly script: string;
  readonly args?: readonly string[];
  readonly env?: Readonly<Record<string, string>>;
}

const PROGRAMS: Readonly<Record<string, Program>> = {
  'ambient-mesh/controlplane': { script: 'controlplane/main.ts' },
  'ambient-mesh/ztunnel': { script: 'ztunnel/main.ts' },
  'ambient-mesh/waypoint': { script: 'waypoint/main.ts' },
  'ambient-mesh/cni': { script: 'cni/agent/main.ts' },
};

/** The repository this kubelet runs from. */
export const REPOSITORY = join(import.meta.dirname, '..', '..');

/** What every container must find where it is: the repository, its packages (a link may lead elsewhere), Node. */
export function programPaths(): string[] {
  const packages = join(REPOSITORY, 'node_modules');
  return [
    REPOSITORY,
    ...(existsSync(packages) ? [realpathSync(packages)] : []),
    process.execPath.replace(/\/bin\/[^/]*$/, ''),
  ];
}

/** `docker.io/istio/ztunnel:1.2@sha256:..` to `istio/ztunnel`. */
export function imageName(image: string): string {
  const [withoutDigest = ''] = image.split('@');
  const parts = withoutDigest.split('/');
  const [host = ''] = parts;
  if (parts.length > 1 && (/[.:]/.test(host) || host === 'localhost')) parts.shift();
  const last = parts.length - 1;
  parts[last] = (parts[last] ?? '').split(':')[0] ?? '';
  return parts.join('/');
}

/** Whether a command of a container exists on this machine. */
export function commandExists(command: string, path: string): boolean {
  const candidates = command.includes('/')
    ? [command]
    : path.split(delimiter).map((dir) => join(dir, command));
  return candidates.some((file) => {
    try {
      accessSync(file, constants.X_OK);
      return true;
    } catch {
      return false;
    }
  });
}

/** What to execute for a container, or undefined when nothing here plays its image. */
export function resolveProgram(
  container: Container,
  path: string,
):
  { readonly argv: readonly string[]; readonly env: Readonly<Record<string, string>> } | undefined {
  const { command = [], args = [] } = container;
  const name = imageName(container.image ?? '');
  const program: Program | undefined = PROGRAMS[name] ?? appOfImage(name);
  const [first] = command;
  if (first !== undefined && (program === undefined || commandExists(first, path))) {
    return commandExists(first, path) ? { argv: [...command, ...args], env: {} } : undefined;
  }
  if (program === undefined) return undefined;
  const script = join(REPOSITORY, program.script);
  if (!existsSync(script)) return undefined;
  return {
    argv: [process.execPath, script, ...(program.args ?? []), ...args],
    env: program.env ?? {},
  };
}
