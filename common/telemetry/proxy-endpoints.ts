// The HTTP endpoints both proxies have: admin on loopback (15000), metrics (15020), readiness (15021), with the
// paths, methods and answers of Istio's ztunnel.
import type { IncomingMessage } from 'node:http';
import { renderSeries, collectProcessMetrics, expositionContentType } from './exposition.ts';
import { openEndpoint } from './http-endpoint.ts';
import type { Endpoint, EndpointAnswer, EndpointHandler } from './http-endpoint.ts';
import { parseLevels } from './logger.ts';
import type { SeriesReader } from './series-table.ts';

/** Where the endpoints listen, and the log level that `reset` goes back to. */
export interface EndpointConfig {
  readonly adminPort: number;
  readonly statsPort: number;
  readonly readinessPort: number;
  readonly logLevel: string;
}

/** What the endpoints ask of the program. */
export interface EndpointSources {
  /** Heading of the admin page. */
  readonly program: string;
  /** Address of metrics and readiness; admin is on loopback only. */
  readonly host: string;
  readonly config: EndpointConfig;
  readonly readers: readonly SeriesReader[];
  configDump(): Promise<object>;
  /** Names of what is not ready; empty is ready. */
  pending(): readonly string[];
  describeLevels(): string;
  setLevels(levels: string): void;
  readonly quit: () => void;
}

/** Opens all endpoints. */
export async function openEndpoints(sources: EndpointSources): Promise<{ close(): Promise<void> }> {
  const { config, host } = sources;
  const processMetrics = collectProcessMetrics();
  const metrics: EndpointHandler = async (request) => ({
    type: expositionContentType(request.headers.accept),
    body: `${renderSeries(sources.readers)}${await processMetrics()}# EOF\n`,
  });
  const opened: Endpoint[] = [];
  opened.push(
    await openEndpoint({ host: '127.0.0.1', port: config.adminPort, routes: adminRoutes(sources) }),
    await openEndpoint({
      host,
      port: config.statsPort,
      routes: { '/metrics': metrics, '/stats/prometheus': metrics },
    }),
    await openEndpoint({
      host,
      port: config.readinessPort,
      routes: { '/healthz/ready': (request) => readiness(sources, request) },
    }),
  );
  return {
    close: async () => {
      await Promise.all(opened.map((endpoint) => endpoint.close()));
    },
  };
}

function adminRoutes(sources: EndpointSources): Record<string, EndpointHandler> {
  return {
    '/': () => ({
      type: 'text/html; charset=utf-8',
      body: `<h1>${sources.program}</h1><ul><li><a href="/config_dump">config_dump</a></li><li>POST /logging?level=</li><li>POST /quitquitquit</li></ul>\n`,
    }),
    '/config_dump': async () => ({
      type: 'application/json',
      body: `${JSON.stringify(await sources.configDump(), undefined, 2)}\n`,
    }),
    '/logging': (request, url) => {
      if (request.method !== 'POST') return { status: 405, body: 'use POST\n' };
      const wanted =
        url.searchParams.get('level') ??
        (url.searchParams.has('reset') ? sources.config.logLevel : '');
      if (parseLevels(wanted) === undefined) {
        return { status: 400, body: 'level must be a list such as info or info,access=off\n' };
      }
      if (wanted !== '') sources.setLevels(wanted);
      return { body: `current log level is ${sources.describeLevels()}\n` };
    },
    '/quitquitquit': (request) => {
      if (request.method !== 'POST') return { status: 405, body: 'use POST\n' };
      sources.quit();
      return { body: 'shutdown now\n' };
    },
  };
}

function readiness(sources: EndpointSources, request: IncomingMessage): EndpointAnswer {
  if (request.method !== 'GET') return { status: 405, body: 'use GET\n' };
  const pending = sources.pending();
  if (pending.length === 0) return { body: 'ready\n' };
  return { status: 500, body: `not ready, pending: ${pending.join(', ')}\n` };
}
