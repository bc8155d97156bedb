// Puts the control thread together: model and xDS, certificates, ZDS, endpoints; and the data thread they drive.
import { errorMessage, MeshError } from '../common/errors.ts';
import { systemClock } from '../common/clock.ts';
import { CaClient } from '../common/grpc/ca-client.ts';
import { deltaStreamOpener } from '../common/grpc/delta-stream.ts';
import { certificateFetcher } from '../common/identity/ca-fetch.ts';
import { fakeCaSigner } from '../common/identity/fake-ca.ts';
import { SecretManager } from '../common/identity/secret-manager.ts';
import { AsyncSink } from '../common/telemetry/log-output.ts';
import { createLoggerRoot } from '../common/telemetry/logger.ts';
import type { Logger, LoggerRoot } from '../common/telemetry/logger.ts';
import { SeriesReader, SeriesTable } from '../common/telemetry/series-table.ts';
import type { SeriesMessage } from '../common/telemetry/series-table.ts';
import { readLocalState } from '../common/workload/local-file.ts';
import { DeltaClient } from '../common/xds/delta-client.ts';
import { openAdmin } from './admin/admin-server.ts';
import { ControlMetrics, CONTROL_FAMILIES } from './admin/control-metrics.ts';
import type { Config } from './config.ts';
import { startDataThread, type DataThread } from './data-handle.ts';
import { ZdsClient } from './inpod/zds-client.ts';
import type { PodNetns } from './inpod/zds-client.ts';
import { PodRegistry } from './inpod/zds-session.ts';
import { MeshModel } from './state/model.ts';

/** A running proxy. */
export interface App {
  /** Graceful shutdown: listeners close, connections get the deadline, then everything ends. */
  drain(): Promise<void>;
}

/** Callbacks of {@link startApp}. */
export interface AppEvents {
  readonly onQuit: () => void;
  /** The data plane has died; the process must end. */
  readonly onFatal: (err: unknown) => void;
}

/** Starts everything; rejects when a port is taken or the configuration cannot work. */
export async function startApp(config: Config, events: AppEvents): Promise<App> {
  const { output, loggers } = openLog(config);
  const logger = loggers.scope('app');
  for (const warning of config.warnings) logger.warn({}, warning);
  const readers = { data: new SeriesReader(), control: new SeriesReader() };
  const metrics = new ControlMetrics(
    new SeriesTable(CONTROL_FAMILIES, (message) => readers.control.apply(message)),
    config.version,
  );
  const { data, secrets, model } = await startData(config, loggers, {
    ...events,
    onSeries: (message) => readers.data.apply(message),
    onLog: (text) => output.write(text),
  });
  const registry = createRegistry(data);
  const zds = new ZdsClient({
    path: config.zdsPath,
    registry,
    clock: systemClock,
    logger: loggers.scope('inpod'),
  });
  const ready = { isModelComplete: false, isDraining: false };
  const endpoints = await openAdmin({
    config,
    loggers,
    output,
    readers: [readers.data, readers.control],
    metrics,
    data,
    model,
    secrets,
    registry,
    pending: () => pendingTasks(ready.isModelComplete, zds.isReady),
    isDraining: () => ready.isDraining,
    quit: events.onQuit,
  });
  const onSynced = (): void => {
    ready.isModelComplete = true;
    logger.info({}, 'state is complete, serving pods');
    reportFailure(logger, zds.run());
  };
  const xds = await feedModel(config, loggers, { model, metrics, onSynced });
  logger.info({ node: config.nodeName, version: config.version }, 'ztunnel started');
  return {
    drain: async () => {
      ready.isDraining = true;
      logger.info({ deadlineMs: config.terminationDeadlineMs }, 'draining');
      zds.close();
      await data.request({ kind: 'drain', deadlineMs: config.terminationDeadlineMs });
      xds?.close();
      secrets.close();
      await endpoints.close();
      await data.terminate();
      logger.info({}, 'drained');
      await output.end();
    },
  };
}

/** The log of the whole process: the data thread's lines come here too. */
function openLog(config: Config): { output: AsyncSink; loggers: LoggerRoot } {
  const output = new AsyncSink();
  process.on('exit', () => output.flush());
  const { logLevel: level, logFormat: format } = config;
  return { output, loggers: createLoggerRoot({ level, format, sink: output }) };
}

/** Names of what readiness waits for, as Istio's ztunnel has them. */
function pendingTasks(isModelComplete: boolean, isZdsReady: boolean): string[] {
  return [
    ...(isModelComplete ? [] : ['state manager']),
    ...(isZdsReady ? [] : ['workload proxy manager']),
  ];
}

