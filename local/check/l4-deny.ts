// The L4 policy on ratings refuses the load client, and the refusal is counted and logged with its policy. Control:
// without the policy the same request succeeds, and with it another client still does.
import { KINDS } from '../../common/kube/resource.ts';
import { sum } from '../../common/telemetry/samples.ts';
import type { ProxyMetrics } from '../scrape.ts';
import { hasField } from './access-log.ts';
import { require, type Bench } from './bench.ts';
import { sampleObject, without } from './policies.ts';
import type { Statement } from './statement.ts';

const URL = 'http://ratings:9080/ratings/0';

function denials({ ztunnels }: ProxyMetrics): number {
  return sum(
    ztunnels,
    'istio_tcp_connections_failed_total',
    (labels) =>
      labels['reporter'] === 'destination' &&
      labels['response_flags'] === 'DENY' &&
      labels['destination_service_name'] !== 'reviews' &&
      labels['destination_workload'] === 'ratings-v1',
  );
}

async function isLogged(bench: Bench): Promise<boolean> {
  const ztunnels = await bench.api.pods('istio-system', 'app=ztunnel');
  return ztunnels.some((pod) =>
    bench
      .log(pod)
      .split('\n')
      .some((line) => line.includes('deny-load') && hasField(line, 'direction', 'inbound')),
  );
}

export const l4Deny: Statement = {
  name: 'L4 policy: refuses by identity, counted and logged with its policy',
  async verify(bench) {
    const policy = sampleObject('bookinfo/policies.yaml', 'AuthorizationPolicy', 'deny-load');
    const load = await bench.pod('bookinfo', 'load');
    const curl = await bench.pod('bookinfo', 'curl');
    await without(bench, KINDS.authorizationPolicies, policy, () =>
      bench.until('control: an answer without the policy', async () =>
        (await bench.get(load, URL)).status === 200 ? true : undefined,
      ),
    );
    const before = denials(await bench.metrics());
    await bench.until('a refusal with the policy', async () =>
      (await bench.get(load, URL)).status === 0 ? true : undefined,
    );
    require((await bench.get(curl, URL)).status === 200, 'another client is refused as well');
    await bench.until('a count of the refusal', async () =>
      denials(await bench.metrics()) > before ? true : undefined,
    );
    await bench.until('a log line that names the policy', async () =>
      (await isLogged(bench)) ? true : undefined,
    );
    return 'refused, counted as DENY, logged with bookinfo/deny-load; another client is served';
  },
};
