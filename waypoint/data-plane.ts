// A data thread's whole state: workloads, L7 configuration, clusters, listener, metrics. Driven by requests of the
// control thread (or of a test, in the same thread). Everything runs on one reactor.
import { connectHttp2 } from '../engine/http2/http2-session.ts';
import type { Http2SessionOptions } from '../engine/http2/types.ts';
import type { Reactor } from '../engine/reactor/reactor.ts';
import { TcpListener } from '../engine/reactor/tcp-listener.ts';
import { verifyTrustDomain } from '../common/hbone/peer-identity.ts';
import { rejectionReason } from '../common/hbone/rejection.ts';
import { HboneServer } from '../common/hbone/tunnel-server.ts';
import { joinHostPort } from '../common/workload/ip.ts';
import { WorkloadStore } from '../common/workload/store.ts';
import type { Revocations } from '../common/hbone/revocation-lists.ts';
import type { LoggerRoot } from '../common/telemetry/logger.ts';
import { SeriesTable } from '../common/telemetry/series-table.ts';
import { OwnCertificate } from './certificate.ts';
import { ClusterRegistry } from './cluster/cluster-runtime.ts';
import type { Config } from './config.ts';
import type { Exchange } from './http/exchange.ts';
import { TunnelHandler } from './listener/tunnel-handler.ts';
import type { DataCommand, DataEvent } from './messages.ts';
import { decodeL7Resource, L7Config } from './state/l7-config.ts';
import { AccessLog } from './telemetry/access-log.ts';
import { WaypointMetrics, WAYPOINT_FAMILIES } from './telemetry/metrics.ts';
import { EndpointDialer } from './upstream/endpoint-dialer.ts';

const SWEEP_MS = 10_000;
/** Tunnels hear that they end this long before the server stops taking new ones; a little more than the engine's notice. */
const DRAIN_NOTICE_MS = 1500;
const LAST_TURN_MS = 50;

/** HTTP/2 to endpoints, inside tunnels. */
const UPSTREAM_SESSION: Http2SessionOptions = {
  settings: {
    enablePush: false,
    initialWindowSize: 1024 * 1024,
    connectionWindowSize: 16 * 1024 * 1024,
    maxHeaderListSize: 60 * 1024,
  },
  pingIntervalMs: 0,
  pingTimeoutMs: 0,
};

/** Answer of a command. */
interface Answer {
  readonly dump?: unknown;
}

/** Serves traffic and the control thread's commands. */
export class DataPlane {
  readonly #config: Config;
  readonly #reactor: Reactor;
  readonly #loggers: LoggerRoot;
  readonly #store = new WorkloadStore();
  readonly #l7 = new L7Config();
  readonly #clusters: ClusterRegistry;
  readonly #dialer: EndpointDialer;
  readonly #metrics: WaypointMetrics;
  readonly #accessLog: AccessLog;
  readonly #handler: TunnelHandler;
  readonly #server: HboneServer;
  #storeVersion = 0;
  readonly #certificate: OwnCertificate;
  #listener: TcpListener | undefined;
  #sweep: { cancel(): void } | undefined;

