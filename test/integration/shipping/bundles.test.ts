// What is shipped runs as it will there: ambientctl as an installed package without sources, the CNI plugin as the agent
// copies it onto a node.
import assert from 'node:assert/strict';
import { spawnSync } from 'node:child_process';
import {
  cpSync,
  existsSync,
  mkdirSync,
  mkdtempSync,
  readFileSync,
  rmSync,
  symlinkSync,
  writeFileSync,
} from 'node:fs';
import { tmpdir } from 'node:os';
import { join, resolve } from 'node:path';
import { after, before, describe, it } from 'node:test';
import { installPlugin, removePlugin } from '../../../cni/agent/plugin-files.ts';

const dir = mkdtempSync(join(tmpdir(), 'ambient-shipping-'));
const dist = join(dir, 'dist');
const environment = { PATH: '/usr/bin:/bin', HOME: dir, TMPDIR: dir };

interface Result {
  readonly code: number | null;
  readonly out: string;
  readonly err: string;
}

function run(command: string, args: readonly string[], env = {}, input = ''): Result {
  const { status, stdout, stderr } = spawnSync(command, args, {
    ...{ cwd: dir, encoding: 'utf8', input, timeout: 60_000 },
    env: { ...environment, ...env },
  });
  return { code: status, out: stdout, err: stderr };
}

describe('npm run build', () => {
  before(() => {
    const built = spawnSync(process.execPath, ['build/main.ts', '--out', dist], {
      encoding: 'utf8',
    });
    assert.equal(built.status, 0, built.stderr);
  });
  after(() => rmSync(dir, { recursive: true, force: true }));

  it('makes an ambientctl that runs as an installed package, without sources', () => {
    const root = join(dir, 'node_modules/ambient-mesh');
    mkdirSync(join(root, 'cli/bin'), { recursive: true });
    cpSync('cli/bin/ambientctl', join(root, 'cli/bin/ambientctl'));
    cpSync(dist, join(root, 'dist'), {
      recursive: true,
      filter: (path) => !path.includes('istio-cni'),
    });
    const arch = process.arch === 'arm64' ? 'arm64' : 'x64';
    symlinkSync(
      resolve(`node_modules/node-linux-${arch}`),
      join(dir, `node_modules/node-linux-${arch}`),
    );
    mkdirSync(join(dir, 'node_modules/.bin'));
    const bin = join(dir, 'node_modules/.bin/ambientctl');
    symlinkSync('../ambient-mesh/cli/bin/ambientctl', bin);

    const help = run(bin, ['--help']);
    assert.equal(help.code, 0, help.err);
    assert.match(help.out, /ztunnel-config/);
    assert.match(run(bin, ['waypoint', 'generate']).out, /gatewayClassName: istio-waypoint/);
    const lost = run(bin, ['status']);
    assert.equal(lost.code, 1);
    assert.match(lost.err, /no cluster: start one here/);
    // Credentials by a plugin need the Kubernetes client that is a file of its own.
    const kubeconfig = join(dir, 'kubeconfig');
    writeFileSync(
      kubeconfig,
      JSON.stringify({
        'current-context': 'x',
        clusters: [{ name: 'x', cluster: { server: 'https://127.0.0.1:1' } }],
        users: [
          {
            name: 'x',
            user: {
              exec: {
                apiVersion: 'client.authentication.k8s.io/v1',
                command: 'echo',
                args: [
                  '{"apiVersion":"client.authentication.k8s.io/v1","kind":"ExecCredential","status":{"token":"t"}}',
                ],
              },
            },
          },
        ],
        contexts: [{ name: 'x', context: { cluster: 'x', user: 'x' } }],
      }),
    );
    assert.match(
      run(bin, ['get', 'pods', '--kubeconfig', kubeconfig]).err,
      /cannot reach the API server/,
    );
  });

  it('makes a plugin that the agent copies onto a node, and that needs nothing there', () => {
    const binDir = join(dir, 'opt/cni/bin');
    mkdirSync(binDir, { recursive: true });
    const source = join(dist, 'istio-cni');
    assert.equal(installPlugin(binDir, source), true);
    assert.equal(installPlugin(binDir, source), false, 'nothing to do');
    const plugin = join(binDir, 'istio-cni');
    rmSync(source, { recursive: true });
    const version = run(plugin, [], { CNI_COMMAND: 'VERSION' }, '{}');
    assert.equal(version.code, 0, version.err);
    assert.match(version.out, /"supportedVersions"/);
    const maps = run(plugin, ['--help']);
    assert.match(maps.out, /chained CNI plugin/);
    // A pod that must not start outside the mesh: without the agent's files the answer is "try again".
    const add = run(
      plugin,
      [],
      { CNI_COMMAND: 'ADD', CNI_NETNS: '/x', CNI_ARGS: 'K8S_POD_NAME=a;K8S_POD_NAMESPACE=b' },
      JSON.stringify({ cniVersion: '1.0.0', name: 'x', prevResult: {}, cni_agent_run_dir: dir }),
    );
    assert.equal(add.code, 1);
    assert.equal((JSON.parse(add.out) as { code: number }).code, 11, add.out);
    removePlugin(binDir);
    assert.equal(existsSync(plugin), false);
    assert.equal(existsSync(join(binDir, '.istio-cni')), false);
  });

  it('replaces a plugin of another version', () => {
    const source = join(dir, 'source');
    const binDir = join(dir, 'bin');
    for (const folder of [source, binDir]) mkdirSync(folder);
    writeFileSync(join(source, 'launcher'), '#!/bin/sh\n');
    for (const version of ['1', '2']) {
      writeFileSync(join(source, 'version'), version);
      assert.equal(installPlugin(binDir, source), true);
      assert.equal(readFileSync(join(binDir, '.istio-cni/version'), 'utf8'), version);
    }
  });
});
