// The local cluster as the start sees it: the API server and the kubelet as supervised children, the manifests, the
// waiting until everything is ready, and the stop in the opposite order.
import { randomBytes } from 'node:crypto';
import { existsSync, rmSync, writeFileSync } from 'node:fs';
import { join } from 'node:path';
import { KINDS } from '../common/kube/resource.ts';
import { ChildProgram } from './child-program.ts';
import { ClusterApi, isComplete, readManifests, type Pod, type Workload } from './cluster-api.ts';
import { REPOSITORY } from './options.ts';
import type { Progress } from './progress.ts';

const SERVICE_CIDR = '10.96.0.0/16';
const READY_TIMEOUT_MS = 180_000;
const API_STOP_MS = 5000;
const KUBELET_STOP_MS = 45_000;
/** In the order of what needs what. */
const MESH_MANIFESTS = ['crds', 'base', 'controlplane', 'cni', 'ztunnel'];

const manifestPath = (name: string): string => join(REPOSITORY, 'manifests', name);

export interface ClusterOptions {
  readonly stateDir: string;
  /** Where the API server listens; also what the kubeconfig says. */
  readonly apiPort: number;
  readonly signal: AbortSignal;
  readonly onFatal: (reason: string) => void;
}

export class Cluster {
  readonly #options: ClusterOptions;
  readonly kubeconfig: string;
  #apiserver: ChildProgram | undefined;
  #kubelet: ChildProgram | undefined;
  #api: ClusterApi | undefined;

  constructor(options: ClusterOptions) {
    this.#options = options;
    this.kubeconfig = join(options.stateDir, 'kubeconfig');
  }

  /** The API; only after {@link startNodes}. */
  get api(): ClusterApi {
    if (this.#api === undefined) throw new Error('the cluster has not started');
    return this.#api;
  }

  /** Starts the API server with an empty store, then the nodes. */
  async startNodes(progress: Progress): Promise<void> {
    const { stateDir, apiPort, signal, onFatal } = this.#options;
    const token = randomBytes(16).toString('hex');
    const data = join(stateDir, 'apiserver');
    const tokenFile = join(stateDir, 'kubelet-token');
    writeFileSync(tokenFile, token, { mode: 0o600 });
    progress.step('Kubernetes API');
    // What an earlier run stored is about pods that are gone.
    for (const path of [data, this.kubeconfig]) rmSync(path, { recursive: true, force: true });
    this.#apiserver = new ChildProgram({
      name: 'apiserver',
      script: 'local/apiserver/main.ts',
      args: [
        ...['--data', data, '--listen', `127.0.0.1:${apiPort}`],
        ...['--service-cidr', SERVICE_CIDR, '--kubeconfig-out', this.kubeconfig],
        ...['--kubelet-token', tokenFile],
      ],
      stateDir,
      stopMs: API_STOP_MS,
      onGiveUp: onFatal,
    });
    this.#api = await this.#connect(signal);
    progress.step('two nodes');
    this.#kubelet = new ChildProgram({
      name: 'kubelet',
      script: 'local/kubelet/main.ts',
      args: ['--kubeconfig', this.kubeconfig, '--state', stateDir],
      env: { KUBELET_TOKEN: token },
      stateDir,
      stopMs: KUBELET_STOP_MS,
      onGiveUp: onFatal,
    });
    await this.api.until(
      'nodes',
      async () => ((await this.api.list(KINDS.nodes)).length >= 2 ? true : undefined),
      READY_TIMEOUT_MS,
      signal,
    );
  }

  /** Applies the mesh's manifests and waits for its programs. */
  async startMesh(progress: Progress): Promise<void> {
    progress.step('the mesh: control plane, cni, node proxies');
    const objects = MESH_MANIFESTS.map(manifestPath).filter(existsSync).flatMap(readManifests);
    await this.api.apply(objects, this.#options.signal);
    await this.#waitReady('istio-system', progress);
  }

  /** Applies the sample and waits for its pods, the waypoints included. */
  async startSample(progress: Progress): Promise<void> {
    progress.step('the sample: a book shop, a waypoint, policies');
    await this.api.apply(readManifests(manifestPath('samples')), this.#options.signal);
    await this.api.until(
      'the waypoint of bookinfo',
      async () => {
        const found = await this.api.list<Workload>(KINDS.deployments, 'bookinfo');
        return found.some(({ metadata }) => metadata?.name === 'waypoint') ? true : undefined;
      },
      READY_TIMEOUT_MS,
      this.#options.signal,
    );
    for (const namespace of ['bookinfo', 'strict']) await this.#waitReady(namespace, progress);
  }

  /** Stops the nodes with all that runs on them, then the API server. */
  async stop(): Promise<void> {
    await this.#kubelet?.stop();
    this.#api?.close();
    await this.#apiserver?.stop();
    // Who looks for a cluster of this clone finds none.
    rmSync(this.kubeconfig, { force: true });
  }

  async #connect(signal: AbortSignal): Promise<ClusterApi> {
    const deadline = Date.now() + READY_TIMEOUT_MS;
    while (!existsSync(this.kubeconfig) && Date.now() < deadline) {
      signal.throwIfAborted();
      await new Promise((resolve) => setTimeout(resolve, 50));
    }
    const api = await ClusterApi.open(this.kubeconfig);
    await api.until(
      'the Kubernetes API',
      () => api.list(KINDS.namespaces),
      READY_TIMEOUT_MS,
      signal,
    );
    return api;
  }

  async #waitReady(namespace: string, progress: Progress): Promise<void> {
    const { signal } = this.#options;
    let missing = '';
    try {
      await this.api.until(
        `pods of ${namespace}`,
        async () => {
          const all = [
            ...(await this.api.list<Workload>(KINDS.deployments, namespace)),
            ...(await this.api.list<Workload>(KINDS.daemonSets, namespace)),
          ];
          const waiting = all.filter((workload) => !isComplete(workload));
          missing = waiting.map(({ metadata }) => metadata?.name ?? '').join(' ');
          progress.detail(
            `${all.length - waiting.length} of ${all.length}, waiting for ${missing}`,
          );
          return waiting.length === 0 ? true : undefined;
        },
        READY_TIMEOUT_MS,
        signal,
      );
    } catch (err) {
      signal.throwIfAborted();
      throw new Error(
        `${missing} in ${namespace} did not start: ${await this.#reasons(namespace)}`,
        {
          cause: err,
        },
      );
    }
  }

  /** Why pods are not ready, in a line. */
  async #reasons(namespace: string): Promise<string> {
    const pods = await this.api.list<Pod>(KINDS.pods, namespace).catch(() => []);
    const reasons = pods.flatMap(({ metadata, status }) =>
      (status?.containerStatuses ?? []).flatMap(({ state, restartCount }) => {
        const { waiting } = state ?? {};
        if (waiting === undefined && restartCount === 0) return [];
        const why = waiting?.message ?? waiting?.reason ?? `${restartCount} restarts`;
        return [`${metadata?.name ?? ''}: ${why}`];
      }),
    );
    const logs = join(this.#options.stateDir, 'logs');
    return `${reasons.join('; ') || 'no reason given'} (logs in ${logs})`;
  }
}
