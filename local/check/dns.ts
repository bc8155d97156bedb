// A host of a ServiceEntry without addresses gets a virtual one, and the DNS proxy answers it to captured pods, so that the
// name leads through the mesh. Control: without the entry the name does not exist, which cluster DNS says.
import { KINDS, type KubeObject } from '../../common/kube/resource.ts';
import { sum } from '../../common/telemetry/samples.ts';
import type { ProxyMetrics } from '../scrape.ts';
import { require } from './bench.ts';
import type { Statement } from './statement.ts';

const HOST = 'ratings.example.com';
const NAME = { namespace: 'bookinfo', name: 'check-dns' };
const URL = `http://${HOST}:9080/ratings/0`;

const forwarded = ({ ztunnels }: ProxyMetrics): number =>
  sum(
    ztunnels,
    'istio_dns_upstream_requests_total',
    (labels) => labels['source_canonical_service'] === 'curl',
  );
const throughMesh = ({ ztunnels }: ProxyMetrics): number =>
  sum(
    ztunnels,
    'istio_tcp_connections_opened_total',
    (labels) => labels['destination_service'] === HOST,
  );

function entryFor(address: string): KubeObject {
  return {
    apiVersion: 'networking.istio.io/v1',
    kind: 'ServiceEntry',
    metadata: NAME,
    spec: {
      hosts: [HOST],
      ports: [{ number: 9080, name: 'http', protocol: 'HTTP' }],
      resolution: 'STATIC',
      endpoints: [{ address }],
    },
  } as KubeObject;
}

export const dns: Statement = {
  name: 'DNS: a ServiceEntry name leads a pod through the mesh',
  async verify(bench) {
    const curl = await bench.pod('bookinfo', 'curl');
    const ratings = await bench.pod('bookinfo', 'ratings');
    const before = await bench.metrics();
    const control = await bench.get(curl, URL);
    require(control.status === 0, `${HOST} answers ${control.status} without the entry`);
    await bench.until('control: a count of the forwarded question', async () =>
      forwarded(await bench.metrics()) > forwarded(before) ? true : undefined,
    );
    await bench.api.apply([entryFor(ratings.status?.podIP ?? '')], bench.signal);
    try {
      await bench.until('an answer', async () =>
        (await bench.get(curl, URL)).status === 200 ? true : undefined,
      );
      await bench.until('a count of the connection', async () =>
        throughMesh(await bench.metrics()) > throughMesh(before) ? true : undefined,
      );
    } finally {
      await bench.api.client.delete({ kind: KINDS.serviceEntries, ...NAME });
    }
    return `${HOST} does not exist without the entry; with it, ratings answers and the connection is counted`;
  },
};
