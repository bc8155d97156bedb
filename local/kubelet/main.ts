// The kubelet of the local cluster: prepares the nodes' network, then runs one process in each node's netns.
// Stops on SIGTERM or SIGINT and removes all it made; a killed run's leftovers are removed by the next start.
import { spawn, type ChildProcess } from 'node:child_process';
import { mkdirSync, readlinkSync } from 'node:fs';
import { join } from 'node:path';
import { errorMessage, MeshError } from '../../common/errors.ts';
import { loadConnection } from '../../common/kube/connection.ts';
import { ApiClient } from './api.ts';
import { cleanInstance } from './cleanup.ts';
import { HELP, parseFlags, type KubeletConfig, type NodeConfig } from './config.ts';
import { claimInstance, lockState, recordedInstance, type Instance } from './instance.ts';
import { log } from './log.ts';
import { bridgeAddress, makeNodes, planNodes, type NodeNetwork } from './node-network.ts';
import { startRelay } from './relay.ts';
import { tryCommand } from './run-command.ts';
import { Scheduler } from './scheduler.ts';

const STOP_TIMEOUT_MS = 40_000;
const RESTART_DELAY_MS = 1000;

function nodeConfig(
  config: KubeletConfig,
  instance: Instance,
  node: NodeNetwork,
  apiPort: number,
): NodeConfig {
  const dir = join(config.stateDir, 'nodes', node.name);
  return {
    name: node.name,
    kubeconfig: config.kubeconfig,
    api: { host: bridgeAddress(instance), port: apiPort },
    stateDir: config.stateDir,
    dir,
    suffix: instance.suffix,
    instance: instance.number,
    address: node.address,
    podCidr: node.podCidr,
    gateway: node.gateway,
    ipv6: node.ipv6,
    kubeletToken: config.kubeletToken,
    kubeletPort: config.kubeletPort,
    serviceCidr: config.serviceCidr,
    clusterDns: config.clusterDns,
    clusterDomain: config.clusterDomain,
  };
}

/** Keeps the process of each node running until told to stop. */
class NodeProcesses {
  readonly #children = new Map<string, ChildProcess>();
  #stopping = false;

  start(node: NodeNetwork, config: NodeConfig): void {
    const script = join(import.meta.dirname, 'node-main.ts');
    const child = spawn(
      'nsenter',
      [`--net=/var/run/netns/${node.netns}`, process.execPath, script],
      { stdio: ['ignore', 'inherit', 'inherit', 'ipc'], detached: true },
    );
    child.send(config);
    this.#children.set(node.name, child);
    child.on('error', (err) =>
      log.error({ node: node.name, err: err.message }, 'node not started'),
    );
    child.on('exit', (code, signal) => {
      this.#children.delete(node.name);
      if (this.#stopping) return;
      log.error({ node: node.name, code, signal }, 'node process ended, starting it again');
      setTimeout(() => {
        if (!this.#stopping) this.start(node, config);
      }, RESTART_DELAY_MS);
    });
  }

  async stop(): Promise<void> {
    this.#stopping = true;
    const children = [...this.#children.values()];
    await Promise.all(
      children.map(
        (child) =>
          new Promise<void>((resolve) => {
            const timer = setTimeout(() => child.kill('SIGKILL'), STOP_TIMEOUT_MS);
            child.on('exit', () => {
              clearTimeout(timer);
              resolve();
            });
            child.kill('SIGTERM');
          }),
      ),
    );
  }
}

/** In a user namespace started without `--mount-proc`, /proc shows other processes than ours: mount our own. */
async function ensureProc(): Promise<void> {
  if (readlinkSync('/proc/self') === String(process.pid)) return;
  await tryCommand(['mount', '-t', 'proc', 'proc', '/proc']);
}

async function run(config: KubeletConfig): Promise<void> {
  mkdirSync(config.stateDir, { recursive: true, mode: 0o700 });
  const stateLock = await lockState(config.stateDir);
  if (stateLock === undefined) {
    throw new MeshError('already_running', `another kubelet uses ${config.stateDir}`);
  }
  await ensureProc();
  const left = await cleanInstance(config.stateDir, await recordedInstance(config.stateDir));
  if (left > 0) log.info({ namespaces: left }, 'removed what an earlier run left');
  if (config.cleanOnly) {
    stateLock.close();
    return;
  }
  const { instance, lock } = await claimInstance(config.stateDir);
  const processes = new NodeProcesses();
  const stopped = new Promise<string>((resolve) => {
    for (const signal of ['SIGTERM', 'SIGINT', 'SIGHUP'] as const) {
      process.on(signal, () => resolve(signal));
    }
  });
  const nodes = planNodes(instance, config.nodes);
  const end = new AbortController();
  let relay;
  try {
    await makeNodes(instance, config.stateDir, nodes, config.serviceCidr);
    const { server } = await loadConnection({ kubeconfig: config.kubeconfig });
    const target = {
      host: server.hostname.replace(/^\[|\]$/g, ''),
      port: Number(server.port || 443),
    };
    relay = await startRelay(bridgeAddress(instance), target);
    for (const node of nodes) {
      mkdirSync(join(config.stateDir, 'nodes', node.name), { recursive: true });
      processes.start(node, nodeConfig(config, instance, node, relay.port));
    }
    void new Scheduler(await ApiClient.open(config.kubeconfig), config.nodes).run(end.signal);
    log.info(
      { instance: instance.number, nodes: nodes.map(({ netns }) => netns) },
      'nodes started',
    );
    log.info({ signal: await stopped }, 'stopping');
  } finally {
    end.abort(new Error('the kubelet stops'));
    await processes.stop();
    relay?.server.close();
    await cleanInstance(config.stateDir, instance);
    lock.close();
    stateLock.close();
  }
}

try {
  const config = parseFlags(process.argv.slice(2), process.env);
  if (config === undefined) process.stdout.write(HELP + '\n');
  else await run(config);
  process.exit(0);
} catch (err) {
  log.error({ err: errorMessage(err) }, 'kubelet failed');
  process.exit(1);
}
