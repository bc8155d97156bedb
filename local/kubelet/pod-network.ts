// The built-in first step of the CNI chain: a netns for the pod, a veth pair into the node's netns, an address
// of the node's pod range, point-to-point routes. Runs in the node's netns. Returns a CNI 1.0.0 result.
import { createHash } from 'node:crypto';
import { isIPv6 } from 'node:net';
import { MeshError } from '../../common/errors.ts';
import { podIpv6 } from '../ipv6.ts';
import { markNetns, unmarkNetns } from './cleanup.ts';
import type { NodeConfig } from './config.ts';
import { setSysctls } from './node-network.ts';
import type { Pod } from './objects.ts';
import { ipBatch, runCommand, tryCommand } from './run-command.ts';

export interface CniResult {
  readonly cniVersion: string;
  readonly interfaces: readonly { readonly name: string; readonly sandbox?: string }[];
  readonly ips: readonly {
    readonly address: string;
    readonly gateway: string;
    readonly interface: number;
  }[];
  readonly routes: readonly { readonly dst: string }[];
  readonly dns: object;
}

/** Hands out the addresses of a /24, the longest unused first, so that an address is not soon used again. */
export class AddressPool {
  readonly #free: string[];

  constructor(podCidr: string) {
    const base = podCidr.slice(0, podCidr.lastIndexOf('.'));
    this.#free = Array.from({ length: 250 }, (_, index) => `${base}.${index + 4}`);
  }

  take(): string {
    const address = this.#free.shift();
    if (address === undefined) throw new MeshError('no_address', 'the pod range is used up');
    return address;
  }

  release(address: string): void {
    this.#free.push(address);
  }
}

/** The name of a pod's netns, as `ip netns` shows it. */
export function podNetns(config: NodeConfig, namespace: string, pod: string): string {
  return `${namespace}.${pod}${config.suffix}`;
}

function vethName(config: NodeConfig, netns: string): string {
  return `v${config.instance}-${createHash('sha1').update(netns).digest('hex').slice(0, 8)}`;
}

/** A pod with this annotation and the value `IPv6` has no IPv4 address; others have both, where the machine has. */
export const FAMILY_ANNOTATION = 'local.ambient-mesh.io/ip-family';

/** A pod's addresses, the first one first. Its IPv4 address is taken for it even if it has IPv6 alone. */
export function podAddresses(config: NodeConfig, pod: Pod, ipv4: string): string[] {
  if (config.ipv6 === undefined) return [ipv4];
  const ipv6 = podIpv6(config.ipv6, ipv4);
  return pod.metadata.annotations?.[FAMILY_ANNOTATION] === 'IPv6' ? [ipv6] : [ipv4, ipv6];
}

/** Makes the pod's netns and joins it to the node. A leftover of the same name is replaced. */
export async function addPodNetwork(
  config: NodeConfig,
  netns: string,
  addresses: readonly string[],
): Promise<CniResult> {
  const veth = vethName(config, netns);
  markNetns(config.stateDir, netns);
  if ((await tryCommand(['ip', 'netns', 'add', netns])).code !== 0) {
    await tryCommand(['ip', 'netns', 'del', netns]);
    await runCommand(['ip', 'netns', 'add', netns]);
  }
  await setSysctls(netns, false);
  await ipBatch([
    `link add ${veth} type veth peer name eth0 netns ${netns}`,
    `link set ${veth} up`,
  ]);
  await ipBatch(['link set lo up', 'link set eth0 up'], netns);
  const ips: CniResult['ips'][number][] = [];
  for (const address of addresses) {
    const isV6 = isIPv6(address);
    const gateway = isV6 ? config.ipv6?.gateway : config.gateway;
    if (gateway === undefined) continue;
    const length = isV6 ? 128 : 32;
    const add = isV6 ? addIpv6 : addIpv4;
    await add({ netns, veth, address, gateway });
    ips.push({ address: `${address}/${length}`, gateway, interface: 1 });
  }
  return {
    cniVersion: '1.0.0',
    interfaces: [{ name: veth }, { name: 'eth0', sandbox: `/var/run/netns/${netns}` }],
    ips,
    routes: addresses.map((address) => ({ dst: isIPv6(address) ? '::/0' : '0.0.0.0/0' })),
    dns: {},
  };
}

interface Placed {
  readonly netns: string;
  readonly veth: string;
  readonly address: string;
  readonly gateway: string;
}

async function addIpv4({ netns, veth, address, gateway }: Placed): Promise<void> {
  await ipBatch([
    `addr add ${gateway}/32 dev ${veth}`,
    `route replace ${address}/32 dev ${veth} src ${gateway}`,
  ]);
  await ipBatch(
    [
      `addr add ${address}/32 dev eth0`,
      `route add ${gateway}/32 dev eth0 scope link`,
      `route add default via ${gateway} dev eth0`,
    ],
    netns,
  );
}

async function addIpv6({ netns, veth, address, gateway }: Placed): Promise<void> {
  await ipBatch([
    `addr add ${gateway}/128 dev ${veth} nodad`,
    `route replace ${address}/128 dev ${veth}`,
  ]);
  await ipBatch(
    [
      `addr add ${address}/128 dev eth0 nodad`,
      `route add ${gateway}/128 dev eth0`,
      `route add default via ${gateway} dev eth0`,
    ],
    netns,
  );
}

/** Removes the netns and with it the veth pair. Safe to call for one that is gone. */
export async function removePodNetwork(config: NodeConfig, netns: string): Promise<void> {
  await tryCommand(['ip', 'link', 'del', vethName(config, netns)]);
  await tryCommand(['ip', 'netns', 'del', netns]);
  unmarkNetns(config.stateDir, netns);
}
