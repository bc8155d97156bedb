// Runs the chained CNI plugins of the node's configuration after the built-in step, by the CNI specification
// 1.0: environment, configuration with prevResult on stdin, result or error as JSON on stdout. Plugins run in a
// mount namespace that shows the node's own /opt/cni/bin, /etc/cni/net.d and /var/run/istio-cni.
import { mkdirSync, readdirSync, readFileSync, writeFileSync } from 'node:fs';
import { join } from 'node:path';
import { MeshError } from '../../common/errors.ts';
import { buildRootScript } from './container-root.ts';
import { programPaths } from './programs.ts';
import type { CniResult } from './pod-network.ts';
import { tryCommand } from './run-command.ts';

/** The type of the built-in step; the chain's first entry. */
export const BUILTIN_TYPE = 'ambient-ptp';

export interface PluginEntry {
  readonly type: string;
  readonly [key: string]: unknown;
}

export interface ConfList {
  readonly name: string;
  readonly cniVersion: string;
  readonly plugins: readonly PluginEntry[];
}

export interface PodSandbox {
  readonly containerId: string;
  readonly netns: string;
  readonly namespace: string;
  readonly name: string;
  readonly uid: string;
}

/** Writes the node's primary configuration, as a CNI provider does; others chain themselves behind it. */
export function writePrimaryConfig(rootfs: string): void {
  const dir = join(rootfs, 'etc/cni/net.d');
  mkdirSync(dir, { recursive: true });
  const list: ConfList = {
    cniVersion: '1.0.0',
    name: 'ambient-local',
    plugins: [{ type: BUILTIN_TYPE }],
  };
  writeFileSync(join(dir, '10-ambient.conflist'), JSON.stringify(list, null, 2) + '\n');
}

/** The first valid list of the directory in lexicographic order. */
export function readConfig(rootfs: string): ConfList | undefined {
  const dir = join(rootfs, 'etc/cni/net.d');
  for (const name of readdirSync(dir).toSorted()) {
    if (!name.endsWith('.conflist')) continue;
    try {
      const list = JSON.parse(readFileSync(join(dir, name), 'utf8')) as Partial<ConfList>;
      if (list.plugins !== undefined && list.plugins.length > 0) return list as ConfList;
    } catch {
      // Not a configuration: runtimes skip such files.
    }
  }
  return undefined;
}

interface PluginCall {
  readonly command: 'ADD' | 'DEL';
  readonly sandbox: PodSandbox;
  readonly prevResult: CniResult | undefined;
}

/** Runs one plugin; returns its result, or undefined when it printed none. */
async function runPlugin(
  rootfs: string,
  list: ConfList,
  entry: PluginEntry,
  { command, sandbox, prevResult }: PluginCall,
): Promise<CniResult | undefined> {
  const dirs = ['opt/cni/bin', 'etc/cni/net.d', 'var/run/istio-cni'];
  for (const dir of dirs) mkdirSync(join(rootfs, dir), { recursive: true });
  const root = join(rootfs, '..', 'cni-root');
  const cache = join(rootfs, '..', 'plugin-cache');
  for (const dir of [root, cache]) mkdirSync(dir, { recursive: true });
  const script = buildRootScript({
    dir: root,
    hostname: 'node',
    resolvConf: '',
    hosts: '127.0.0.1 localhost\n',
    mounts: [
      ...dirs.map((dir) => ({ source: join(rootfs, dir), target: `/${dir}`, isFile: false })),
      { source: '/run/netns', target: '/run/netns', isFile: false },
    ],
    visible: [...programPaths(), cache],
    workingDir: '/',
  });
  const input = { ...entry, name: list.name, cniVersion: list.cniVersion, prevResult };
  const path = `/opt/cni/bin/${entry.type}`;
  const result = await tryCommand(
    ['unshare', '-m', '-u', '--propagation', 'slave', 'sh', '-c', script, 'sh', path],
    {
      stdin: JSON.stringify(input),
      timeoutMs: 60_000,
      env: {
        NODE_COMPILE_CACHE: cache,
        CNI_COMMAND: command,
        CNI_CONTAINERID: sandbox.containerId,
        CNI_NETNS: `/var/run/netns/${sandbox.netns}`,
        CNI_IFNAME: 'eth0',
        CNI_PATH: '/opt/cni/bin',
        CNI_ARGS: `IgnoreUnknown=1;K8S_POD_NAMESPACE=${sandbox.namespace};K8S_POD_NAME=${sandbox.name};K8S_POD_INFRA_CONTAINER_ID=${sandbox.containerId};K8S_POD_UID=${sandbox.uid}`,
      },
    },
  );
  if (result.code !== 0) {
    throw new MeshError(
      'cni_failed',
      `plugin ${entry.type}: ${errorText(result.stdout) ?? result.stderr.trim().slice(0, 400)}`,
    );
  }
  return result.stdout.trim() === '' ? undefined : (JSON.parse(result.stdout) as CniResult);
}

function errorText(stdout: string): string | undefined {
  try {
    const { msg, details } = JSON.parse(stdout) as { msg?: string; details?: string };
    return details ? `${msg ?? ''}: ${details}` : msg;
  } catch {
    return undefined;
  }
}

/** ADD of every chained plugin, in order. */
export async function addToChain(
  rootfs: string,
  sandbox: PodSandbox,
  first: CniResult,
): Promise<CniResult> {
  const list = readConfig(rootfs);
  let result = first;
  for (const entry of list?.plugins ?? []) {
    if (entry.type === BUILTIN_TYPE || list === undefined) continue;
    result =
      (await runPlugin(rootfs, list, entry, { command: 'ADD', sandbox, prevResult: result })) ??
      result;
  }
  return result;
}

/** DEL of every chained plugin, last first. A plugin's failure does not stop the others. */
export async function removeFromChain(
  rootfs: string,
  sandbox: PodSandbox,
  result: CniResult | undefined,
): Promise<void> {
  const list = readConfig(rootfs);
  for (const entry of (list?.plugins ?? []).toReversed()) {
    if (entry.type === BUILTIN_TYPE || list === undefined) continue;
    await runPlugin(rootfs, list, entry, { command: 'DEL', sandbox, prevResult: result }).catch(
      () => undefined,
    );
  }
}
