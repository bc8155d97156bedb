// Puts the control plane together: watch -> compile -> serve, with the CA and the controllers beside it. Proxies are
// served only once everything has been listed: an early, empty answer would take a restarted mesh apart.
import { setImmediate as nextTurn } from 'node:timers/promises';
import { sleep, systemClock } from '../common/clock.ts';
import type { CompileInput } from '../common/compile/types.ts';
import { errorMessage } from '../common/errors.ts';
import { openGrpcServer } from '../common/grpc/server.ts';
import type { GrpcServer } from '../common/grpc/server.ts';
import { KubeClient } from '../common/kube/client.ts';
import { loadConnection } from '../common/kube/connection.ts';
import { EventRecorder } from '../common/kube/events.ts';
import type { ObjectChange } from '../common/kube/informer.ts';
import type { KubeObject } from '../common/kube/resource.ts';
import { TokenReviewer } from '../common/kube/token-review.ts';
import { createLoggerRoot } from '../common/telemetry/logger.ts';
import type { LoggerRoot } from '../common/telemetry/logger.ts';
import { AuthoritySource } from './ca/authority-source.ts';
import { CertificateWatch } from './ca/certificate-watch.ts';
import { ConfigMapDistributor, REVOCATIONS, ROOTS } from './ca/config-map-distributor.ts';
import type { Distributed } from './ca/config-map-distributor.ts';
import { ProxyCertificates } from './ca/proxy-certificates.ts';
import { keepServerCertificate, serverNames } from './ca/server-certificate.ts';
import type { KeptCertificate } from './ca/server-certificate.ts';
import type { Config } from './config.ts';
import { dashboardPages } from './dashboard/dashboard.ts';
import { debugPages } from './debug-pages.ts';
import { FIELD_MANAGER, WaypointDeployer } from './deploy/waypoint-deployer.ts';
import { openHttpServer } from './http-server.ts';
import type { HttpServer } from './http-server.ts';
import { Counters } from './metrics.ts';
import { ChangeBatcher } from './model/change-batcher.ts';
import { MeshModel } from './model/mesh-model.ts';
import { Discovery } from './serve/discovery.ts';
import { ADDRESS_TYPE, AUTHORIZATION_TYPE, Snapshots } from './serve/snapshots.ts';
import { Withdrawal } from './serve/withdrawal.ts';
import { AddressAllocator } from './status/address-allocator.ts';
import { StatusWriter } from './status/status-writer.ts';
import { ClusterWatch } from './watch/cluster-watch.ts';
import type { WatchedName } from './watch/cluster-watch.ts';

const AUDIENCE = 'istio-ca';
const CONTROLLER = 'ambient-mesh.io/control-plane';
const LONE_CHANGE_MS = 15;
const ROOT_RETRY_MS = 1000;

/** A running control plane. */
export interface App {
  readonly tlsPort: number;
  readonly plainPort: number | undefined;
  readonly httpPort: number;
  /** Ends streams and watches; proxies keep what they have. */
  close(): Promise<void>;
}

/** Starts everything; resolves when proxies are served. */
export async function startApp(config: Config): Promise<App> {
  const logs = createLoggerRoot({ level: config.logLevel });
  const { kubeconfig, serviceHost, servicePort } = config;
  const connection = await loadConnection({
    ...(kubeconfig === undefined ? {} : { kubeconfig }),
    ...(serviceHost === undefined ? {} : { serviceHost }),
    ...(servicePort === undefined ? {} : { servicePort }),
  });
  const control = new ControlPlane(config, new KubeClient(connection, CONTROLLER), logs);
  await control.start();
  return control;
}

class ControlPlane implements App {
  readonly #config: Config;
  readonly #client: KubeClient;
  readonly #logs: LoggerRoot;
  readonly #stop = new AbortController();
  readonly #counters = new Counters();
  readonly #snapshots = new Snapshots();
  readonly #model: MeshModel;
  readonly #watch: ClusterWatch;
  readonly #batcher: ChangeBatcher;
  readonly #deployer: WaypointDeployer;
  readonly #statusWriter: StatusWriter;
  readonly #allocator: AddressAllocator;
  #hasNewEntries = true;
  readonly #certificates: CertificateWatch;
  readonly #proxyCertificates: ProxyCertificates;
  #authority: AuthoritySource | undefined;
  #roots: ConfigMapDistributor | undefined;
  #revocations: ConfigMapDistributor | undefined;
  #discovery: Discovery | undefined;
  #withdrawal: Withdrawal | undefined;
  #http: HttpServer | undefined;
  readonly #servers: GrpcServer[] = [];
  #certificate: KeptCertificate | undefined;
  #isReady = false;

