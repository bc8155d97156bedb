// Asks the system's resolver (this process's own resolv.conf and network namespace, as in Istio's ztunnel) for endpoints
// that are known by name only.
import { lookup } from 'node:dns/promises';
import { normalizeIp } from '../../common/workload/ip.ts';

/** All addresses of a hostname; none when it has none or the resolver fails. Never rejects. */
export async function lookupHost(hostname: string, isIpv6: boolean): Promise<string[]> {
  try {
    const found = await lookup(hostname, { all: true, order: 'verbatim', family: isIpv6 ? 0 : 4 });
    return found.map(({ address }) => normalizeIp(address) ?? address);
  } catch {
    return [];
  }
}
