// GET /connections: the live connections with bytes and age, and what each pod uses. `?top=` cuts, `?sort=` orders by
// bytes, age or rate, `?pod=namespace/name` narrows.
import { CONNECTION_SORTS } from '../../common/admin/connections.ts';
import type { ConnectionsAnswer } from '../../common/admin/connections.ts';
import type { AdminRoute } from '../../common/telemetry/proxy-endpoints.ts';
import type { EndpointAnswer } from '../../common/telemetry/http-endpoint.ts';
import type { DataThreads } from '../data-threads.ts';
import type { ConnectionQuery } from '../messages.ts';

const DEFAULT_TOP = 1000;
/** The data thread stops for the answer: 10,000 take it some 20 ms. */
const MAX_TOP = 10_000;

/** Reads the query; the text of what is wrong with it otherwise. */
export function parseConnectionQuery(parameters: URLSearchParams): ConnectionQuery | string {
  const top = parameters.get('top') ?? String(DEFAULT_TOP);
  if (!/^\d+$/.test(top) || Number(top) > MAX_TOP) {
    return `top must be a whole number up to ${MAX_TOP}`;
  }
  const word = parameters.get('sort') ?? 'bytes';
  const sort = CONNECTION_SORTS.find((one) => one === word);
  if (sort === undefined) return `sort must be one of ${CONNECTION_SORTS.join(', ')}`;
  const pod = parameters.get('pod') ?? undefined;
  if (pod !== undefined && !/^[^/]+\/[^/]+$/.test(pod)) return 'pod must be namespace/name';
  return { top: Number(top), sort, pod };
}

/** The route. The data thread does nothing for it until it is asked. */
export function connectionsRoute(
  data: Pick<DataThreads, 'request'>,
  isDraining: () => boolean,
): AdminRoute {
  return {
    help: 'live connections with bytes and age, and what each pod uses: ?top= ?sort= ?pod=',
    handle: async (_request, url): Promise<EndpointAnswer> => {
      const query = parseConnectionQuery(url.searchParams);
      if (typeof query === 'string') return { status: 400, body: `${query}\n` };
      const { report } = await data.request({ kind: 'connections', ...query });
      const { pods = [], connections = [], connectionCount = 0 } = report ?? {};
      const body: ConnectionsAnswer = {
        now: new Date().toISOString(),
        isDraining: isDraining(),
        pods,
        connectionCount,
        omitted: connectionCount - connections.length,
        connections,
      };
      return { type: 'application/json', body: `${JSON.stringify(body, undefined, 2)}\n` };
    },
  };
}
