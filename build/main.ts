// `npm run build`: what is shipped, into dist/ (or --out DIR). A clone needs none of it.
//
//   dist/ambientctl.mjs   the command line; cli/bin/ambientctl takes it where this is an installed package, because Node
//                         runs no TypeScript under node_modules
//   dist/istio-cni/       the CNI plugin with a Node of its own, as the agent copies it onto a node
//   dist/app/             with --images: sources and production packages, as manifests/images/Containerfile copies them
import { spawnSync } from 'node:child_process';
import { createHash } from 'node:crypto';
import {
  chmodSync,
  copyFileSync,
  cpSync,
  mkdirSync,
  readFileSync,
  rmSync,
  symlinkSync,
  writeFileSync,
} from 'node:fs';
import { basename, join } from 'node:path';
import { parseArgs } from 'node:util';
import { build, type BuildOptions } from 'esbuild';
import { runCommand } from '../common/command-line.ts';

const USAGE = `usage: npm run build -- [options]
What is shipped: the command line as a bundle, the CNI plugin with a Node of its own.

  --out DIR  where it goes; what is there is removed (default dist)
  --images   also what manifests/images/Containerfile copies: sources and production packages
  --help`;

const SOURCES = ['ztunnel', 'waypoint', 'controlplane', 'cni', 'engine', 'common'];
// Packages that are CommonJS call require() for what Node has built in.
const REQUIRE = `import { createRequire } from 'node:module'; const require = createRequire(import.meta.url);`;

const BUNDLE: BuildOptions = {
  bundle: true,
  platform: 'node',
  target: 'node24',
  format: 'esm',
  outExtension: { '.js': '.mjs' },
  banner: { js: REQUIRE },
  legalComments: 'linked',
  logLevel: 'warning',
};

function run(command: string, args: readonly string[], cwd = '.'): string {
  const { status, stdout, stderr } = spawnSync(command, args, { cwd, encoding: 'utf8' });
  if (status !== 0) throw new Error(`${command} ${args.join(' ')}: ${stderr}`);
  return stdout;
}

async function bundleCommandLine(dist: string): Promise<void> {
  await build({
    ...BUNDLE,
    entryPoints: { ambientctl: 'cli/main.ts' },
    // What only some kubeconfigs need stays a file of its own, loaded then.
    splitting: true,
    outdir: dist,
    chunkNames: 'chunks/[name]-[hash]',
    minifySyntax: true,
  });
}

/** The plugin runs on the node, outside the agent's image: it brings Node, the libraries and their loader. */
async function bundlePlugin(plugin: string): Promise<void> {
  await build({
    ...BUNDLE,
    entryPoints: ['cni/plugin/main.ts'],
    outfile: join(plugin, 'istio-cni.mjs'),
  });
  const lib = join(plugin, 'lib');
  mkdirSync(lib, { recursive: true });
  copyFileSync(process.execPath, join(plugin, 'node'));
  const paths = [...run('ldd', [process.execPath]).matchAll(/(\/\S+) \(0x/g)].map(
    ([, path = '']) => path,
  );
  for (const path of paths) copyFileSync(path, join(lib, basename(path)));
  const loader = paths.map((path) => basename(path)).find((name) => name.startsWith('ld-linux'));
  if (loader === undefined) throw new Error('node has no loader: build on Linux with glibc');
  const bundle = readFileSync(join(plugin, 'istio-cni.mjs'));
  const digest = createHash('sha256').update(bundle).digest('hex');
  writeFileSync(join(plugin, 'version'), `${process.version} ${digest}\n`);
  const launcher = join(plugin, 'launcher');
  writeFileSync(
    launcher,
    `#!/bin/sh\ndir=$(dirname "$0")/.istio-cni\n` +
      `exec "$dir/lib/${loader}" --library-path "$dir/lib" "$dir/node" "$dir/istio-cni.mjs" "$@"\n`,
  );
  chmodSync(launcher, 0o755);
}

function prepareImages(app: string, plugin: string): void {
  mkdirSync(join(app, 'bin'), { recursive: true });
  for (const name of [...SOURCES, 'package.json', 'package-lock.json', 'LICENSE'])
    cpSync(name, join(app, name), { recursive: true });
  run('npm', ['ci', '--omit=dev', '--ignore-scripts', '--prefer-offline', '--no-audit'], app);
  const arch = process.arch === 'arm64' ? 'arm64' : 'x64';
  symlinkSync(`../node_modules/node-linux-${arch}/bin/node`, join(app, 'bin', 'node'));
  cpSync(plugin, join(app, 'plugin'), { recursive: true });
}

async function main(): Promise<number> {
  const { values } = parseArgs({
    options: {
      out: { type: 'string', default: 'dist' },
      images: { type: 'boolean', default: false },
      help: { type: 'boolean', default: false },
    },
  });
  if (values.help) {
    process.stdout.write(`${USAGE}\n`);
    return 0;
  }
  const dist = values.out;
  const plugin = join(dist, 'istio-cni');
  rmSync(dist, { recursive: true, force: true });
  await bundleCommandLine(dist);
  await bundlePlugin(plugin);
  if (values.images) prepareImages(join(dist, 'app'), plugin);
  return 0;
}

await runCommand('npm run build', main);
