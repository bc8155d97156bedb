// Builds the agent and runs it: watches pods of this node and namespaces, restores what an earlier agent had
// enrolled, then opens the sockets for the plugin and the node proxies.
import { mkdirSync } from 'node:fs';
import { dirname, join } from 'node:path';
import { systemClock } from '../../common/clock.ts';
import { errorMessage } from '../../common/errors.ts';
import { isKubeStatus, KubeClient } from '../../common/kube/client.ts';
import { loadConnection } from '../../common/kube/connection.ts';
import { Informer } from '../../common/kube/informer.ts';
import { KINDS, objectPath, type KubeObject } from '../../common/kube/resource.ts';
import { openEndpoint, type Endpoint } from '../../common/telemetry/http-endpoint.ts';
import type { Logger, LoggerRoot } from '../../common/telemetry/logger.ts';
import type { CniAddEvent } from '../rules/event.ts';
import type { AgentConfig } from './config.ts';
import { Enroller } from './enroller.ts';
import { HostProbes } from './host-probes.ts';
import { Installer, type PluginToken } from './install.ts';
import { AgentMetrics } from './metrics.ts';
import { PluginEvents } from './plugin-events.ts';
import type { Pod } from './pod.ts';
import { openEventNetns } from './pod-netns.ts';
import { ZdsServer } from './zds-server.ts';

const DAEMON_SET = 'istio-cni-node';
const SERVICE_ACCOUNT = 'istio-cni';
/** A week: how long an absent agent does not stop pods that stay outside the mesh. */
const PLUGIN_TOKEN_SECONDS = 604_800;
const POD_WAIT_TRIES = 20;
const POD_WAIT_MS = 25;

interface TokenAnswer {
  readonly status: { readonly token: string; readonly expirationTimestamp: string };
}

/** A token of our service account that is not bound to this pod. */
async function requestPluginToken(client: KubeClient, namespace: string): Promise<PluginToken> {
  const answer = await client.json<TokenAnswer>({
    method: 'POST',
    path: objectPath(KINDS.serviceAccounts, namespace, SERVICE_ACCOUNT, 'token'),
    body: {
      apiVersion: 'authentication.k8s.io/v1',
      kind: 'TokenRequest',
      spec: { expirationSeconds: PLUGIN_TOKEN_SECONDS },
    },
  });
  const now = Date.now();
  const lifeMs = Date.parse(answer.status.expirationTimestamp) - now;
  return { token: answer.status.token, renewAtMs: now + lifeMs / 2 };
}

export class Agent {
  readonly #config: AgentConfig;
  readonly #logger: Logger;
  readonly #client: KubeClient;
  readonly #metrics = new AgentMetrics();
  readonly #end = new AbortController();
  readonly #zds: ZdsServer;
  readonly #enroller: Enroller;
  readonly #installer: Installer;
  readonly #probes: HostProbes;
  readonly #events: PluginEvents;
  readonly #pods: Informer<Pod>;
  readonly #namespaces: Informer<KubeObject>;
  readonly #endpoints: Endpoint[] = [];
  #isRestored = false;

