// Aliases of addresses for clients that ask on demand (istio-ambient-spec 3.2): `network/ip` of a workload gives
// the workload, a VIP or a service name gives the service and all its workloads. Built on first use.
import type { Address } from '../../common/workload/gen/workload_pb.ts';

/** Names of resources for an alias. */
export function addressLookup(
  addresses: ReadonlyMap<string, Address>,
): (name: string) => readonly string[] {
  let index: Map<string, Set<string>> | undefined;
  return (name) => {
    index ??= buildIndex(addresses);
    return [...(index.get(name) ?? [])];
  };
}

function buildIndex(addresses: ReadonlyMap<string, Address>): Map<string, Set<string>> {
  const index = new Map<string, Set<string>>();
  const members = new Map<string, string[]>();
  const put = (alias: string, name: string): void => {
    const names = index.get(alias);
    if (names === undefined) index.set(alias, new Set([name]));
    else names.add(name);
  };
  for (const [name, { type }] of addresses) {
    if (type.case !== 'workload') continue;
    for (const ip of type.value.addresses) put(`${type.value.network}/${ipText(ip)}`, name);
    for (const service of Object.keys(type.value.services)) {
      const known = members.get(service);
      if (known === undefined) members.set(service, [name]);
      else known.push(name);
    }
  }
  for (const [name, { type }] of addresses) {
    if (type.case !== 'service') continue;
    const aliases = type.value.addresses.map((vip) => `${vip.network}/${ipText(vip.address)}`);
    for (const alias of [name, ...aliases]) {
      put(alias, name);
      for (const member of members.get(name) ?? []) put(alias, member);
    }
  }
  return index;
}

function ipText(bytes: Uint8Array): string {
  if (bytes.length === 4) return bytes.join('.');
  const groups: string[] = [];
  for (let at = 0; at + 1 < bytes.length; at += 2) {
    groups.push((((bytes[at] ?? 0) << 8) | (bytes[at + 1] ?? 0)).toString(16));
  }
  // The URL parser writes IPv6 in its shortest form.
  return new URL(`http://[${groups.join(':')}]`).hostname.slice(1, -1);
}
