// Who is at the far end of a double tunnel. The gateway chose the pod, so its record here is only the gateway's; what it
// said of itself (baggage of the inner answer) and proved (the inner certificate) replaces that in labels and logs.
import { decodeBaggage } from '../../common/hbone/baggage.ts';
import type { Tunnel } from '../../common/hbone/types.ts';
import type { Workload, WorkloadType } from '../../common/workload/model.ts';

const MAX_REMOTES = 1000;
const TYPES: readonly WorkloadType[] = ['deployment', 'cronjob', 'pod', 'job'];

// The same object for the same remote: the recorder keeps its series by it.
const remotes = new Map<string, Workload>();
const described = new WeakSet<Workload>();

/** Whether a record is what the far end of a double tunnel said of itself. */
export function isDescribedByBaggage(workload: Workload): boolean {
  return described.has(workload);
}

/** A record for labels, made from the gateway's; the gateway's own where the far end says nothing. */
export function describeRemote(
  gateway: Workload,
  { responseHeaders, serverIdentity = '' }: Pick<Tunnel, 'responseHeaders' | 'serverIdentity'>,
): Workload {
  const baggage = decodeBaggage(responseHeaders);
  if (Object.keys(baggage).length === 0) return gateway;
  const key = JSON.stringify([gateway.uid, serverIdentity, baggage]);
  const known = remotes.get(key);
  if (known !== undefined) return known;
  const [trustDomain = '', , namespace = '', , serviceAccount = ''] = serverIdentity
    .replace('spiffe://', '')
    .split('/');
  const remote: Workload = {
    ...gateway,
    // Of the pod's own name it says nothing.
    name: baggage.canonicalName ?? baggage.workloadName ?? '',
    namespace: baggage.namespace ?? namespace,
    trustDomain,
    serviceAccount,
    workloadName: baggage.workloadName ?? '',
    workloadType: TYPES.find((type) => type === baggage.workloadType) ?? 'pod',
    canonicalName: baggage.canonicalName ?? '',
    canonicalRevision: baggage.canonicalRevision ?? '',
    clusterId: baggage.clusterId ?? '',
    locality: { region: baggage.region ?? '', zone: baggage.zone ?? '', subzone: '' },
  };
  if (remotes.size >= MAX_REMOTES) remotes.clear();
  remotes.set(key, remote);
  described.add(remote);
  return remote;
}