  constructor(
    config: Config,
    reactor: Reactor,
    loggers: LoggerRoot,
    emit: (event: DataEvent) => void,
  ) {
    this.#config = config;
    this.#reactor = reactor;
    this.#loggers = loggers;
    const after = (delayMs: number, fn: () => void): { cancel(): void } =>
      reactor.after(delayMs, fn);
    this.#metrics = new WaypointMetrics(
      new SeriesTable(WAYPOINT_FAMILIES, (message) => emit({ kind: 'series', message })),
    );
    this.#accessLog = new AccessLog({ format: config.accessLog, after });
    this.#certificate = new OwnCertificate(reactor);
    this.#dialer = new EndpointDialer(reactor, config, {
      context: () => this.#certificate.client,
      onRevoked: () => this.#metrics.addRevoked('source', 1),
    });
    this.#clusters = this.#createClusters();
    this.#handler = this.#createHandler(after);
    const trustDomains = [config.trustDomain, ...config.trustDomainAliases];
    this.#server = new HboneServer({
      context: () => this.#certificate.server,
      verifyPeer: (uriSans) => verifyTrustDomain(trustDomains, uriSans),
      onRequest: this.#handler.onTunnel,
      onRejected: (reason, peer) => {
        const word = rejectionReason(reason);
        this.#metrics.addRefused(word);
        if (word === 'certificate_revoked') this.#metrics.addRevoked('destination', 1);
        loggers.scope('listener').warn(
          {
            peer: joinHostPort(peer.address, peer.port),
            reason: word,
            err: reason.detail,
          },
          'connection refused before a tunnel',
        );
      },
    });
    this.#armSweep();
  }

  #createClusters(): ClusterRegistry {
    const { network, nodeName, clusterId } = this.#config;
    return new ClusterRegistry({
      store: this.#store,
      storeVersion: () => this.#storeVersion,
      l7: this.#l7,
      self: {
        network,
        node: nodeName,
        clusterId,
        locality: { region: '', zone: '', subzone: '' },
      },
      dial: this.#dialer.dial,
      openHttp2: (duplex, events) =>
        connectHttp2(this.#reactor, duplex, UPSTREAM_SESSION, {
          onGoaway: () => events.onGoaway(),
          onClose: () => events.onClose(),
        }),
      now: () => performance.now(),
      random: Math.random,
    });
  }

  #createHandler(after: (delayMs: number, fn: () => void) => { cancel(): void }): TunnelHandler {
    const config = this.#config;
    return new TunnelHandler({
      reactor: this.#reactor,
      config,
      phases: { l7: this.#l7, clusters: this.#clusters, after, random: Math.random },
      tcp: {
        l7: this.#l7,
        clusters: this.#clusters,
        metrics: this.#metrics,
        dial: this.#dialer.dial,
        random: Math.random,
        now: () => performance.now(),
        log: (fields) =>
          this.#accessLog.addLine(JSON.stringify({ level: 'info', scope: 'access', ...fields })),
      },
      destinations: {
        store: this.#store,
        l7: this.#l7,
        network: config.network,
        gatewayNamespace: config.podNamespace,
        gatewayName: config.gatewayName,
      },
      accessLog: this.#accessLog,
      onExchangeEnd: (exchange) => this.#record(exchange),
    });
  }

  /** Serves one command. Throws with the reason for the control thread. */
  async handle(command: DataCommand): Promise<Answer> {
    switch (command.kind) {
      case 'addresses':
        this.#applyAddresses(command);
        return {};
      case 'l7':
        for (const { name, value } of command.upserts) {
          this.#l7.upsert(name, decodeL7Resource(command.type, name, value));
        }
        for (const name of command.removed) this.#l7.remove(command.type, name);
        return {};
      case 'certificate':
        this.#certificate.set(command.certificate);
        this.#dialer.renew();
        return {};
      case 'revocations':
        this.#setRevocations(command.revocations);
        return {};
      case 'listen':
        this.#listener = new TcpListener(this.#reactor, command.fd, (stream) =>
          this.#server.accept(stream),
        );
        return {};
      case 'dump':
        return {
          dump: {
            ...this.#l7.describe(),
            clusterState: this.#clusters.describe(),
            tunnelConnections: this.#server.connections,
            active: this.#handler.active,
          },
        };
      case 'logLevel':
        this.#loggers.setLevels(command.levels, true);
        return {};
      case 'drain':
        await this.#drain(command.deadlineMs);
        return {};
    }
  }

  /** Ends everything now. */
  close(): void {
    this.#sweep?.cancel();
    this.#listener?.close();
    this.#handler.close('closed');
    this.#server.close('closed');
    this.#dialer.close('closed');
    this.#accessLog.flush();
  }

  #applyAddresses(command: Extract<DataCommand, { kind: 'addresses' }>): void {
    for (const resource of command.upserts) this.#store.upsert(resource);
    for (const name of command.removed) {
      this.#store.remove(name);
      this.#metrics.forgetWorkload(name);
    }
    this.#storeVersion++;
  }

  /** New lists count for new connections, and end those whose peers they revoke. */
  #setRevocations(revocations: Revocations): void {
    this.#certificate.setRevocations(revocations);
    const { server, client } = this.#certificate;
    const callers = server === undefined ? 0 : this.#server.closeRevoked(server);
    const endpoints = client === undefined ? 0 : this.#dialer.closeRevoked(client);
    if (callers + endpoints === 0) return;
    this.#metrics.addRevoked('destination', callers);
    this.#metrics.addRevoked('source', endpoints);
    this.#loggers
      .scope('listener')
      .warn({ callers, endpoints }, 'connections closed: peer certificate revoked by CRL');
  }

  #record(exchange: Exchange): void {
    const { context, status, grpcStatus, flags } = exchange;
    const { destination } = context;
    this.#metrics.addRequest(
      {
        context,
        service: destination.kind === 'service' ? this.#l7.service(destination.key) : undefined,
        destination:
          exchange.endpoint?.workload ??
          (destination.kind === 'workload' ? destination.workload : undefined),
        protocol: exchange.isGrpc ? 'grpc' : 'http',
        flags: flags.length === 0 ? '-' : flags.join(','),
        code: status,
        grpcStatus,
      },
      exchange.durationMs,
      exchange.body.bytes,
      exchange.bytesSent,
    );
    this.#accessLog.add(exchange);
  }

  #armSweep(): void {
    this.#sweep = this.#reactor.after(SWEEP_MS, () => {
      this.#clusters.sweep();
      this.#armSweep();
    });
  }

  /** The control thread has waited until clients choose others: what comes now had been sent before. */
  async #drain(deadlineMs: number): Promise<void> {
    this.#listener?.drainBacklog();
    this.#listener?.close();
    this.#server.drain();
    this.#handler.drain();
    const deadline = this.#pause(deadlineMs);
    if (this.#server.isActive) await Promise.race([this.#pause(DRAIN_NOTICE_MS), deadline]);
    await Promise.race([this.#handler.whenIdle(), deadline]);
    // One turn more, so that what was answered last goes out.
    await this.#pause(LAST_TURN_MS);
    this.close();
  }

  #pause(delayMs: number): Promise<void> {
    return new Promise((resolve) => {
      this.#reactor.after(delayMs, resolve);
    });
  }
}
