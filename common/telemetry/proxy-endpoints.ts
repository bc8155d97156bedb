// The HTTP endpoints both proxies have: admin on loopback (15000), metrics (15020), readiness (15021), with the
// paths, methods and answers of Istio's ztunnel. What only one program can answer comes as `routes`.
import type { IncomingMessage } from 'node:http';
import { Readable } from 'node:stream';
import { renderPieces, collectProcessMetrics, expositionContentType } from './exposition.ts';
import { openEndpoint } from './http-endpoint.ts';
import type { Endpoint, EndpointAnswer, EndpointHandler } from './http-endpoint.ts';
import { streamJson } from './json-stream.ts';
import type { SeriesReader } from './series-table.ts';

/** Where the endpoints listen, and the log level that `reset` goes back to. */
export interface EndpointConfig {
  readonly adminPort: number;
  readonly statsPort: number;
  readonly readinessPort: number;
  readonly logLevel: string;
}

/** Sockets that listen already, instead of those named in {@link EndpointConfig}. */
export interface EndpointSockets {
  readonly admin: number;
  readonly stats: number;
  readonly readiness: number;
}

/** What the endpoints ask of the program. */
export interface EndpointSources {
  /** Heading of the admin page. */
  readonly program: string;
  /** Address of metrics and readiness; admin is on loopback only. */
  readonly host: string;
  readonly config: EndpointConfig;
  readonly sockets?: EndpointSockets | undefined;
  readonly readers: readonly SeriesReader[];
  /** Called before each scrape: sets gauges that nothing else keeps. */
  readonly beforeScrape?: () => void | Promise<void>;
  /** See `streamJson`: generators become arrays. */
  configDump(): Promise<Readonly<Record<string, unknown>>>;
  /** Names of what is not ready; empty is ready. */
  pending(): readonly string[];
  /** What is wrong although it is ready; shown with the readiness. */
  warnings?(): readonly string[];
  describeLevels(): string;
  /** Adds a level list to what is in force, or replaces it. False when it is not one. */
  setLevels(levels: string, isReset: boolean): boolean;
  readonly quit: () => void;
  /** Admin paths of the program's own. */
  readonly routes?: Readonly<Record<string, AdminRoute>>;
}

/** An admin path with its line on the index page. */
export interface AdminRoute {
  readonly help: string;
  readonly handle: EndpointHandler;
}

/** The open endpoints. */
export interface Endpoints {
  /** The readiness port accepts no more, as Istio's while it drains; the others go on. */
  stopReadiness(): void;
  close(): Promise<void>;
}

/** Opens all endpoints. */
export async function openEndpoints(sources: EndpointSources): Promise<Endpoints> {
  const { config, host, sockets } = sources;
  const metrics = metricsHandler(sources);
  const routes = withIndex(sources.program, { ...adminRoutes(sources), ...sources.routes });
  const admin = await openEndpoint({
    host: '127.0.0.1',
    port: config.adminPort,
    fd: sockets?.admin,
    routes,
  });
  const stats = await openEndpoint({
    host,
    port: config.statsPort,
    fd: sockets?.stats,
    routes: { '/metrics': metrics, '/stats/prometheus': metrics },
    isCompressing: true,
  });
  const ready = await openEndpoint({
    host,
    port: config.readinessPort,
    fd: sockets?.readiness,
    routes: { '/healthz/ready': (request) => readiness(sources, request) },
  });
  const opened: Endpoint[] = [admin, stats, ready];
  // `localhost` may mean ::1. A machine without IPv6 has only the other.
  await openEndpoint({ host: '::1', port: admin.port, routes }).then(
    (endpoint) => opened.push(endpoint),
    () => undefined,
  );
  return {
    stopReadiness: () => ready.stop(),
    close: async () => {
      await Promise.all(opened.map((endpoint) => endpoint.close()));
    },
  };
}

function metricsHandler(sources: EndpointSources): EndpointHandler {
  const processMetrics = collectProcessMetrics();
  return async (request) => {
    await sources.beforeScrape?.();
    const own = await processMetrics();
    const pieces = function* (): Generator<string> {
      yield* renderPieces(sources.readers);
      yield `${own}# EOF\n`;
    };
    return {
      type: expositionContentType(request.headers.accept),
      body: Readable.from(pieces(), { highWaterMark: 1 }),
    };
  };
}

const LOGGING_HELP = `usage: POST /logging                     (list current level)
usage: POST /logging?level=<level>       (change the level)
usage: POST /logging?level=<scope>=<level>,... (change scopes)
usage: POST /logging?reset[&level=<level>] (reset to the initial levels, then change)

levels: trace|debug|info|warn|error|off; scopes are in the log, such as access or proxy (at most 100)
`;

function adminRoutes(sources: EndpointSources): Record<string, AdminRoute> {
  return {
    '/config_dump': {
      help: 'state, configuration, certificates and connections',
      handle: async () => ({
        type: 'application/json',
        body: Readable.from(streamJson(await sources.configDump()), { highWaterMark: 1 }),
      }),
    },
    '/logging': {
      help: 'POST: query and change log levels',
      handle: (request, url) => {
        if (request.method !== 'POST') return { status: 405, body: LOGGING_HELP };
        const isReset = url.searchParams.has('reset');
        const level = url.searchParams.get('level') ?? '';
        const wanted = isReset ? `${sources.config.logLevel},${level}` : level;
        if (!sources.setLevels(wanted, isReset)) {
          return { status: 400, body: `invalid level "${wanted}"\n${LOGGING_HELP}` };
        }
        return { body: `current log level is ${sources.describeLevels()}\n` };
      },
    },
    '/quitquitquit': {
      help: 'POST: shut the proxy down',
      handle: (request) => {
        if (request.method !== 'POST') return { status: 405, body: 'use POST\n' };
        sources.quit();
        return { body: 'shutdown now\n' };
      },
    },
  };
}

/** The routes, and the page that lists them. */
function withIndex(
  program: string,
  routes: Readonly<Record<string, AdminRoute>>,
): Record<string, EndpointHandler> {
  const items = Object.entries(routes).map(
    ([path, { help }]) =>
      `<tr><td><a href="${path.slice(1)}">${path.slice(1)}</a></td><td>${help}</td></tr>`,
  );
  const page = `<!doctype html><title>${program}</title><h1>${program}</h1><table>${items.join('')}</table>\n`;
  const handlers = Object.entries(routes).map(([path, { handle }]) => [path, handle] as const);
  return {
    '/': () => ({ type: 'text/html; charset=utf-8', body: page }),
    ...Object.fromEntries(handlers),
  };
}

function readiness(sources: EndpointSources, request: IncomingMessage): EndpointAnswer {
  if (request.method !== 'GET') return { status: 405, body: 'use GET\n' };
  const pending = sources.pending();
  if (pending.length === 0) {
    const warnings = sources.warnings?.() ?? [];
    return { body: `ready\n${warnings.map((one) => `warning: ${one}\n`).join('')}` };
  }
  return { status: 500, body: `not ready, pending: ${pending.join(', ')}\n` };
}
