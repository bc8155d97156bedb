// The endpoints of a service as the balancer sees them for one source: which could be chosen, how often, and why not.
import { listCandidates, chooseEndpoint } from '../../../common/workload/load-balance.ts';
import type { WhyCandidate } from '../../../common/admin/explanation.ts';
import { serviceKey } from '../../../common/workload/model.ts';
import type { Service, Workload } from '../../../common/workload/model.ts';
import type { WorkloadStore } from '../../../common/workload/store.ts';

/** Who asks for which port of a service. */
export type BalanceQuery = Pick<
  Parameters<typeof chooseEndpoint>[1],
  'service' | 'servicePort' | 'source'
>;

/** Lists them; `chosen` is the uid of the one that was taken. */
export function explainCandidates(
  store: WorkloadStore,
  query: BalanceQuery,
  chosen: string | undefined,
): WhyCandidate[] {
  const { service, servicePort } = query;
  const eligible = new Set(listCandidates(store, query).map(({ workload }) => workload.uid));
  const shares = sharesOf(store, query);
  return [...store.endpoints(serviceKey(service)).values()].map((workload) => ({
    workload: `${workload.namespace}/${workload.name}`,
    uid: workload.uid,
    isEligible: eligible.has(workload.uid),
    isChosen: workload.uid === chosen,
    detail: eligible.has(workload.uid)
      ? shareText(shares.get(workload.uid) ?? 0)
      : whyNot(workload, query.source, service, servicePort),
  }));
}

const SHARE_SAMPLES = 200;

/** How often each endpoint is chosen, found by asking the balancer over the whole range of its random number. */
function sharesOf(store: WorkloadStore, query: BalanceQuery): Map<string, number> {
  const shares = new Map<string, number>();
  for (let i = 0; i < SHARE_SAMPLES; i++) {
    const random = (): number => (i + 0.5) / SHARE_SAMPLES;
    const uid = chooseEndpoint(store, { ...query, random })?.workload.uid;
    if (uid !== undefined) shares.set(uid, (shares.get(uid) ?? 0) + 1 / SHARE_SAMPLES);
  }
  return shares;
}

function shareText(share: number): string {
  if (share === 0) return 'usable, but others come before it (locality, capacity)';
  return `usable, chosen for about ${Math.round(share * 100)} % of connections`;
}

/** The likely reason; that it cannot be used has been decided by the balancer. */
function whyNot(
  workload: Workload,
  source: BalanceQuery['source'],
  service: Service,
  port: number,
): string {
  if (!workload.isHealthy && service.loadBalancer.healthPolicy !== 'ALLOW_ALL') return 'not ready';
  if (!service.ports.some(({ servicePort }) => servicePort === port)) {
    return `the service has no port ${port}`;
  }
  if (workload.network !== source.network && workload.networkGateway === undefined) {
    return `is in network ${workload.network}, which has no gateway`;
  }
  if (workload.ips.length === 0 && workload.hostname === '') return 'has no address';
  return `cannot take port ${port}`;
}
