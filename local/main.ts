// `npm start`: a cluster of two nodes on this machine with the mesh and a sample application on it. Supervises the
// API server and the kubelet; everything else runs as pods from manifests/.
import { createHash } from 'node:crypto';
import { createServer, Socket, type Server } from 'node:net';
import { runCommand } from '../common/command-line.ts';
import { errorMessage, MeshError } from '../common/errors.ts';
import { runChecks } from './check/run.ts';
import { Cluster } from './cluster.ts';
import { KINDS } from '../common/kube/resource.ts';
import type { Pod } from './cluster-api.ts';
import { endLeftovers } from './leftovers.ts';
import { showLiveLine } from './live-line.ts';
import { Forwarder, inheritListener, listenLoopback, portOf } from './loopback.ts';
import { HELP, makeStateDir, parseOptions, type StartOptions } from './options.ts';
import { preflight } from './preflight.ts';
import { Progress } from './progress.ts';
import {
  API_FD,
  LIFE_FD,
  mayMakeNamespaces,
  requireUserNamespaces,
  runInside,
  UI_FD,
} from './user-namespace.ts';
import { describeCluster } from './welcome.ts';

const DASHBOARD_PORT = 15014;
const FOLLOW_MS = 1000;

/** Held while this clone's cluster runs; it vanishes with the process. */
function lockState(stateDir: string): Promise<Server> {
  const digest = createHash('sha256').update(stateDir).digest('hex').slice(0, 32);
  const server = createServer((socket) => socket.destroy());
  return new Promise((resolve, reject) => {
    server.once('error', () =>
      reject(new MeshError('already_running', `a cluster of ${stateDir} is running already`)),
    );
    server.listen(`\0ambient-mesh-start:${digest}`, () => resolve(server));
  });
}

/** Keeps the dashboard's forwarder pointed at the control plane's pod. */
function followControlPlane(cluster: Cluster, forwarder: Forwarder): NodeJS.Timeout {
  const look = async (): Promise<void> => {
    const pods: readonly Pod[] = await cluster.api.list<Pod>(KINDS.pods, 'istio-system');
    const host = pods.find(
      ({ metadata }) =>
        metadata?.labels?.['app'] === 'istiod' && metadata.deletionTimestamp === undefined,
    )?.status?.podIP;
    forwarder.target = host === undefined ? undefined : { host, port: DASHBOARD_PORT };
  };
  return setInterval(() => {
    look().catch(() => undefined);
  }, FOLLOW_MS);
}

interface Listeners {
  readonly apiPort: number;
  readonly ui: Server;
  /** In a user namespace: the API's listener outside, to be passed on to the one inside. */
  readonly api?: Server;
}

async function openListeners(options: StartOptions): Promise<Listeners> {
  if (options.isInner) {
    const api = await inheritListener(API_FD);
    return { api, apiPort: portOf(api), ui: await inheritListener(UI_FD) };
  }
  const api = await listenLoopback(options.apiPort);
  const apiPort = portOf(api);
  await new Promise((resolve) => api.close(resolve));
  return { apiPort, ui: await listenLoopback(options.uiPort) };
}

async function runCluster(options: StartOptions, signal: AbortSignal): Promise<number> {
  const progress = new Progress();
  const listeners = await openListeners(options);
  const { apiPort } = listeners;
  let fail: (reason: Error) => void = () => undefined;
  const fatal = new Promise<never>((_resolve, reject) => (fail = reject));
  fatal.catch(() => undefined);
  const cluster = new Cluster({
    stateDir: options.stateDir,
    apiPort,
    signal,
    onFatal: (reason) => fail(new MeshError('child_failed', reason)),
  });
  const ui = new Forwarder(listeners.ui);
  const api = listeners.api && new Forwarder(listeners.api, { host: '127.0.0.1', port: apiPort });
  let follow: NodeJS.Timeout | undefined;
  const work = async (): Promise<number> => {
    await cluster.startNodes(progress);
    await cluster.startMesh(progress);
    follow = followControlPlane(cluster, ui);
    if (!options.isEmpty) await cluster.startSample(progress);
    progress.done();
    if (options.isCheck) return runChecks(cluster, options, signal);
    const { kubeconfig } = cluster;
    process.stdout.write(
      describeCluster({ options, kubeconfig, uiPort: ui.port, apiPort, seconds: progress.seconds }),
    );
    await showLiveLine(cluster.api, signal);
    return 0;
  };
  try {
    return await Promise.race([work(), fatal]);
  } finally {
    clearInterval(follow);
    process.stdout.write('stopping\n');
    ui.close();
    api?.close();
    await cluster.stop();
    process.stdout.write('stopped, nothing is left running\n');
  }
}

async function run(options: StartOptions): Promise<number> {
  if (!options.isInner) {
    preflight({ mayInstall: options.mayInstall });
    const lock = await lockState(options.stateDir);
    makeStateDir(options.stateDir);
    const left = await endLeftovers(options.stateDir);
    if (left > 0) process.stdout.write('ended what a killed run left\n');
    if (!mayMakeNamespaces()) {
      requireUserNamespaces();
      const args = [...process.argv.slice(1), '--inner', '--state', options.stateDir];
      const api = await listenLoopback(options.apiPort);
      const code = await runInside(args, api, await listenLoopback(options.uiPort));
      lock.close();
      return code;
    }
  }
  const stop = new AbortController();
  for (const signal of ['SIGINT', 'SIGTERM', 'SIGHUP'] as const) {
    process.on(signal, () => stop.abort(new MeshError('stopped', 'stopped')));
  }
  if (options.isInner) {
    const life = new Socket({ fd: LIFE_FD, readable: true, writable: false });
    life.on('close', () => stop.abort(new MeshError('stopped', 'the starter ended')));
    life.on('error', () => life.destroy());
    life.resume().unref();
  }
  try {
    return await runCluster(options, stop.signal);
  } catch (err) {
    if (stop.signal.aborted) return options.isCheck ? 1 : 0;
    throw err;
  }
}

await runCommand('npm start', async () => {
  const options = parseOptions(process.argv.slice(2), process.getuid?.() ?? 0);
  if (options === undefined) {
    process.stdout.write(HELP + '\n');
    return 0;
  }
  try {
    return await run(options);
  } catch (err) {
    process.stderr.write(`npm start: ${errorMessage(err)}\n`);
    return 1;
  }
});
// Inherited listeners and the lock would keep the process alive.
process.exit();
