// Addresses for clients that ask on demand: `network/ip` of a workload gives the workload, a
// VIP, an address in a service's range or a service name gives the service and all its workloads; the workloads of a
// client's own node, and their services, come unasked. Built on first use.
import type { Address } from '../../common/workload/gen/workload_pb.ts';
import { matchesPrefix, parseIp } from '../../common/workload/ip.ts';
import type { ClientNode } from '../../common/xds/delta-server.ts';

/** Answers about a set of addresses, as `TypeSnapshot` has them. */
export interface AddressLookup {
  readonly lookup: (name: string) => readonly string[];
  readonly unasked: (node: ClientNode) => readonly string[];
}

/** Makes the lookup. */
export function addressLookup(addresses: ReadonlyMap<string, Address>): AddressLookup {
  let built: Index | undefined;
  const index = (): Index => (built ??= buildIndex(addresses));
  return {
    lookup: (name) => [...(index().names.get(name) ?? rangeOf(index(), name))],
    unasked: ({ metadata: { NODE_NAME: node } }) => [
      ...((typeof node === 'string' ? index().nodes.get(node) : undefined) ?? []),
    ],
  };
}

interface AddressRange {
  readonly network: string;
  readonly prefix: Uint8Array;
  readonly length: number;
  readonly service: string;
}

interface Index {
  /** Alias to names. */
  readonly names: ReadonlyMap<string, ReadonlySet<string>>;
  readonly ranges: readonly AddressRange[];
  /** Node to the names of its workloads and their services. */
  readonly nodes: ReadonlyMap<string, ReadonlySet<string>>;
}

function rangeOf({ ranges, names }: Index, name: string): Iterable<string> {
  if (ranges.length === 0) return [];
  const at = name.indexOf('/');
  const address = parseIp(name.slice(at + 1));
  if (at < 0 || address === undefined) return [];
  const network = name.slice(0, at);
  return ranges
    .filter((range) => range.network === network)
    .filter(({ prefix, length }) => matchesPrefix(address, prefix, length))
    .flatMap(({ service }) => [...(names.get(service) ?? [])]);
}

function buildIndex(addresses: ReadonlyMap<string, Address>): Index {
  const index = new Map<string, Set<string>>();
  const nodes = new Map<string, Set<string>>();
  const ranges: AddressRange[] = [];
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
    const { node, services } = type.value;
    if (node === '') continue;
    const local = nodes.get(node) ?? new Set();
    for (const one of [name, ...Object.keys(services)]) local.add(one);
    nodes.set(node, local);
  }
  for (const [name, { type }] of addresses) {
    if (type.case !== 'service') continue;
    for (const { network, address: prefix, length } of type.value.addresses) {
      if (length !== undefined && length < prefix.length * 8)
        ranges.push({ network, prefix, length, service: name });
    }
    const aliases = type.value.addresses.map((vip) => `${vip.network}/${ipText(vip.address)}`);
    for (const alias of [name, ...aliases]) {
      put(alias, name);
      for (const member of members.get(name) ?? []) put(alias, member);
    }
  }
  return { names: index, ranges, nodes };
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
