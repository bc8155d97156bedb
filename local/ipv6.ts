// The IPv6 side of the local cluster, derived from its IPv4 side: each address embeds the IPv4 address it stands
// beside, so nothing has to be allocated twice. Pure but for the question whether the machine has IPv6 at all.
import { existsSync } from 'node:fs';
import { isIPv4 } from 'node:net';

/** Services' addresses: this prefix and the 32 bits of the IPv4 address. */
export const SERVICE_CIDR_V6 = 'fd00:10:96::/96';
const SERVICE_PREFIX = SERVICE_CIDR_V6.slice(0, SERVICE_CIDR_V6.indexOf('/'));

/** A node's IPv6 side. */
export interface NodeIpv6 {
  readonly address: string;
  readonly podCidr: string;
  readonly gateway: string;
}

/** Whether this machine's kernel has IPv6. */
export function hasIpv6(): boolean {
  return existsSync('/proc/net/if_inet6');
}

const octetsOf = (address: string): number[] => address.split('.').map(Number);
const hex = (value: number): string => value.toString(16);

/** The prefix of an instance, without a `::`. */
export function instancePrefixV6(instance: number): string {
  return `fd00:a3b:${hex(instance)}`;
}

/** The IPv6 side of the node at an index. */
export function nodeIpv6(instance: number, index: number): NodeIpv6 {
  const prefix = instancePrefixV6(instance);
  const pods = `${prefix}:${hex(index + 1)}::`;
  return {
    address: `${prefix}:ff::${hex(10 + index)}`,
    podCidr: `${pods}/64`,
    gateway: `${pods}1`,
  };
}

/** The machine's address on the bridge. */
export function bridgeIpv6(instance: number): string {
  return `${instancePrefixV6(instance)}:ff::1`;
}

/** The address beside a pod's IPv4 address. */
export function podIpv6({ podCidr }: NodeIpv6, address: string): string {
  return `${podCidr.slice(0, podCidr.indexOf('/'))}${hex(octetsOf(address)[3] ?? 0)}`;
}

/** The address beside a Service's IPv4 address. */
export function serviceIpv6(address: string): string {
  const [a = 0, b = 0, c = 0, d = 0] = octetsOf(address);
  return `${SERVICE_PREFIX}${hex(a * 256 + b)}:${hex(c * 256 + d)}`;
}

/** The IPv4 address that a Service's address embeds; undefined for one that is not of this cluster. */
export function embeddedIpv4(address: string): string | undefined {
  if (isIPv4(address)) return address;
  if (!address.startsWith(SERVICE_PREFIX)) return undefined;
  const groups = address.slice(SERVICE_PREFIX.length).split(':');
  const values = groups.map((group) => Number.parseInt(group, 16));
  if (values.length !== 2 || values.some((value) => !(value >= 0 && value <= 0xffff))) {
    return undefined;
  }
  const found = values.flatMap((value) => [value >> 8, value & 0xff]).join('.');
  return serviceIpv6(found) === address ? found : undefined;
}
