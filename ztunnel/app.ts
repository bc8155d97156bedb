// Puts the control thread together: model and xDS, certificates, ZDS, endpoints; and the data threads they drive.
import { flushCompileCache } from 'node:module';
import tls from 'node:tls';
import { errorMessage, MeshError } from '../common/errors.ts';
import { sleep, systemClock } from '../common/clock.ts';
import type { ProxySecrets } from '../common/identity/proxy-secrets.ts';
import { AsyncSink } from '../common/telemetry/log-output.ts';
import { createLoggerRoot, type Logger, type LoggerRoot } from '../common/telemetry/logger.ts';
import { SeriesReader, SeriesTable } from '../common/telemetry/series-table.ts';
import type { SeriesMessage } from '../common/telemetry/series-table.ts';
import type { Endpoints } from '../common/telemetry/proxy-endpoints.ts';
import { canBeTransparent } from '../engine/reactor/socket-options.ts';
import { releaseAfterStart } from '../engine/reactor/program-pages.ts';
import { CounterHandOver } from './admin/counter-hand-over.ts';
import { openAdmin, POD_USE_QUERY } from './admin/admin-server.ts';
import { openEndpointSockets } from './admin/endpoint-sockets.ts';
import { ControlMetrics, CONTROL_FAMILIES } from './admin/control-metrics.ts';
import { PodMetrics, POD_FAMILIES } from './admin/pod-metrics.ts';
import type { Config, DnsConfig } from './config.ts';
import { DataThreads } from './data-threads.ts';
import { DNS_FAMILIES } from './dns/dns-metrics.ts';
import { DnsProxy } from './dns/dns-proxy.ts';
import { HostLookup } from './dns/host-lookup.ts';
import { ResolvConfFile } from './dns/upstream-servers.ts';
import { HolderClient } from './holder/holder-client.ts';
import { PodStarter } from './inpod/pod-starter.ts';
import { missingRights } from './inpod/missing-rights.ts';
import { DedicatedPod } from './inpod/dedicated-pod.ts';
import { serveOwnPod } from './inpod/own-pod.ts';
import { isServedByAnother } from './inpod/other-instance.ts';
import type { PodNetns, PodSource } from './inpod/pod-source.ts';
import { ZdsClient } from './inpod/zds-client.ts';
import { PodRegistry } from './inpod/zds-session.ts';
import { answerCertificate, startWorkloadSecrets } from './identity/workload-secrets.ts';
import { STALE_SERIES_MS } from './proxy/series-groups.ts';
import { startFeed } from './state/feed.ts';
import { MeshModel } from './state/model.ts';
import { localTo } from './state/local-to.ts';

/** A running proxy. */
export interface App {
  /**
   * Graceful shutdown: listeners close, connections get the deadline, then everything ends. Replaced: a successor has
   * the same sockets and serves already.
   */
  drain(isReplaced: boolean): Promise<void>;
}

/** Callbacks of {@link startApp}. */
export interface AppEvents {
  /** The proxy is asked to end: by the admin endpoint, or by its holder. */
  readonly onQuit: (isReplaced: boolean) => void;
  /** The data plane or the holder has died; the process must end. */
  readonly onFatal: (err: unknown) => void;
}

const READY_CHECK_MS = 50;
const DRAIN_REPORT_MS = 1000;
/** How often an instance that is alone looks for another. */
const TAKE_OVER_CHECK_MS = 100;
/** More often than Prometheus asks; a file may have many series. */
const SAVE_COUNTERS_MS = 5000;

/** What the control thread consists of. */
interface Parts extends DataParts {
  readonly config: Config;
  readonly loggers: LoggerRoot;
  readonly logger: Logger;
  readonly output: AsyncSink;
  readonly readers: { readonly data: readonly SeriesReader[]; readonly control: SeriesReader };
  readonly metrics: ControlMetrics;
  readonly podMetrics: PodMetrics;
  readonly holder: HolderClient | undefined;
  readonly handOver: CounterHandOver | undefined;
  readonly dns: DnsProxy | undefined;
  readonly starter: PodStarter;
  readonly registry: PodRegistry<PodNetns>;
  readonly pods: PodSource;
}

