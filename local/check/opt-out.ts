// A workload that did not opt in is not touched by the waypoint: the L7 policy does not hold there, and the waypoint
// counts no request of it. Control: the same path of a service that did opt in is refused and counted.
import { sum } from '../../common/telemetry/samples.ts';
import type { ProxyMetrics } from '../scrape.ts';
import { require } from './bench.ts';
import type { Statement } from './statement.ts';

const requestsTo = ({ waypoints }: ProxyMetrics, service: string): number =>
  sum(
    waypoints,
    'istio_requests_total',
    (labels) => labels['destination_service_name'] === service,
  );

export const optOut: Statement = {
  name: 'opting out: a service without waypoint is not touched by it',
  async verify(bench) {
    const curl = await bench.pod('bookinfo', 'curl');
    const before = await bench.metrics();
    const control = await bench.until('control: the refusal where the waypoint is', async () => {
      const answer = await bench.get(curl, 'http://reviews:9080/admin');
      return answer.status === 403 ? answer : undefined;
    });
    const direct = await bench.get(curl, 'http://ratings:9080/admin');
    require(direct.status === 200, `ratings answers ${direct.status}`);
    await bench.until('control: a count of the request that the waypoint saw', async () =>
      requestsTo(await bench.metrics(), 'reviews') > requestsTo(before, 'reviews')
        ? true
        : undefined,
    );
    const seen = requestsTo(await bench.metrics(), 'ratings');
    require(seen === 0, `the waypoint counted ${seen} requests to ratings`);
    return `reviews answers ${control.status}, ratings ${direct.status}; the waypoint counted none of it`;
  },
};
