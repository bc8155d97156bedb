// A labelled namespace's requests are counted by the node proxies without a waypoint, by code and by both ends; without the
// label nothing is looked at. Control: the same requests before, and after the label went.
import { sum } from '../../common/telemetry/samples.ts';
import type { ProxyMetrics } from '../scrape.ts';
import { require } from './bench.ts';
import type { Statement } from './statement.ts';

const NAMESPACE = 'bookinfo';
const SWITCH = 'ambient-mesh.io/l7-sight';
const REQUESTS = 5;

const seen = ({ ztunnels }: ProxyMetrics, reporter: string, codeClass: string): number =>
  sum(
    ztunnels,
    'ambient_mesh_l7_requests_total',
    (labels) =>
      labels['reporter'] === reporter &&
      labels['source_workload'] === 'curl' &&
      labels['destination_service_name'] === 'ratings' &&
      labels['request_method'] === 'GET' &&
      labels['response_code_class'] === codeClass,
  );

const all = (metrics: ProxyMetrics): number[] =>
  ['source', 'destination'].flatMap((reporter) =>
    ['2xx', '4xx'].map((codeClass) => seen(metrics, reporter, codeClass)),
  );

export const l7Sight: Statement = {
  name: 'L7 sight: requests counted by the node proxies, without a waypoint, where the namespace asks',
  async verify(bench) {
    const curl = await bench.pod(NAMESPACE, 'curl');
    const ask = async (): Promise<void> => {
      await bench.get(curl, 'http://ratings:9080/ratings/0');
      await bench.get(curl, 'http://ratings:9080/nowhere');
    };
    await ask();
    const before = all(await bench.metrics());
    await bench.api.labelNamespace(NAMESPACE, { [SWITCH]: 'enabled' });
    try {
      await bench.until('a request that is seen', async () => {
        await ask();
        return all(await bench.metrics()).every((count, at) => count > (before[at] ?? 0))
          ? true
          : undefined;
      });
      const start = all(await bench.metrics());
      for (let at = 0; at < REQUESTS; at++) await ask();
      await bench.until('the counts of the requests', async () => {
        const now = all(await bench.metrics());
        return now.every((count, at) => count === (start[at] ?? 0) + REQUESTS) ? true : undefined;
      });
    } finally {
      await bench.api.labelNamespace(NAMESPACE, { [SWITCH]: null });
    }
    await bench.until('requests that are no longer seen', async () => {
      const start = all(await bench.metrics());
      await ask();
      await bench.sleep(500);
      const now = all(await bench.metrics());
      return now.every((count, at) => count === start[at]) ? true : undefined;
    });
    require(before.every((count) => count === 0), 'requests were seen before the namespace asked');
    return `${REQUESTS} answered and ${REQUESTS} not found counted by both ends, then none`;
  },
};