  constructor(config: Config, client: KubeClient, logs: LoggerRoot) {
    this.#config = config;
    this.#client = client;
    this.#logs = logs;
    const clock = systemClock;
    this.#model = new MeshModel(logs.scope('model'));
    this.#batcher = new ChangeBatcher({
      clock,
      loneMs: LONE_CHANGE_MS,
      quietMs: config.debounceMs,
      maxMs: config.debounceMaxMs,
      run: () => this.#compile(),
    });
    const watch = new ClusterWatch({
      client,
      clock,
      logger: logs.scope('watch'),
      onChange: (name, change) => this.#onChange(name, change),
      onAppeared: (name) => {
        if (name === 'gatewayClasses' && this.#isReady) this.#deployer.noteClasses();
      },
    });
    this.#watch = watch;
    this.#deployer = new WaypointDeployer({
      client,
      clock,
      watch,
      logger: logs.scope('deploy'),
      domain: config.mesh.domain,
      settings: {
        image: config.waypointImage,
        imagePullPolicy: config.imagePullPolicy,
        crlConfigMap: config.waypointCrlConfigMap,
        trustDomain: config.mesh.trustDomain,
        trustDomainAliases: config.mesh.trustDomainAliases ?? [],
        clusterId: config.mesh.clusterId,
        controlPlaneAddress: `istiod.${config.mesh.rootNamespace}.svc:15012`,
      },
    });
    const logger = logs.scope('status');
    const events = new EventRecorder(client, { clock, logger, controller: CONTROLLER });
    this.#statusWriter = new StatusWriter({ client, clock, watch, logger, events });
    this.#certificates = new CertificateWatch({
      clock,
      pods: () => watch.objects('pods'),
      record: (event) => events.record(event),
    });
    this.#proxyCertificates = new ProxyCertificates({
      clock,
      rootNamespace: config.mesh.rootNamespace,
      pods: () => watch.objects('pods'),
      watch: this.#certificates,
    });
    this.#allocator = new AddressAllocator({ client, clock, watch, logger });
  }

  get tlsPort(): number {
    return this.#servers[0]?.port ?? 0;
  }

  get plainPort(): number | undefined {
    return this.#servers[1]?.port;
  }

  get httpPort(): number {
    return this.#http?.port ?? 0;
  }

  async start(): Promise<void> {
    const { signal } = this.#stop;
    this.#http = await openHttpServer({
      host: this.#config.listenHost,
      port: this.#config.httpPort,
      pages: this.#pages(),
    });
    const authority = await this.#openAuthority(signal);
    this.#authority = authority;
    void this.#watch.run(signal);
    this.#roots = this.#distribute(ROOTS, () => authority.current.rootsPem, signal);
    this.#revocations = this.#distribute(REVOCATIONS, () => authority.revocationsPem, signal);
    void authority.run(signal);
    await this.#watch.ready;
    this.#openDiscovery(authority, signal);
    this.#compile();
    await this.#listen(authority);
    void this.#deployer.run(signal);
    this.#isReady = true;
    const ports = { tlsPort: this.tlsPort, httpPort: this.httpPort };
    this.#logs.scope('app').info(ports, 'control plane ready');
  }

  async close(): Promise<void> {
    this.#isReady = false;
    this.#stop.abort(new Error('shutting down'));
    this.#batcher.close();
    this.#statusWriter.close();
    this.#allocator.close();
    this.#certificates.close();
    this.#proxyCertificates.close();
    this.#certificate?.close();
    await Promise.all(this.#servers.map((server) => server.close()));
    await this.#http?.close();
    this.#client.close();
    this.#logs.scope('app').info({}, 'control plane stopped');
    this.#logs.flush();
  }

  /** Keeps a text in every namespace. */
  #distribute(what: Distributed, text: () => string, signal: AbortSignal): ConfigMapDistributor {
    const distributor = new ConfigMapDistributor({
      client: this.#client,
      clock: systemClock,
      logger: this.#logs.scope('ca'),
      what,
      text,
      fieldManager: FIELD_MANAGER,
      namespaces: () => this.#watch.objects('namespaces'),
    });
    distributor.noteAll();
    void distributor.run(signal);
    return distributor;
  }

  /** The API may come up after us. */
  async #openAuthority(signal: AbortSignal): Promise<AuthoritySource> {
    const { rootNamespace: namespace, trustDomain } = this.#config.mesh;
    const logger = this.#logs.scope('ca');
    const client = this.#client;
    // Proxies learn the bundle before a server certificate that needs it: they retry, with the file as it is then.
    const onChange = (): void => {
      this.#roots?.noteAll();
      this.#certificate?.renew();
    };
    const onRevocations = (): void => this.#revocations?.noteAll();
    for (;;) {
      try {
        const clock = systemClock;
        return await AuthoritySource.open({
          client,
          clock,
          logger,
          namespace,
          trustDomain,
          onChange,
          onRevocations,
        });
      } catch (err) {
        logger.warn({ err: errorMessage(err) }, 'root not available yet');
      }
      await sleep(systemClock, ROOT_RETRY_MS, signal);
    }
  }

  #openDiscovery(authority: AuthoritySource, signal: AbortSignal): void {
    const client = this.#client;
    this.#discovery = new Discovery({
      authority: () => authority.current,
      reviewer: new TokenReviewer(client, AUDIENCE, systemClock),
      snapshots: this.#snapshots,
      trustDomain: this.#config.mesh.trustDomain,
      nodeAccounts: this.#config.nodeAccounts,
      pods: () => this.#watch.objects('pods'),
      counters: this.#counters,
      certificates: this.#certificates,
      logger: this.#logs.scope('xds'),
    });
    this.#withdrawal = new Withdrawal({
      client,
      clock: systemClock,
      signal,
      server: this.#discovery.server,
      logger: this.#logs.scope('withdrawal'),
    });
  }

  async #listen(authority: AuthoritySource): Promise<void> {
    const { mesh, listenHost, tlsPort, plainPort } = this.#config;
    const handlers = this.#discovery;
    if (handlers === undefined) return;
    const names = serverNames(mesh.rootNamespace, mesh.domain);
    const certificate = keepServerCertificate(
      () => authority.current,
      names,
      systemClock,
      (tls) => {
        for (const server of this.#servers) server.replaceTls(tls);
      },
    );
    this.#certificate = certificate;
    const host = listenHost.includes(':') ? `[${listenHost}]` : listenHost;
    const { tls } = certificate;
    this.#servers.push(await openGrpcServer({ address: `${host}:${tlsPort}`, tls, handlers }));
    if (plainPort === undefined) return;
    this.#servers.push(await openGrpcServer({ address: `127.0.0.1:${plainPort}`, handlers }));
  }

  #onChange(name: WatchedName, change: ObjectChange<KubeObject>): void {
    if (name === 'namespaces') {
      this.#roots?.note(change.key);
      this.#revocations?.note(change.key);
    }
    // Before the first compile the queue would only see half of the objects.
    if (!this.#isReady) return;
    if (name === 'serviceEntries') this.#hasNewEntries = true;
    this.#batcher.note();
    this.#deployer.onChange(name, change);
  }

  #compile(): void {
    const input: CompileInput = { mesh: this.#config.mesh, ...this.#watch.snapshot() };
    const isNew = this.#model.update(input);
    const { output } = this.#model;
    const { lastMs } = this.#model.stats;
    this.#counters.add(isNew ? 'ambient_compiles' : 'ambient_compile_failures');
    this.#counters.set('ambient_compile_milliseconds', lastMs);
    if (!isNew || output === undefined) return;
    this.#snapshots.update(output);
    this.#discovery?.server.publish();
    this.#withdrawal?.check(this.#watch.objects('pods'), this.#snapshots.addressGeneration);
    // Proxies first, reports after them.
    void nextTurn().then(() => {
      if (this.#stop.signal.aborted) return;
      this.#statusWriter.update(input, output);
      if (this.#hasNewEntries) this.#allocator.update();
      this.#hasNewEntries = false;
    });
  }

  #pages(): Parameters<typeof openHttpServer>[0]['pages'] {
    return {
      '/readyz': () => ({
        type: 'text/plain',
        status: this.#isReady ? 200 : 503,
        body: this.#isReady ? 'ok\n' : 'not ready\n',
      }),
      '/metrics': async () => {
        this.#setGauges();
        return { type: 'text/plain; version=0.0.4', body: await this.#counters.render() };
      },
      ...dashboardPages({
        clock: systemClock,
        rootNamespace: this.#config.mesh.rootNamespace,
        pods: () => this.#watch.objects('pods'),
        verdicts: () => this.#model.output?.verdicts ?? [],
      }),
      ...debugPages({
        output: () => this.#model.output,
        clients: () => this.#discovery?.clients ?? [],
        settings: () => this.#config,
      }),
    };
  }

  #setGauges(): void {
    const endMs = this.#authority?.current.notAfterMs ?? 0;
    this.#counters.set('citadel_server_root_cert_expiry_timestamp', Math.floor(endMs / 1000));
    this.#counters.set('pilot_xds', this.#discovery?.clients.size ?? 0);
    for (const typeUrl of [ADDRESS_TYPE, AUTHORIZATION_TYPE]) {
      const type = typeUrl.slice(typeUrl.lastIndexOf('.') + 1);
      const count = this.#snapshots.shared(typeUrl)?.resources.size ?? 0;
      this.#counters.set('ambient_resources', count, { type });
    }
  }
}
