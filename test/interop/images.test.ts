// The images of all programs, built by buildah from the Containerfile, and started as a cluster would: as the image's user,
// with a read-only root file system. Needs root, buildah and AMBIENT_IMAGE_BASE: a Debian root file system as a tar (such as
// `debootstrap --variant=minbase bookworm DIR && tar -C DIR -cf FILE .` makes), so that no registry is asked for it.
import assert from 'node:assert/strict';
import { spawn, spawnSync } from 'node:child_process';
import { mkdtempSync, rmSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { after, before, describe, it } from 'node:test';

const base = process.env['AMBIENT_IMAGE_BASE'] ?? '';
const hasBuildah = spawnSync('buildah', ['--version']).status === 0;
const why =
  process.getuid?.() !== 0
    ? 'needs root'
    : !hasBuildah
      ? 'needs buildah'
      : base === '' && 'set AMBIENT_IMAGE_BASE';

const MINUTES = 60_000;
const PATH = '/app/bin:/usr/sbin:/usr/bin:/sbin:/bin';
let dir = '';

function run(command: string, args: readonly string[]): string {
  const result = spawnSync(command, args, { encoding: 'utf8', timeout: 5 * MINUTES });
  assert.equal(result.status, 0, `${command} ${args.join(' ')}: ${result.stderr}`);
  return result.stdout.trim();
}

const storage = (): string[] => ['--root', join(dir, 'storage'), '--runroot', join(dir, 'run')];
const buildah = (...args: string[]): string => run('buildah', [...storage(), ...args]);

/** Builds a target; where its root file system is. */
function build(program: string): string {
  const source = ['-f', 'manifests/images/Containerfile', '--build-arg', 'BASE=localhost/base'];
  const how = ['--isolation', 'chroot', '--network', 'host', '--layers', '--pull-never'];
  buildah('bud', ...how, ...source, '--target', program, '-t', program, join(dir, 'dist/app'));
  return buildah('mount', buildah('from', '--pull-never', `localhost/${program}`));
}

/** A shell line that starts a program there: nothing but /tmp can be written, nothing of the host is reached. */
function startIn(root: string, user: number, argv: string, env: string): string {
  return [
    `ip link set lo up && mount --bind ${root} ${root} && mount -t proc proc ${root}/proc`,
    `mount -t tmpfs -o mode=1777 tmp ${root}/tmp && mount -o remount,bind,ro ${root}`,
    `exec chroot --userspec=${user}:${user} ${root} env -i PATH=${PATH} ${env} ${argv}`,
  ].join(' && ');
}

describe('images', { skip: why }, () => {
  before(
    () => {
      dir = mkdtempSync(join(tmpdir(), 'ambient-images-'));
      run(process.execPath, ['build/main.ts', '--out', join(dir, 'dist'), '--images']);
      const container = buildah('from', 'scratch');
      buildah('add', container, base, '/');
      buildah('commit', '--rm', container, 'localhost/base');
    },
    { timeout: 10 * MINUTES },
  );

  after(() => {
    spawnSync('buildah', [...storage(), 'umount', '--all']);
    spawnSync('buildah', [...storage(), 'rm', '--all']);
    rmSync(dir, { recursive: true, force: true });
  });

  for (const { program, user, argv, env, says } of [
    {
      program: 'controlplane',
      user: 1337,
      argv: 'node /app/controlplane/main.ts --print-config',
      env: 'POD_NAMESPACE=istio-system',
      says: /istio-system/,
    },
    {
      program: 'waypoint',
      user: 1337,
      argv: 'node /app/waypoint/main.ts',
      env: 'GATEWAY_NAME=w POD_NAMESPACE=shop XDS_ADDRESS= CA_ADDRESS=http://127.0.0.1:1',
      says: /waypoint started/,
    },
    {
      program: 'ztunnel',
      user: 0,
      argv: 'node /app/ztunnel/main.ts proxy',
      env: 'NODE_NAME=n XDS_ADDRESS= CA_ADDRESS=http://127.0.0.1:1',
      says: /ztunnel started/,
    },
    {
      program: 'cni',
      user: 0,
      argv: 'sh -c "nft --version && ip -V && node /app/cni/agent/main.ts --help"',
      env: '',
      says: /nftables[^]*ip utility[^]*node agent/,
    },
  ]) {
    it(`${program} starts from its image`, { timeout: 10 * MINUTES }, async () => {
      const script = startIn(build(program), user, argv, env);
      const child = spawn('unshare', ['-m', '-n', 'sh', '-c', script]);
      let output = '';
      const closed = new Promise((resolve) => child.on('close', resolve));
      const seen = new Promise<void>((resolve) => {
        for (const stream of [child.stdout, child.stderr]) {
          stream.on('data', (chunk: Buffer) => {
            output += chunk.toString();
            if (says.test(output)) resolve();
          });
        }
      });
      const patience = setTimeout(() => child.kill('SIGKILL'), 30_000);
      await Promise.race([seen, closed]);
      clearTimeout(patience);
      child.kill('SIGKILL');
      await closed;
      assert.match(output, says);
    });
  }
});
