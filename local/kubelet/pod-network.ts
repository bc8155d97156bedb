// The built-in first step of the CNI chain: a netns for the pod, a veth pair into the node's netns, an address
// of the node's pod range, point-to-point routes. Runs in the node's netns. Returns a CNI 1.0.0 result.
import { createHash } from 'node:crypto';
import { MeshError } from '../../common/errors.ts';
import { podIpv6, type NodeIpv6 } from '../ipv6.ts';
import { markNetns, unmarkNetns } from './cleanup.ts';
import type { NodeConfig } from './config.ts';
import { setSysctls } from './node-network.ts';
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

/** Makes the pod's netns and joins it to the node. A leftover of the same name is replaced. */
export async function addPodNetwork(
  config: NodeConfig,
  netns: string,
  address: string,
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
    `addr add ${config.gateway}/32 dev ${veth}`,
    `link set ${veth} up`,
    `route replace ${address}/32 dev ${veth} src ${config.gateway}`,
  ]);
  await ipBatch(
    [
      'link set lo up',
      `addr add ${address}/32 dev eth0`,
      'link set eth0 up',
      `route add ${config.gateway}/32 dev eth0 scope link`,
      `route add default via ${config.gateway} dev eth0`,
    ],
    netns,
  );
  const ipv6 = config.ipv6 && (await addIpv6(config.ipv6, { netns, veth, address }));
  return {
    cniVersion: '1.0.0',
    interfaces: [{ name: veth }, { name: 'eth0', sandbox: `/var/run/netns/${netns}` }],
    ips: [
      { address: `${address}/32`, gateway: config.gateway, interface: 1 },
      ...(ipv6 === undefined ? [] : [{ ...ipv6, interface: 1 }]),
    ],
    routes: [{ dst: '0.0.0.0/0' }, ...(ipv6 === undefined ? [] : [{ dst: '::/0' }])],
    dns: {},
  };
}

/** Gives the pod the IPv6 address beside its IPv4 address. */
async function addIpv6(
  ipv6: NodeIpv6,
  { netns, veth, address }: { netns: string; veth: string; address: string },
): Promise<{ readonly address: string; readonly gateway: string }> {
  const own = `${podIpv6(ipv6, address)}/128`;
  await ipBatch([
    `addr add ${ipv6.gateway}/128 dev ${veth} nodad`,
    `route replace ${own} dev ${veth}`,
  ]);
  await ipBatch(
    [
      `addr add ${own} dev eth0 nodad`,
      `route add ${ipv6.gateway}/128 dev eth0`,
      `route add default via ${ipv6.gateway} dev eth0`,
    ],
    netns,
  );
  return { address: own, gateway: ipv6.gateway };
}

/** Removes the netns and with it the veth pair. Safe to call for one that is gone. */
export async function removePodNetwork(config: NodeConfig, netns: string): Promise<void> {
  await tryCommand(['ip', 'link', 'del', vethName(config, netns)]);
  await tryCommand(['ip', 'netns', 'del', netns]);
  unmarkNetns(config.stateDir, netns);
}
