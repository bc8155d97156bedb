// Copies of requests to another cluster, whose answers are dropped and whose failures change nothing. Only requests
// whose body has arrived whole (64 KiB at most) when they are sent are mirrored.
import type { HttpStreamEvents } from '../../engine/http1/types.ts';
import type { HeaderList } from '../../engine/http2/types.ts';
import type { Mirror } from '../../common/l7/gen/l7_pb.ts';
import type { ClusterRegistry } from '../cluster/cluster-runtime.ts';
import type { Exchange } from './exchange.ts';

const DROP: HttpStreamEvents = { onHeaders: () => undefined, onTrailers: () => undefined };

/** Sends the copies that chance picks. */
export function sendMirrors(
  exchange: Exchange,
  mirrors: readonly Mirror[],
  env: { readonly clusters: ClusterRegistry; readonly random: () => number },
): void {
  const body = exchange.body.whole;
  if (body === undefined || exchange.isUpgrade) return;
  for (const { cluster: name, percent } of mirrors) {
    if (env.random() * 100 >= percent) continue;
    const cluster = env.clusters.get(name);
    const endpoint = cluster?.pick(undefined);
    if (cluster === undefined || endpoint === undefined) continue;
    if (!cluster.admitsRequest || !cluster.admitsPending) continue;
    const { method, scheme, authority, path, headers } = exchange;
    const head: HeaderList = [
      [':method', method],
      [':scheme', scheme],
      [':authority', shadowAuthority(authority)],
      [':path', path],
      ...headers,
    ];
    cluster.pool(endpoint, cluster.config?.http2 === true).acquire({
      onReady: (lease) => {
        const stream = lease.request(head, body.length === 0, DROP);
        stream.resume();
        if (body.length === 0) return;
        stream.writeBytes(body);
        stream.end();
      },
      onFailure: () => undefined,
    });
  }
}

/** `host:80` to `host-shadow:80`, as Envoy does. */
function shadowAuthority(authority: string): string {
  const port = /:\d+$/.exec(authority)?.[0] ?? '';
  return `${authority.slice(0, authority.length - port.length)}-shadow${port}`;
}
