// Puts the control thread together: xDS and local files, the waypoint's certificate, endpoints; and the data thread
// they drive. The control plane is not needed once its state and a certificate are here.
import { flushCompileCache } from 'node:module';
import { sleep, systemClock } from '../common/clock.ts';
import { errorMessage } from '../common/errors.ts';
import { deltaStreamOpener } from '../common/grpc/delta-stream.ts';
import { dumpSecret } from '../common/identity/certificate-dump.ts';
import {
  CERTIFICATE_FAMILIES,
  CertificateMetrics,
} from '../common/identity/certificate-metrics.ts';
import { startSecrets } from '../common/identity/proxy-secrets.ts';
import type { ProxySecrets } from '../common/identity/proxy-secrets.ts';
import { readLocalL7 } from '../common/l7/local-file.ts';
import { createLoggerRoot } from '../common/telemetry/logger.ts';
import type { Logger, LoggerRoot } from '../common/telemetry/logger.ts';
import { openEndpoints } from '../common/telemetry/proxy-endpoints.ts';
import { SeriesReader, SeriesTable } from '../common/telemetry/series-table.ts';
import { readLocalState } from '../common/workload/local-file.ts';
import { DeltaClient } from '../common/xds/delta-client.ts';
import { openTcpListener } from '../engine/reactor/socket-options.ts';
import type { Config } from './config.ts';
import { ownIdentity } from './config.ts';
import { startDataThread, type DataThread } from './data-handle.ts';
import { ModelFeed } from './model-feed.ts';

/** A running waypoint. */
export interface App {
  /** Port of the HBONE listener. */
  readonly hbonePort: number;
  /** Graceful shutdown: readiness fails, GOAWAY, what is in flight gets the deadline, then everything ends. */
  drain(): Promise<void>;
}

/** Callbacks of {@link startApp}. */
export interface AppEvents {
  readonly onQuit: () => void;
  /** The data plane has died; the process must end. */
  readonly onFatal: (err: unknown) => void;
}

/** What start-up waits for. Connections that come earlier wait in the listener's backlog, they are not refused. */
interface Progress {
  hasConfig: boolean;
  hasCertificate: boolean;
  isListening: boolean;
  isDraining: boolean;
  readonly onChange: () => void;
}

/** Starts everything; rejects when a port is taken or the configuration cannot work. */
export async function startApp(config: Config, events: AppEvents): Promise<App> {
  const loggers = createLoggerRoot({ level: config.logLevel });
  const logger = loggers.scope('app');
  const reader = new SeriesReader();
  const data = await startDataThread(
    { config },
    { onEvent: (event) => reader.apply(event.message), onError: events.onFatal },
  );
  // Bound before anything is awaited from outside, so that a taken port is told at once.
  const bound = openTcpListener({ address: config.listenAddress, port: config.hbonePort });
  const progress = createProgress(() => data.request({ kind: 'listen', fd: bound.fd }), logger);
  const identities = createSecrets(config, loggers.scope('identity'), data, progress);
  const { secrets } = identities;
  const control = createControlMetrics();
  const endpoints = await openEndpoints({
    program: 'waypoint',
    host: config.listenAddress,
    config,
    readers: [reader, control.reader],
    beforeScrape: () => control.certificates.update(identities),
    configDump: async () => ({
      config: dumpConfig(config),
      identity: ownIdentity(config),
      certificates: secrets.states().map(dumpSecret),
      ...((await data.request({ kind: 'dump' })).dump as object),
    }),
    pending: () => pendingOf(progress),
    warnings: identities.problems,
    describeLevels: () => loggers.describeLevels(),
    setLevels: (levels, isReset) => setLevels(loggers, data, levels, isReset),
    quit: events.onQuit,
  });
  const xds = await feed(config, loggers, data, () => {
    progress.hasConfig = true;
    logger.info({}, 'configuration is complete');
    progress.onChange();
  });
  secrets.prefetch(ownIdentity(config));
  logger.info({ gateway: config.gatewayName, port: bound.port }, 'waypoint started');
  return {
    hbonePort: bound.port,
    drain: async () => {
      progress.isDraining = true;
      logger.info({ delayMs: config.drainDelayMs, deadlineMs: config.drainDeadlineMs }, 'draining');
      await sleep(systemClock, config.drainDelayMs);
      await data.request({ kind: 'drain', deadlineMs: config.drainDeadlineMs });
      xds?.close();
      identities.close();
      await endpoints.close();
      await data.terminate();
      logger.info({}, 'drained');
      loggers.flush();
    },
  };
}

