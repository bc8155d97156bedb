// Which answer the mesh itself gives to a pod's question, from the workload model. Pure. Names
// that are no service of the mesh are not answered here, nor other types than A and AAAA: they are forwarded.
import type { DnsQuestion, DnsRecord } from '../../common/dns/codec.ts';
import { isIpv6 } from '../../common/workload/ip.ts';
import { serviceKey } from '../../common/workload/model.ts';
import type { Service, Workload } from '../../common/workload/model.ts';
import { allowsFamily, isVisible } from '../../common/workload/store.ts';
import type { WorkloadStore } from '../../common/workload/store.ts';
import { aliasesOf, podSearchDomains, wildcardsOf } from './aliases.ts';

/** What is fixed for a proxy. */
export interface ResolverSettings {
  readonly domain: string;
  readonly isIpv6: boolean;
  /** Wins among services of other namespaces with one hostname, after the canonical one. */
  readonly preferredNamespace: string | undefined;
  /** The search domains of the only pod of a dedicated proxy. */
  readonly searchDomains?: readonly string[];
}

type LocalRecord = Exclude<DnsRecord, { type: 'SRV' }>;

/** An answer: the service that was meant, and its records (none: the name exists without this type). */
export interface LocalAnswer {
  readonly service: Service;
  readonly records: readonly LocalRecord[];
}

/** Answers a question of a pod; undefined: not ours, forward it. */
export function resolveLocally(
  store: WorkloadStore,
  client: Pick<Workload, 'namespace' | 'network'>,
  question: Pick<DnsQuestion, 'name' | 'type' | 'isInternet'>,
  settings: ResolverSettings,
): LocalAnswer | undefined {
  const { name: asked, type } = question;
  if ((type !== 'A' && type !== 'AAAA') || !question.isInternet) return undefined;
  const { namespace } = client;
  const searchDomains = settings.searchDomains ?? podSearchDomains(namespace, settings.domain);
  for (const alias of aliasesOf(asked, namespace, settings.domain, searchDomains)) {
    for (const hostname of [alias.name, ...wildcardsOf(alias.name)]) {
      const service = chooseService(store.servicesByHostname(hostname), namespace, settings);
      if (service === undefined) continue;
      const isWildcard = hostname !== alias.name;
      const owner = isWildcard ? asked : (alias.stripped ?? asked);
      const addresses = addressesOf(store, service, client.network, type, settings);
      const records = addresses.map((data): LocalRecord => ({ type, name: owner, data }));
      const link: LocalRecord = { type: 'CNAME', name: asked, data: owner };
      const isLinked = owner !== asked && records.length > 0;
      return { service, records: isLinked ? [link, ...records] : records };
    }
  }
  return undefined;
}

/** Of several services with one hostname: the asker's namespace, the canonical, the preferred, the first. */
function chooseService(
  services: Iterable<Service>,
  namespace: string,
  { domain, preferredNamespace }: ResolverSettings,
): Service | undefined {
  let best: Service | undefined;
  let bestRank = -1;
  for (const service of services) {
    const isAnswerable = service.vips.length > 0 || service.hostname.endsWith(`.svc.${domain}`);
    if (!isAnswerable || !isVisible(service, namespace)) continue;
    const rank =
      (service.namespace === namespace ? 4 : 0) +
      (service.isCanonical ? 2 : 0) +
      (service.namespace === preferredNamespace ? 1 : 0);
    if (rank > bestRank) [best, bestRank] = [service, rank];
  }
  return best;
}

/** The service's addresses in the asker's network; those of its endpoints when it has none at all. */
function addressesOf(
  store: WorkloadStore,
  service: Service,
  network: string,
  type: 'A' | 'AAAA',
  settings: ResolverSettings,
): string[] {
  const isV6 = type === 'AAAA';
  if (isV6 && !settings.isIpv6) return [];
  const isWanted = (ip: string): boolean =>
    isIpv6(ip) === isV6 && allowsFamily(service.ipFamilies, ip);
  if (service.vips.length > 0) {
    return service.vips
      .filter((vip) => vip.network === network && isWanted(vip.ip))
      .map(({ ip }) => ip);
  }
  const takesUnhealthy = service.loadBalancer.healthPolicy === 'ALLOW_ALL';
  const addresses = new Set<string>();
  for (const workload of store.endpoints(serviceKey(service)).values()) {
    if (!workload.isHealthy && !takesUnhealthy) continue;
    const ip = workload.ips.find(isWanted);
    if (ip !== undefined) addresses.add(ip);
  }
  return [...addresses];
}