/** Starts everything; rejects when a port is taken or the configuration cannot work. */
export async function startApp(given: Config, events: AppEvents): Promise<App> {
  const config = withRights(given);
  // The control plane's streams; the data threads have their own.
  if (config.tlsGroups !== undefined) tls.DEFAULT_ECDH_CURVE = config.tlsGroups;
  const parts = await createParts(config, events);
  const { logger, holder, starter, registry, pods } = parts;
  const ready = { isModelComplete: false };
  const running: Running = {
    endpoints: undefined,
    stopFeed: undefined,
    isDraining: false,
    pending: () => pendingTasks(config, ready.isModelComplete, pods.isReady),
  };
  const open = async (): Promise<void> => {
    running.endpoints = await openOwnEndpoints(parts, running, events);
  };
  if (holder?.welcome.isReplacement !== true) await open();
  const onSynced = (): void => {
    ready.isModelComplete = true;
    logger.info({}, 'state is complete, serving pods');
    void serveOwnPod(config, parts);
    const restored = starter.restore(registry);
    restored.then(() => pods.run()).catch(events.onFatal);
  };
  running.stopFeed = await startFeed(parts, onSynced);
  logger.info({ node: config.nodeName, version: config.version }, 'ztunnel started');
  const announce = async (): Promise<void> => {
    while (running.pending().length > 0) await sleep(systemClock, READY_CHECK_MS);
    // A probe that came to a successor that is not ready would say that of the one that serves.
    if (running.endpoints === undefined) await open();
    parts.handOver?.expectHandOver();
    await holder?.ready();
    // The next process finds its modules compiled, also when this one is killed.
    flushCompileCache();
    releaseAfterStart();
  };
  reportFailure(logger, announce());
  return { drain: (isReplaced) => drainParts(parts, running, isReplaced) };
}

/** Without the right to preserve sources they are not, unless they have to be. */
function withRights(given: Config): Config {
  const config = { ...given, warnings: [...given.warnings, ...missingRights(given)] };
  if (!config.isSourcePreserved || config.isSourceRequired || canBeTransparent()) return config;
  const warning = 'ENABLE_ORIG_SRC is off: this process may not set IP_TRANSPARENT';
  return { ...config, isSourcePreserved: false, warnings: [...config.warnings, warning] };
}

async function createParts(config: Config, events: AppEvents): Promise<Parts> {
  const { output, loggers } = openLog(config);
  const logger = loggers.scope('app');
  for (const warning of config.warnings) logger.warn({}, warning);
  const readers = {
    data: Array.from({ length: config.dataThreads }, () => new SeriesReader()),
    control: new SeriesReader(),
  };
  const families = [...CONTROL_FAMILIES, ...POD_FAMILIES, ...DNS_FAMILIES];
  const table = new SeriesTable(families, (message) => readers.control.apply(message));
  const metrics = new ControlMetrics(table, config.version);
  const podMetrics = new PodMetrics(table);
  // Nobody asks before there are pods.
  const names: { dns?: DnsProxy | undefined } = {};
  const dataParts = await startData(config, loggers, {
    ...events,
    findInMesh: (pod, hostname) => names.dns?.addressesOf(pod, hostname),
    onSeries: (message, thread) => readers.data[thread]?.apply(message),
    onLog: (text) => output.write(text),
  });
  const { data, model } = dataParts;
  const dns = config.dns && createDns(config, config.dns, { model, table, loggers });
  names.dns = dns;
  const onGone = (uid: string): void => {
    dns?.removePod(uid);
    data.request({ kind: 'removePod', uid }).catch(() => undefined);
  };
  const holder = await connectHolder(config, { ...events, onGone }, metrics);
  const handOver = holder && openHandOver(config, holder, readers);
  const starter = new PodStarter({
    data,
    sockets: config,
    dns,
    holder,
    onStart: (pod) => dataParts.model.expect(pod),
  });
  const registry = new PodRegistry<PodNetns>(starter);
  const pods = podSource(config, registry, loggers.scope('inpod'));
  const telemetry = { loggers, logger, output, readers, metrics, podMetrics };
  return { ...dataParts, ...telemetry, config, holder, handOver, dns, starter, registry, pods };
}

function podSource(
  { dedicatedPod, zdsPath: path }: Config,
  registry: PodRegistry<PodNetns>,
  logger: Logger,
): PodSource {
  if (dedicatedPod !== undefined) return new DedicatedPod(dedicatedPod, registry, logger);
  return new ZdsClient({ path, registry, clock: systemClock, logger });
}

interface DnsInputs {
  readonly model: MeshModel;
  readonly table: SeriesTable;
  readonly loggers: LoggerRoot;
}

function createDns(config: Config, dns: DnsConfig, { model, table, loggers }: DnsInputs): DnsProxy {
  const logger = loggers.scope('dns');
  return new DnsProxy({ config, dns, store: model.store, table, clock: systemClock, logger });
}

