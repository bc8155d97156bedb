// A cluster at work: its endpoints (from the workload store, cut to a subset's members), balancing state, circuit
// breakers and connection pools. Lives as long as requests or configuration refer to its name.
import type { Cluster } from '../../common/l7/gen/l7_pb.ts';
import { listCandidates } from '../../common/workload/load-balance.ts';
import type { LoadBalancingSource } from '../../common/workload/load-balance.ts';
import type { WorkloadStore } from '../../common/workload/store.ts';
import type { L7Config } from '../state/l7-config.ts';
import { ConnectionPool } from '../upstream/connection-pool.ts';
import type { OpenHttp2Client, PoolLimits } from '../upstream/connection-pool.ts';
import type { Dial } from '../upstream/dial.ts';
import { pickEndpoint, recordOutcome } from './balancer.ts';
import { createEndpoint } from './endpoint.ts';
import type { Endpoint } from './endpoint.ts';

/** What all clusters of a thread share. */
export interface ClusterEnvironment {
  readonly store: WorkloadStore;
  /** Counts changes of the store. */
  readonly storeVersion: () => number;
  readonly l7: L7Config;
  readonly self: LoadBalancingSource;
  readonly dial: Dial;
  readonly openHttp2: OpenHttp2Client;
  readonly now: () => number;
  readonly random: () => number;
}

const DEFAULT_CONNECT_TIMEOUT_MS = 10_000;
const IDLE_CONNECTION_MS = 60_000;

/** One cluster's state in this thread. */
export class ClusterRuntime {
  readonly name: string;
  readonly #env: ClusterEnvironment;
  readonly #fixed: Endpoint | undefined;
  #config: Cluster | undefined;
  readonly #endpoints = new Map<string, Endpoint>();
  #list: readonly Endpoint[] = [];
  #seenStore = -1;
  #seenL7 = -1;
  readonly #pools = new Map<string, ConnectionPool>();
  readonly #cursor = { next: 0 };
  readonly counters = { connections: 0 };
  activeRequests = 0;
  pendingRequests = 0;

  /** `fixed` makes a cluster of one endpoint without configuration: the direct path to a workload. */
  constructor(name: string, env: ClusterEnvironment, fixed?: Endpoint) {
    this.name = name;
    this.#env = env;
    this.#fixed = fixed;
    if (fixed !== undefined) this.#list = [fixed];
  }

  get config(): Cluster | undefined {
    return this.#config;
  }

