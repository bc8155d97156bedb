// The system packages the local cluster needs. As root on a known distribution what is missing is installed after
// saying so; otherwise the one command to run is printed. Never a stack trace.
import { spawnSync } from 'node:child_process';
import { accessSync, constants, readFileSync } from 'node:fs';
import { join } from 'node:path';
import { MeshError } from '../common/errors.ts';

const COMMANDS: Readonly<Record<string, string>> = {
  ip: 'iproute2',
  nft: 'nftables',
  unshare: 'util-linux',
  nsenter: 'util-linux',
  mount: 'mount',
};
const MINIMUM_NODE = 24;

interface Distribution {
  readonly install: readonly (readonly string[])[];
  /** Names that differ from Debian's. */
  readonly names: Readonly<Record<string, string>>;
}

const DEBIAN: Distribution = {
  install: [
    ['apt-get', 'update', '-q'],
    ['apt-get', 'install', '-y', '-q', '--no-install-recommends'],
  ],
  names: {},
};
const FEDORA: Distribution = {
  install: [['dnf', 'install', '-y', '-q']],
  names: { iproute2: 'iproute', mount: 'util-linux' },
};
const DISTRIBUTIONS: Readonly<Record<string, Distribution>> = {
  debian: DEBIAN,
  ubuntu: DEBIAN,
  fedora: FEDORA,
  rhel: FEDORA,
  alpine: { install: [['apk', 'add', '-q']], names: { mount: 'util-linux' } },
  arch: {
    install: [['pacman', '-S', '--noconfirm', '--needed']],
    names: { mount: 'util-linux' },
  },
  suse: { install: [['zypper', '-n', 'install']], names: { mount: 'util-linux' } },
};

/** Whether a command is in PATH or the folders of system programs. */
function isInstalled(command: string): boolean {
  const folders = [...(process.env['PATH'] ?? '').split(':'), '/usr/sbin', '/sbin'];
  return folders.some((folder) => {
    try {
      accessSync(join(folder, command), constants.X_OK);
      return true;
    } catch {
      return false;
    }
  });
}

/** The distribution of an os-release file, by its ID or what it is like. */
export function parseDistribution(osRelease: string): Distribution | undefined {
  const [id = '', like = ''] = [/^ID=(.*)$/m, /^ID_LIKE=(.*)$/m].map(
    (pattern) => pattern.exec(osRelease)?.[1] ?? '',
  );
  for (const name of `${id} ${like}`.replaceAll('"', '').split(/\s+/)) {
    const found = DISTRIBUTIONS[name];
    if (found !== undefined) return found;
  }
  return undefined;
}

/** The commands that install these packages. */
export function planInstall(
  distribution: Distribution,
  packages: readonly string[],
): (readonly string[])[] {
  const names = [...new Set(packages.map((name) => distribution.names[name] ?? name))];
  const last = distribution.install.length - 1;
  return distribution.install.map((argv, index) => (index === last ? [...argv, ...names] : argv));
}

function readDistribution(): Distribution | undefined {
  try {
    return parseDistribution(readFileSync('/etc/os-release', 'utf8'));
  } catch {
    return undefined;
  }
}

function missingPackages(): string[] {
  const missing = Object.entries(COMMANDS).filter(([command]) => !isInstalled(command));
  return [...new Set(missing.map(([, name]) => name))];
}

/** Installs what is missing, or throws with the command that does. */
export function preflight({ mayInstall }: { readonly mayInstall: boolean }): void {
  if (process.platform !== 'linux') {
    throw new MeshError(
      'preflight',
      'the local cluster needs Linux: its nodes are network namespaces',
    );
  }
  if (Number(process.versions.node.split('.')[0]) < MINIMUM_NODE) {
    throw new MeshError(
      'preflight',
      `Node ${MINIMUM_NODE} is needed, this is ${process.versions.node}: start it by \`npm start\`, which brings its own`,
    );
  }
  // Children find the system programs although an ordinary user's PATH may lack their folder.
  process.env['PATH'] = `${process.env['PATH'] ?? ''}:/usr/sbin:/sbin`;
  const missing = missingPackages();
  if (missing.length === 0) return;
  const distribution = readDistribution();
  const what = `missing system packages: ${missing.join(' ')}`;
  if (distribution === undefined) {
    throw new MeshError('preflight', `${what}. Install them with your package manager`);
  }
  const plan = planInstall(distribution, missing);
  const isRoot = process.getuid?.() === 0;
  if (!mayInstall || !isRoot) {
    const command = plan.map((argv) => `${isRoot ? '' : 'sudo '}${argv.join(' ')}`).join(' && ');
    throw new MeshError('preflight', `${what}. Run:\n  ${command}`);
  }
  process.stdout.write(`${what}: installing them (--no-install turns this off)\n`);
  for (const argv of plan) runInstaller(argv);
  const left = missingPackages();
  if (left.length > 0) throw new MeshError('preflight', `still missing: ${left.join(' ')}`);
}

function runInstaller(argv: readonly string[]): void {
  const [file = '', ...args] = argv;
  const result = spawnSync(file, args, {
    encoding: 'utf8',
    env: { ...process.env, DEBIAN_FRONTEND: 'noninteractive' },
  });
  if (result.status === 0) return;
  const said = (result.error?.message ?? result.stderr).trim().split('\n').slice(-3).join('\n');
  throw new MeshError('preflight', `${argv.join(' ')} failed:\n${said}`);
}