async function openOwnEndpoints(
  parts: Parts,
  running: Running,
  events: AppEvents,
): Promise<Endpoints> {
  const { config, logger, readers, holder, handOver } = parts;
  return openAdmin({
    ...parts,
    readers: [
      ...readers.data,
      readers.control,
      ...(handOver === undefined ? [] : [handOver.reader]),
    ],
    sockets: holder && (await openEndpointSockets(holder, config)),
    pending: () => running.pending(),
    isDraining: () => running.isDraining,
    quit: () => {
      if (holder === undefined) events.onQuit(false);
      else reportFailure(logger, holder.quit());
    },
    replace: holder && (() => holder.replace()),
  });
}

interface Running {
  endpoints: Endpoints | undefined;
  stopFeed: (() => void) | undefined;
  isDraining: boolean;
  /** What readiness waits for. */
  pending: () => readonly string[];
}

async function drainParts(parts: Parts, running: Running, isReplaced: boolean): Promise<void> {
  const { config, logger, output, data, identities, pods, dns } = parts;
  const endMs = systemClock.elapsed() + config.terminationDeadlineMs;
  running.isDraining = true;
  logger.info({ deadlineMs: config.terminationDeadlineMs, isReplaced }, 'draining');
  if (!isReplaced && parts.holder !== undefined) await serveWhileAlone(parts, endMs);
  const deadlineMs = Math.max(0, endMs - systemClock.elapsed());
  // Draining makes nobody unready, although the node agent's session ends with it.
  const pending = running.pending();
  running.pending = () => pending;
  pods.close();
  if (isReplaced) {
    saveCounters(parts);
    await running.endpoints?.close();
  } else running.endpoints?.stopReadiness();
  const stopReports = reportDraining(parts, isReplaced);
  await Promise.all([data.request({ kind: 'drain', deadlineMs, isReplaced }), dns?.drain()]);
  stopReports();
  if (isReplaced) saveCounters(parts);
  running.stopFeed?.();
  identities.close();
  if (!isReplaced) await running.endpoints?.close();
  await data.terminate();
  logger.info({}, 'drained');
  await output.end();
}

/**
 * The container has to end, and there may be nobody else: its DaemonSet starts the next one when this one has gone, which
 * one connection can delay up to the deadline. Until another instance listens, or nothing is open, this one serves on.
 */
async function serveWhileAlone(parts: Parts, endMs: number): Promise<void> {
  const { data, registry, logger } = parts;
  const stopReports = reportDraining(parts, false);
  for (let looks = 0; systemClock.elapsed() < endMs; looks++) {
    if (registry.isEvery(({ netns }) => isServedByAnother(netns))) {
      logger.info({}, 'another instance serves');
      break;
    }
    const { report } = await data.request(POD_USE_QUERY);
    const connections = report?.connectionCount ?? 0;
    if (connections === 0) break;
    if (looks === 0) logger.info({ connections }, 'no other instance serves: serving meanwhile');
    await sleep(systemClock, TAKE_OVER_CHECK_MS);
  }
  stopReports();
}

/** The holder's connection, where there is a holder. */
async function connectHolder(
  { holderFd }: Config,
  events: AppEvents & { readonly onGone: (uid: string) => void },
  metrics: ControlMetrics,
): Promise<HolderClient | undefined> {
  if (holderFd === undefined) return undefined;
  const holder = await HolderClient.open(holderFd, {
    onDrain: events.onQuit,
    onGone: events.onGone,
    onDraining: (process, pods) => metrics.setDraining(process, pods),
    onLost: (reason) => events.onFatal(new MeshError('holder_gone', `holder is gone: ${reason}`)),
  });
  metrics.setCrashes(holder.welcome.crashes);
  return holder;
}

/** Shows whose connections are left: by our own metrics, or through the successor's. Returns what ends it. */
function reportDraining(parts: Parts, isReplaced: boolean): () => void {
  const { data, metrics, holder } = parts;
  const report = async (): Promise<void> => {
    const { report: { pods = [] } = {} } = await data.request(POD_USE_QUERY);
    const counts = pods.map(({ name, namespace, inbound, outbound }) => ({
      name,
      namespace,
      connections: inbound + outbound,
    }));
    if (!isReplaced) metrics.setDraining(process.pid, counts);
    else await holder?.report(counts.filter(({ connections }) => connections > 0));
  };
  const run = (): void => void report().catch(() => undefined);
  run();
  const timer = setInterval(run, DRAIN_REPORT_MS);
  const saving = setInterval(() => {
    if (isReplaced) saveCounters(parts);
  }, SAVE_COUNTERS_MS);
  return () => {
    clearInterval(timer);
    clearInterval(saving);
  };
}