  /** Takes the current configuration; false when there is none. */
  refresh(): boolean {
    if (this.#fixed !== undefined) return true;
    const { l7, storeVersion } = this.#env;
    this.#config = l7.cluster(this.name);
    if (this.#config === undefined) return false;
    if (this.#seenStore !== storeVersion() || this.#seenL7 !== l7.version) {
      this.#seenStore = storeVersion();
      this.#seenL7 = l7.version;
      this.#rebuild(this.#config);
    }
    return true;
  }

  get endpoints(): readonly Endpoint[] {
    return this.#list;
  }

  /** The endpoint for a try. */
  pick(tried: ReadonlySet<string> | undefined): Endpoint | undefined {
    return pickEndpoint(this.#cursor, {
      policy: this.#config?.lbPolicy ?? 0,
      endpoints: this.#list,
      nowMs: this.#env.now(),
      tried,
      random: this.#env.random,
    });
  }

  /** Notes a response's status, or 0 when none came. */
  record(endpoint: Endpoint, status: number): void {
    recordOutcome(endpoint, this.#list, this.#config?.outlierDetection, status, this.#env.now());
  }

  /** Whether the circuit breakers let one more request through. */
  get admitsRequest(): boolean {
    const max = this.#config?.maxRequests ?? 0;
    return max === 0 || this.activeRequests < max;
  }

  /** Whether one more request may wait for a connection. */
  get admitsPending(): boolean {
    const max = this.#config?.maxPendingRequests ?? 0;
    return max === 0 || this.pendingRequests < max;
  }

  get connectTimeoutMs(): number {
    const configured = this.#config?.connectTimeoutMs ?? 0;
    return configured === 0 ? DEFAULT_CONNECT_TIMEOUT_MS : configured;
  }

  pool(endpoint: Endpoint, isHttp2: boolean): ConnectionPool {
    const key = isHttp2 ? `${endpoint.key}|h2` : endpoint.key;
    let pool = this.#pools.get(key);
    if (pool === undefined) {
      const { dial, openHttp2, now } = this.#env;
      pool = new ConnectionPool({
        endpoint,
        isHttp2,
        dial,
        openHttp2,
        limits: () => this.#limits(),
        counters: this.counters,
        now,
      });
      this.#pools.set(key, pool);
    }
    return pool;
  }

  /** Closes idle connections and forgets empty pools. True when nothing is left. */
  sweep(isRemoved: boolean): boolean {
    const before = isRemoved ? Infinity : this.#env.now() - IDLE_CONNECTION_MS;
    for (const [key, pool] of this.#pools) {
      pool.closeIdle(before);
      if (pool.isUnused) this.#pools.delete(key);
    }
    return isRemoved && this.#pools.size === 0 && this.activeRequests === 0;
  }

  #limits(): PoolLimits {
    return {
      connectTimeoutMs: this.connectTimeoutMs,
      maxConnections: this.#config?.maxConnections ?? 0,
      maxRequestsPerConnection: this.#config?.maxRequestsPerConnection ?? 0,
    };
  }

  #rebuild(config: Cluster): void {
    const { store, self, l7 } = this.#env;
    const service = store.service(`${config.namespace}/${config.hostname}`);
    const members = config.hasMembers ? l7.members(config.name) : undefined;
    const list: Endpoint[] = [];
    const seen = new Set<string>();
    const candidates =
      service === undefined
        ? []
        : listCandidates(store, { service, servicePort: config.servicePort, source: self });
    for (const { workload, port } of candidates) {
      if (config.hasMembers && members?.has(workload.uid) !== true) continue;
      if (workload.capacity === 0) continue;
      const key = `${workload.uid}|${port}`;
      const known = this.#endpoints.get(key) ?? createEndpoint(key, workload, port);
      known.workload = workload;
      this.#endpoints.set(key, known);
      seen.add(key);
      list.push(known);
    }
    this.#list = list;
    for (const key of this.#endpoints.keys()) if (!seen.has(key)) this.#dropEndpoint(key);
  }

  #dropEndpoint(key: string): void {
    this.#endpoints.delete(key);
    for (const poolKey of [key, `${key}|h2`]) {
      this.#pools.get(poolKey)?.close();
      this.#pools.delete(poolKey);
    }
  }
}

/** The clusters of a thread by name. */
export class ClusterRegistry {
  readonly #env: ClusterEnvironment;
  readonly #clusters = new Map<string, ClusterRuntime>();
  readonly #direct = new Map<string, ClusterRuntime>();

  constructor(env: ClusterEnvironment) {
    this.#env = env;
  }

  /** The cluster with current endpoints; undefined when it is not configured. */
  get(name: string): ClusterRuntime | undefined {
    let cluster = this.#clusters.get(name);
    if (cluster === undefined) {
      if (this.#env.l7.cluster(name) === undefined) return undefined;
      cluster = new ClusterRuntime(name, this.#env);
      this.#clusters.set(name, cluster);
    }
    return cluster.refresh() ? cluster : undefined;
  }

  /** The cluster of one workload that was addressed directly. */
  direct(workload: Endpoint['workload'], port: number): ClusterRuntime {
    const key = `${workload.uid}|${port}`;
    let cluster = this.#direct.get(key);
    if (cluster === undefined) {
      const endpoint = createEndpoint(key, workload, port);
      cluster = new ClusterRuntime(`direct|${port}|${workload.name}`, this.#env, endpoint);
      this.#direct.set(key, cluster);
    }
    return cluster;
  }

  /** Periodic: idle connections, clusters that are no longer configured. */
  sweep(): void {
    for (const [name, cluster] of this.#clusters) {
      if (cluster.sweep(this.#env.l7.cluster(name) === undefined)) this.#clusters.delete(name);
    }
    for (const [key, cluster] of this.#direct) {
      const uid = key.slice(0, key.lastIndexOf('|'));
      const isGone = this.#env.store.workload(uid) === undefined;
      if (cluster.sweep(isGone) || cluster.counters.connections === 0) {
        if (cluster.activeRequests === 0) this.#direct.delete(key);
      }
    }
  }

  /** Endpoints and counters, for the admin dump. */
  describe(): unknown {
    return [...this.#clusters.values()].map((cluster) => ({
      name: cluster.name,
      activeRequests: cluster.activeRequests,
      pendingRequests: cluster.pendingRequests,
      connections: cluster.counters.connections,
      endpoints: cluster.endpoints.map(({ key, activeRequests, ejectedUntilMs }) => ({
        key,
        activeRequests,
        isEjected: ejectedUntilMs > this.#env.now(),
      })),
    }));
  }
}