  private constructor(config: AgentConfig, logger: Logger, client: KubeClient) {
    this.#config = config;
    this.#logger = logger;
    this.#client = client;
    const clock = systemClock;
    this.#probes = new HostProbes(config);
    this.#installer = new Installer({
      config,
      logger,
      metrics: this.#metrics,
      clock,
      requestToken: () => requestPluginToken(client, config.podNamespace),
    });
    this.#zds = new ZdsServer({
      path: config.zdsPath,
      logger,
      clock,
      pods: () => this.#enroller.zdsPods(),
      onConnections: (count) => this.#metrics.set('ztunnel_connected', count),
    });
    this.#enroller = new Enroller({
      config,
      clock,
      logger,
      metrics: this.#metrics,
      zds: this.#zds,
      probes: this.#probes,
      pods: () => this.#pods.objects.values(),
      namespaceLabels: (name) => this.#namespaces.objects.get(name)?.metadata?.labels ?? {},
      annotate: async ({ namespace, name, uid }, annotations) => {
        const patch = { metadata: { uid, annotations } };
        try {
          await client.mergePatch({ kind: KINDS.pods, namespace, name }, patch, 'status');
        } catch (err) {
          // Gone, or another pod of that name: nothing to say about this one.
          if (!isKubeStatus(err, 404) && !isKubeStatus(err, 409)) throw err;
        }
      },
    });
    this.#events = new PluginEvents({
      path: join(config.runDir, 'pluginevent.sock'),
      logger,
      onAdd: (event) => this.#onPluginAdd(event),
      onAnswer: (status) =>
        this.#metrics.count('istio_cni_plugin_requests_total', `response_code="${status}"`),
    });
    const common = { client, clock, logger };
    this.#pods = new Informer<Pod>({
      ...common,
      kind: KINDS.pods,
      fieldSelector: `spec.nodeName=${config.nodeName}`,
      onChange: ({ current, previous }) => this.#onPod(current, previous),
    });
    this.#namespaces = new Informer<KubeObject>({
      ...common,
      kind: KINDS.namespaces,
      onChange: ({ key }) => {
        if (this.#isRestored) this.#enroller.onNamespace(key);
      },
    });
  }

  /** Connects and starts everything; resolves when the agent serves. */
  static async start(config: AgentConfig, root: LoggerRoot): Promise<Agent> {
    const connection = await loadConnection({
      ...(config.kubeconfig === undefined ? {} : { kubeconfig: config.kubeconfig }),
      ...(config.serviceHost === undefined ? {} : { serviceHost: config.serviceHost }),
      servicePort: config.servicePort,
      serviceAccountDir: config.serviceAccountDir,
    });
    const agent = new Agent(config, root.scope('cni'), new KubeClient(connection, 'istio-cni'));
    await agent.#start();
    return agent;
  }

  async #start(): Promise<void> {
    await this.#openEndpoints();
    const { signal } = this.#end;
    void this.#pods.run(signal);
    void this.#namespaces.run(signal);
    await this.#synced();
    await this.#probes.apply();
    await this.#enroller.restore();
    this.#isRestored = true;
    mkdirSync(dirname(this.#config.zdsPath), { recursive: true });
    this.#zds.run().catch((err: unknown) => {
      this.#logger.error({ err: errorMessage(err) }, 'zds server failed');
      process.kill(process.pid, 'SIGTERM');
    });
    await this.#events.open();
    void this.#installer.run(signal);
    for (const pod of this.#pods.objects.values()) {
      this.#enroller.onPod(pod.metadata?.uid ?? '', pod);
    }
    this.#logger.info({ pods: this.#enroller.zdsPods().length }, 'cni agent serves');
  }

  /** Stops serving. Enrolled pods stay as they are: the node proxy goes on with them. */
  async close(): Promise<void> {
    if (await this.#isUninstalled()) {
      this.#installer.uninstall();
      await this.#probes.clear().catch(() => undefined);
    }
    this.#end.abort(new Error('the agent stops'));
    this.#events.close();
    this.#zds.close();
    this.#enroller.close();
    for (const endpoint of this.#endpoints) await endpoint.close();
    this.#client.close();
  }

  /** True when our DaemonSet is gone or going: not an upgrade or a restart. */
  async #isUninstalled(): Promise<boolean> {
    try {
      const own = await this.#client.get<KubeObject>({
        kind: KINDS.daemonSets,
        namespace: this.#config.podNamespace,
        name: DAEMON_SET,
      });
      return own === undefined || own.metadata?.deletionTimestamp !== undefined;
    } catch (err) {
      return isKubeStatus(err, 401);
    }
  }

  #synced(): Promise<void> {
    return new Promise((resolve) => {
      const look = (): void => {
        if (this.#pods.hasSynced && this.#namespaces.hasSynced) resolve();
        else systemClock.after(10, look);
      };
      look();
    });
  }

  #onPod(current: Pod | undefined, previous: Pod | undefined): void {
    if (!this.#isRestored) return;
    const uid = current?.metadata?.uid;
    const oldUid = previous?.metadata?.uid;
    if (oldUid !== undefined && oldUid !== uid) this.#enroller.onPod(oldUid, undefined);
    if (uid !== undefined) this.#enroller.onPod(uid, current);
  }

  async #onPluginAdd(event: CniAddEvent): Promise<void> {
    const { PodNamespace: namespace, PodName: name } = event;
    // The runtime may be faster than our watch.
    for (let tries = 0; tries < POD_WAIT_TRIES; tries++) {
      if (this.#pods.objects.has(`${namespace}/${name}`)) break;
      await new Promise((resolve) => setTimeout(resolve, POD_WAIT_MS));
    }
    const ips = event.IPs.map(({ Address }) => Address.IP);
    const netns = openEventNetns(this.#config.netnsDir, event.Netns);
    await this.#enroller.addFromPlugin(namespace, name, ips, netns);
  }

  async #openEndpoints(): Promise<void> {
    const { metricsPort, healthPort } = this.#config;
    const host = '::';
    const metrics = (): { body: string } => ({ body: this.#metrics.render() });
    const ready = (): { status: number; body: string } => {
      const isReady = this.#isRestored && this.#installer.isInstalled;
      return { status: isReady ? 200 : 503, body: isReady ? 'ok\n' : 'not ready\n' };
    };
    this.#endpoints.push(
      await openEndpoint({ host, port: metricsPort, routes: { '/metrics': metrics } }),
      await openEndpoint({
        host,
        port: healthPort,
        routes: { '/healthz': () => ({ body: 'ok\n' }), '/readyz': ready },
      }),
    );
  }
}
