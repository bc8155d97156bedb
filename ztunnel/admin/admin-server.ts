// The node proxy's endpoints: what common/telemetry answers for both proxies, with this proxy's state behind it.
import type { ProxySecrets } from '../../common/identity/proxy-secrets.ts';
import type { AsyncSink } from '../../common/telemetry/log-output.ts';
import type { LoggerRoot } from '../../common/telemetry/logger.ts';
import { openEndpoints } from '../../common/telemetry/proxy-endpoints.ts';
import type {
  AdminRoute,
  EndpointSockets,
  Endpoints,
} from '../../common/telemetry/proxy-endpoints.ts';
import { profileRoutes } from '../../common/telemetry/profile-routes.ts';
import type { SeriesReader } from '../../common/telemetry/series-table.ts';
import type { Config } from '../config.ts';
import type { DataThreads } from '../data-threads.ts';
import type { PodNetns } from '../inpod/pod-source.ts';
import type { PodRegistry } from '../inpod/zds-session.ts';
import type { MeshModel } from '../state/model.ts';
import { buildConfigDump } from './config-dump.ts';
import { connectionsRoute } from './connections.ts';
import type { ControlMetrics } from './control-metrics.ts';
import type { CounterHandOver } from './counter-hand-over.ts';
import type { PodMetrics } from './pod-metrics.ts';
import { whyRoute } from './why/route.ts';

/** What the endpoints show and steer. */
export interface AdminParts {
  readonly config: Config;
  readonly loggers: LoggerRoot;
  readonly output: AsyncSink;
  readonly readers: readonly SeriesReader[];
  readonly metrics: ControlMetrics;
  readonly handOver: CounterHandOver | undefined;
  readonly podMetrics: PodMetrics;
  readonly data: DataThreads;
  readonly model: MeshModel;
  readonly identities: ProxySecrets;
  readonly registry: PodRegistry<PodNetns>;
  /** Names of what is not ready. */
  pending(): readonly string[];
  isDraining(): boolean;
  readonly quit: () => void;
  /** Sockets that listen already, where a holder keeps them. */
  readonly sockets: EndpointSockets | undefined;
  /** Asks the holder for a successor. */
  readonly replace: (() => Promise<boolean>) | undefined;
}

/** Asks the data threads for what each pod has, without single connections. */
export const POD_USE_QUERY = {
  kind: 'connections',
  top: 0,
  sort: 'bytes',
  pod: undefined,
} as const;
const NO_SUCCESSOR = {
  status: 409,
  body: 'not now: one is being started, or two still drain\n',
} as const;

/** Opens admin, metrics and readiness; rejects when a port is taken. */
export function openAdmin(parts: AdminParts): Promise<Endpoints> {
  const { config, loggers, data, model, registry, metrics, podMetrics, output } = parts;
  const { secrets, problems } = parts.identities;
  return openEndpoints({
    program: 'ztunnel',
    host: config.isIpv6 ? '::' : '0.0.0.0',
    config,
    sockets: parts.sockets,
    readers: parts.readers,
    beforeScrape: async () => {
      await parts.handOver?.refresh();
      metrics.collect(registry, output.droppedLines);
      metrics.certificates.update(parts.identities);
      const { report } = await data.request(POD_USE_QUERY);
      podMetrics.set(report?.pods ?? []);
    },
    configDump: async () =>
      buildConfigDump({
        config,
        store: model.store,
        policies: model.policies,
        secrets: secrets.states(),
        pods: registry.states(),
        connections: (await data.request({ kind: 'dump' })).pods ?? [],
      }),
    pending: () => parts.pending(),
    warnings: problems,
    describeLevels: () => loggers.describeLevels(),
    setLevels: (levels, isReset) => {
      if (!loggers.setLevels(levels, isReset)) return false;
      data.request({ kind: 'logLevel', levels: loggers.describeLevels() }).catch(() => undefined);
      return true;
    },
    quit: parts.quit,
    routes: {
      '/connections': connectionsRoute(data, () => parts.isDraining()),
      '/debug/why': whyRoute({ ...parts, secrets }),
      ...profileRoutes(
        Array.from({ length: data.count }, (_none, thread) => ({
          cpu: (request) => data.cpuProfile(thread, request),
          heap: (action) => data.heapProfile(thread, action),
        })),
      ),
      '/drain': drainRoute(parts),
      '/replace': replaceRoute(parts),
    },
  });
}

/**
 * GET tells whether the proxy drains and what is left; POST begins. Where there is a holder a successor serves first: who
 * waits for old connections must not keep the node's new ones waiting. Without one the process ends, as on SIGTERM.
 */
function drainRoute(parts: AdminParts): AdminRoute {
  const { config, data, replace } = parts;
  return {
    help: 'what is left of a drain; POST: a successor takes over, this process drains and ends',
    handle: async (request) => {
      const isStarting = request.method === 'POST';
      if (isStarting && replace !== undefined && !(await replace())) return NO_SUCCESSOR;
      const { report } = await data.request(POD_USE_QUERY);
      const body = {
        state: isStarting || parts.isDraining() ? 'draining' : 'serving',
        connections: report?.connectionCount ?? 0,
        deadlineMs: config.terminationDeadlineMs,
        pods: report?.pods
          .filter(({ inbound, outbound }) => inbound + outbound > 0)
          .map(({ namespace, name, inbound, outbound }) => ({
            pod: `${namespace}/${name}`,
            inbound,
            outbound,
          })),
      };
      if (isStarting && replace === undefined) parts.quit();
      return { type: 'application/json', body: `${JSON.stringify(body, undefined, 2)}\n` };
    },
  };
}

function replaceRoute({ replace }: AdminParts): AdminRoute {
  return {
    help: 'POST: start a successor, which takes over when it is ready',
    handle: async (request) => {
      if (request.method !== 'POST') return { status: 405, body: 'use POST\n' };
      if (replace === undefined) return { status: 404, body: 'there is no holder\n' };
      if (await replace()) return { body: 'a successor is started\n' };
      return NO_SUCCESSOR;
    },
  };
}
