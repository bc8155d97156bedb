// Requests that node proxies observed on their way (docs/design/l7-sight.md), as those who show them read them: both ends may
// have counted the same request.
import type { Sample } from './samples.ts';

export const OBSERVED_REQUESTS = 'ambient_mesh_l7_requests_total';
export const OBSERVED_DURATION = 'ambient_mesh_l7_request_duration_milliseconds';
const PREFIX = 'ambient_mesh_l7_request';

function pairOf({ labels }: Sample): string {
  return ['source_workload_namespace', 'source_workload']
    .concat('destination_workload_namespace', 'destination_workload')
    .map((name) => labels[name] ?? '')
    .join(' ');
}

/** The samples of requests, of one reporter for each pair of workloads: the source, else the destination. */
export function observedRequests(samples: readonly Sample[]): Sample[] {
  const requests = samples.filter(({ name }) => name.startsWith(PREFIX));
  const bySource = requests.filter(({ labels }) => labels['reporter'] === 'source');
  const seen = new Set(bySource.map(pairOf));
  const others = requests.filter(
    (sample) => sample.labels['reporter'] === 'destination' && !seen.has(pairOf(sample)),
  );
  return [...bySource, ...others];
}
