// The node side of probe exemption as nftables text: probes made by the node to enrolled pods get a source
// address that the pods' rules let pass. `fib saddr type local` selects what the node itself sends (never
// forwarded pod traffic), in any netns and without knowing the kubelet's user. Pure.
import { HOST_PROBE_IPV4, HOST_PROBE_IPV6, NAT_TABLE } from './marks.ts';

export interface ProbeTargetIp {
  readonly ip: string;
  /** Kept as the element's comment, so that people see whose address it is. */
  readonly uid: string;
}

export interface HostRulesOptions {
  readonly probeIpv4: string;
  readonly probeIpv6: string;
  readonly ipv6: boolean;
}

export const DEFAULT_HOST_RULES: HostRulesOptions = {
  probeIpv4: HOST_PROBE_IPV4,
  probeIpv6: HOST_PROBE_IPV6,
  ipv6: true,
};

function set(name: string, type: string, targets: readonly ProbeTargetIp[]): string {
  const elements = targets.map(({ ip, uid }) => `${ip} comment "${uid}"`).join(', ');
  const line = elements === '' ? '' : `    elements = { ${elements} }\n`;
  return `  set ${name} {\n    type ${type}\n${line}  }\n`;
}

/** The whole host-side table, replacing the former one in one transaction. */
export function buildHostRules(
  targets: readonly ProbeTargetIp[],
  options: HostRulesOptions = DEFAULT_HOST_RULES,
): string {
  const v4 = targets.filter(({ ip }) => !ip.includes(':'));
  const v6 = targets.filter(({ ip }) => ip.includes(':'));
  const match = 'meta l4proto tcp fib saddr type local';
  const rules = [
    `    ${match} ip daddr @istio-inpod-probes-v4 counter snat ip to ${options.probeIpv4}\n`,
    ...(options.ipv6
      ? [`    ${match} ip6 daddr @istio-inpod-probes-v6 counter snat ip6 to ${options.probeIpv6}\n`]
      : []),
  ];
  return `add table inet ${NAT_TABLE}
delete table inet ${NAT_TABLE}
table inet ${NAT_TABLE} {
${set('istio-inpod-probes-v4', 'ipv4_addr', v4)}${options.ipv6 ? set('istio-inpod-probes-v6', 'ipv6_addr', v6) : ''}  chain istio-postrouting {
${rules.join('')}  }
  chain postrouting {
    type nat hook postrouting priority 100; policy accept;
    jump istio-postrouting
  }
}
`;
}

/** Removes the host-side table. */
export function buildHostRemoval(): string {
  return `add table inet ${NAT_TABLE}\ndelete table inet ${NAT_TABLE}\n`;
}