/** What the control thread counts. */
function createControlMetrics(): { reader: SeriesReader; certificates: CertificateMetrics } {
  const reader = new SeriesReader();
  const table = new SeriesTable(CERTIFICATE_FAMILIES, (message) => reader.apply(message));
  return { reader, certificates: new CertificateMetrics(table) };
}

function createProgress(listen: () => Promise<unknown>, logger: Logger): Progress {
  const progress: Progress = {
    hasConfig: false,
    hasCertificate: false,
    isListening: false,
    isDraining: false,
    onChange: () => {
      if (progress.isListening || !progress.hasConfig || !progress.hasCertificate) return;
      progress.isListening = true;
      listen().then(
        () => {
          logger.info({}, 'serving tunnels');
          // The next process finds its modules compiled, also when this one is killed.
          flushCompileCache();
        },
        (err: unknown) => logger.error({ err: errorMessage(err) }, 'cannot serve tunnels'),
      );
    },
  };
  return progress;
}

function pendingOf({ hasConfig, hasCertificate, isDraining }: Progress): string[] {
  return [
    ...(hasConfig ? [] : ['configuration']),
    ...(hasCertificate ? [] : ['certificate']),
    ...(isDraining ? ['draining'] : []),
  ];
}

async function feed(
  config: Config,
  loggers: LoggerRoot,
  data: DataThread,
  onSynced: () => void,
): Promise<DeltaClient | undefined> {
  const model = new ModelFeed(data);
  const { localXdsPath, localL7Path } = config;
  if (localXdsPath !== undefined || localL7Path !== undefined) {
    await model.applyLocal(
      localXdsPath === undefined ? undefined : readLocalState(localXdsPath),
      localL7Path === undefined ? [] : readLocalL7(localL7Path),
    );
  }
  if (config.xds === undefined) {
    onSynced();
    return undefined;
  }
  const { podName, podNamespace, instanceIp } = config;
  const xds = new DeltaClient({
    nodeId: `waypoint~${instanceIp}~${podName}.${podNamespace}~${podNamespace}.svc.cluster.local`,
    nodeMetadata: {
      NAME: podName,
      NAMESPACE: podNamespace,
      SERVICE_ACCOUNT: config.serviceAccount,
      GATEWAY_NAME: config.gatewayName,
      NODE_NAME: config.nodeName,
      CLUSTER_ID: config.clusterId,
    },
    subscriptions: model.subscriptions(),
    openStream: deltaStreamOpener(config.xds),
    clock: systemClock,
    logger: loggers.scope('xds'),
    onSynced,
  });
  xds.start();
  return xds;
}

function createSecrets(
  config: Config,
  logger: Logger,
  data: DataThread,
  progress: Progress,
): ProxySecrets {
  return startSecrets({
    settings: config,
    isNodeProxy: false,
    clock: systemClock,
    logger,
    use: async (certificate) => {
      await data.request({ kind: 'certificate', certificate });
      progress.hasCertificate = true;
      progress.onChange();
    },
    useRevocations: (revocations) => data.request({ kind: 'revocations', revocations }),
  });
}

function setLevels(loggers: LoggerRoot, data: DataThread, text: string, isReset: boolean): boolean {
  if (!loggers.setLevels(text, isReset)) return false;
  data.request({ kind: 'logLevel', levels: loggers.describeLevels() }).catch(() => undefined);
  return true;
}

/** The configuration without what could be a secret. */
function dumpConfig(config: Config): object {
  const { xds, ca, ...rest } = config;
  return { ...rest, xds: xds?.address ?? null, ca: ca?.address ?? null };
}