function saveCounters({ handOver, logger }: Parts): void {
  try {
    handOver?.save();
  } catch (err) {
    logger.warn({ err: errorMessage(err) }, 'counters are not handed over');
  }
}

/** What passes counters from one proxy of a holder to the next, where they have a directory for it. */
function openHandOver(
  { holderDir }: Config,
  holder: HolderClient,
  { data, control }: Parts['readers'],
): CounterHandOver | undefined {
  if (holderDir === undefined) return undefined;
  const handOver = new CounterHandOver({
    dir: holderDir,
    own: [...data, control],
    families: [...(data[0]?.families.values() ?? []), ...DNS_FAMILIES],
    isReplacement: holder.welcome.isReplacement,
    clock: systemClock,
  });
  setInterval(() => handOver.sweep(), STALE_SERIES_MS).unref();
  return handOver;
}

/** The log of the whole process: the data threads' lines come here too. */
function openLog(config: Config): { output: AsyncSink; loggers: LoggerRoot } {
  const output = new AsyncSink();
  process.on('exit', () => output.flush());
  const { logLevel: level, logFormat: format } = config;
  return { output, loggers: createLoggerRoot({ level, format, sink: output }) };
}

/** Names of what readiness waits for, as Istio's ztunnel has them. */
function pendingTasks(config: Config, isModelComplete: boolean, isServing: boolean): string[] {
  const serving = config.dedicatedPod === undefined ? 'workload proxy manager' : 'proxy';
  return [...(isModelComplete ? [] : ['state manager']), ...(isServing ? [] : [serving])];
}

interface DataParts {
  readonly data: DataThreads;
  readonly identities: ProxySecrets;
  readonly model: MeshModel;
}

/** What data threads say that is not for the model or the certificates. */
interface DataEvents extends AppEvents {
  readonly onSeries: (message: SeriesMessage, thread: number) => void;
  readonly onLog: (text: string) => void;
  /** Addresses of a name that is the mesh's for a pod. */
  readonly findInMesh: (pod: string, hostname: string) => readonly string[] | undefined;
}

/** How long what the model says of a name is taken for true. */
const MESH_NAME_MS = 5000;

/** Starts the data threads and what answers their questions. */
async function startData(
  config: Config,
  loggers: LoggerRoot,
  events: DataEvents,
): Promise<DataParts> {
  const logger = loggers.scope('app');
  // A thread asks nothing before it has pods, and these exist only after this function.
  const parts: Partial<DataParts> = {};
  const resolvConf = new ResolvConfFile(config.resolvConf, systemClock);
  const hosts = new HostLookup({
    resolvConf: () => resolvConf.current,
    isIpv6: config.isIpv6,
    clock: systemClock,
  });
  const data = await DataThreads.start(config, {
    onEvent: (event, thread) => {
      if (event.kind === 'series') {
        events.onSeries(event.message, thread);
      } else if (event.kind === 'log') {
        events.onLog(event.text);
      } else if (event.kind === 'lookup') {
        reportFailure(logger, parts.model?.answerLookup(event.key));
      } else if (event.kind === 'resolveHost') {
        const { hostname, pod } = event;
        const own = pod === undefined ? undefined : events.findInMesh(pod, hostname);
        const found =
          own === undefined
            ? hosts.lookup(hostname)
            : Promise.resolve({ addresses: own, ttlMs: MESH_NAME_MS });
        const answer = found.then((addresses) =>
          data.request({ kind: 'hostAddresses', hostname, pod, ...addresses }),
        );
        reportFailure(logger, answer);
      } else if (parts.identities !== undefined) {
        answerCertificate(data, parts.identities.secrets, event.identity);
      }
    },
    onError: events.onFatal,
  });
  const identities = startWorkloadSecrets(config, loggers.scope('identity'), data);
  const { secrets } = identities;
  const model = new MeshModel({
    isLocal: localTo(config),
    data,
    secrets,
    ...(config.isOnDemand && { onDemand: { clock: systemClock, clusterId: config.clusterId } }),
  });
  Object.assign(parts, { identities, model });
  return { data, identities, model };
}

function reportFailure(logger: Logger, work: Promise<unknown> | undefined): void {
  work?.catch((err: unknown) => logger.error({ err: errorMessage(err) }, 'background work failed'));
}