interface DataParts {
  readonly data: DataThread;
  readonly secrets: SecretManager;
  readonly model: MeshModel;
}

/** What the data thread says that is not for the model or the certificates. */
interface DataEvents extends AppEvents {
  readonly onSeries: (message: SeriesMessage) => void;
  readonly onLog: (text: string) => void;
}

/** Starts the data thread and what answers its questions. */
async function startData(
  config: Config,
  loggers: LoggerRoot,
  events: DataEvents,
): Promise<DataParts> {
  const logger = loggers.scope('app');
  // The thread asks nothing before it has pods, and these exist only after this function.
  const parts: Partial<DataParts> = {};
  const data = await startDataThread(
    { config },
    {
      onEvent: (event) => {
        if (event.kind === 'series') {
          events.onSeries(event.message);
        } else if (event.kind === 'log') {
          events.onLog(event.text);
        } else if (event.kind === 'lookup') {
          reportFailure(logger, parts.model?.answerLookup(event.key));
        } else if (parts.secrets !== undefined) {
          answerCertificate(data, parts.secrets, event.identity);
        }
      },
      onError: events.onFatal,
    },
  );
  const secrets = createSecrets(config, loggers.scope('identity'), data);
  const model = new MeshModel({ nodeName: config.nodeName, data, secrets });
  Object.assign(parts, { secrets, model });
  return { data, secrets, model };
}

interface FeedTargets {
  readonly model: MeshModel;
  readonly metrics: ControlMetrics;
  readonly onSynced: () => void;
}

/** Loads the local file and starts xDS; either or both. */
async function feedModel(
  config: Config,
  loggers: LoggerRoot,
  { model, metrics, onSynced }: FeedTargets,
): Promise<DeltaClient | undefined> {
  if (config.localXdsPath !== undefined)
    await model.applyLocal(readLocalState(config.localXdsPath));
  if (config.xds === undefined) {
    onSynced();
    return undefined;
  }
  const { podName, podNamespace, instanceIp, nodeName, clusterId } = config;
  const xds = new DeltaClient({
    nodeId: `ztunnel~${instanceIp}~${podName}.${podNamespace}~${podNamespace}.svc.cluster.local`,
    nodeMetadata: {
      NAME: podName,
      NAMESPACE: podNamespace,
      INSTANCE_IPS: instanceIp,
      NODE_NAME: nodeName,
      SERVICE_ACCOUNT: config.serviceAccount,
      CLUSTER_ID: clusterId,
      ...config.metadata,
    },
    subscriptions: model.subscriptions(),
    openStream: deltaStreamOpener(config.xds),
    clock: systemClock,
    logger: loggers.scope('xds'),
    onSynced,
    onStreamEnd: (end) => metrics.countStreamEnd(end.reason),
    onMessage: (url, bytes) => metrics.countMessage(url, bytes),
  });
  xds.start();
  return xds;
}

function createSecrets(config: Config, logger: Logger, data: DataThread): SecretManager {
  const sign = signerOf(config);
  return new SecretManager({
    fetch: certificateFetcher({ sign, ttlSec: config.secretTtlSec, isNodeProxy: true }),
    clock: systemClock,
    logger,
    onCertificate: (certificate) => {
      reportFailure(logger, data.request({ kind: 'certificate', certificate }));
    },
  });
}

function signerOf(config: Config): Parameters<typeof certificateFetcher>[0]['sign'] {
  if (config.fakeCaRoot !== undefined) return fakeCaSigner(config.fakeCaRoot);
  if (config.ca === undefined) throw new MeshError('invalid_config', 'no ca address');
  const ca = new CaClient(config.ca);
  return (request) => ca.sign(request);
}

function createRegistry(data: DataThread): PodRegistry<PodNetns> {
  return new PodRegistry<PodNetns>({
    start: async (uid, pod, { netns }) => {
      await data.request({ kind: 'addPod', uid, pod, netnsFd: netns.fd });
    },
    stop: async (uid) => {
      await data.request({ kind: 'removePod', uid });
    },
  });
}

function answerCertificate(data: DataThread, secrets: SecretManager, identity: string): void {
  secrets
    .get(identity)
    .then(
      // A new one has been sent by onCertificate; one that was cached must be sent again.
      (certificate) => data.request({ kind: 'certificate', certificate }),
      (err: unknown) =>
        data.request({ kind: 'certificateFailed', identity, error: errorMessage(err) }),
    )
    .catch(() => undefined); // the data thread has ended; onError has told
}

function reportFailure(logger: Logger, work: Promise<unknown> | undefined): void {
  work?.catch((err: unknown) => logger.error({ err: errorMessage(err) }, 'background work failed'));
}
