// Service addresses as an nftables ruleset for a node's netns: DNAT to a random ready endpoint, as kube-proxy
// does. Pure. The source address is kept; only a pod that reaches itself through a service, and this machine's
// own clients (their replies would bypass the node), are masqueraded. What has no endpoint is refused.
import { isIPv4, isIPv6 } from 'node:net';
import { objectKey, type EndpointSlice, type Service, type ServicePort } from './objects.ts';

export interface ServiceRulesInput {
  readonly family: 'ip' | 'ip6';
  readonly services: readonly Service[];
  readonly slices: readonly EndpointSlice[];
  readonly serviceCidr: string;
  /** An address of the range that is served here. */
  readonly clusterDns?: string;
  readonly nodeAddress: string;
  readonly bridgeAddress: string;
  /** Where the `kubernetes` service leads, whatever its endpoints say. */
  readonly api?: { readonly host: string; readonly port: number };
}

export interface Backend {
  readonly address: string;
  readonly port: number;
}

export const SERVICES_TABLE = 'ambient-services';

function serviceName(slice: EndpointSlice): string {
  const name = slice.metadata.labels?.['kubernetes.io/service-name'] ?? '';
  return `${slice.metadata.namespace ?? ''}/${name}`;
}

/** The ready endpoints of a service's port; serving ones that terminate when there is no ready one. */
export function readyBackends(
  slices: readonly EndpointSlice[],
  port: ServicePort,
  family: 'ip' | 'ip6' = 'ip',
): Backend[] {
  const ready: Backend[] = [];
  const terminating: Backend[] = [];
  for (const slice of slices) {
    if (slice.addressType !== (family === 'ip' ? 'IPv4' : 'IPv6')) continue;
    const target = slice.ports?.find((entry) => (entry.name ?? '') === (port.name ?? ''));
    if (target?.port === undefined) continue;
    for (const { addresses, conditions } of slice.endpoints ?? []) {
      const [address] = addresses;
      if (address === undefined) continue;
      const backend = { address, port: target.port };
      if (conditions?.ready !== false) ready.push(backend);
      else if (conditions.serving === true && conditions.terminating === true) {
        terminating.push(backend);
      }
    }
  }
  return ready.length > 0 ? ready : terminating;
}

interface Frontend {
  readonly key: string;
  readonly chain: string;
  readonly protocol: string;
  readonly backends: readonly Backend[];
}

function frontends(input: ServiceRulesInput): Frontend[] {
  const byService = new Map<string, EndpointSlice[]>();
  for (const slice of input.slices) {
    const name = serviceName(slice);
    byService.set(name, [...(byService.get(name) ?? []), slice]);
  }
  const found: Frontend[] = [];
  for (const service of input.services) {
    const { clusterIP: main = '', clusterIPs = [main], ports = [] } = service.spec;
    const clusterIP = clusterIPs.find(input.family === 'ip' ? isIPv4 : isIPv6);
    if (clusterIP === undefined) continue;
    const key = objectKey(service);
    for (const port of ports) {
      const protocol = (port.protocol ?? 'TCP').toLowerCase();
      if (protocol !== 'tcp' && protocol !== 'udp') continue;
      const backends =
        key === 'default/kubernetes' && input.api !== undefined
          ? [{ address: input.api.host, port: input.api.port }]
          : readyBackends(byService.get(key) ?? [], port, input.family);
      if (backends.length === 0) continue;
      const chain = `svc-${clusterIP.replaceAll(/[.:]/g, '-')}-${protocol}-${port.port}`;
      found.push({ key: `${clusterIP} . ${protocol} . ${port.port}`, chain, protocol, backends });
      if (port.nodePort !== undefined) {
        const nodeKey = `${input.nodeAddress} . ${protocol} . ${port.nodePort}`;
        found.push({ key: nodeKey, chain: `${chain}-node`, protocol, backends });
      }
    }
  }
  return found;
}

function chainOf({ chain, protocol, backends }: Frontend, family: 'ip' | 'ip6'): string {
  const targets = backends.map(({ address, port }, index) => `${index} : ${address} . ${port}`);
  const pick = `numgen random mod ${backends.length} map { ${targets.join(', ')} }`;
  return `  chain ${chain} {\n    meta l4proto ${protocol} dnat ${family} addr . port to ${pick}\n  }`;
}

/** The whole ruleset, replacing the former one in one transaction. */
export function buildServiceRules(input: ServiceRulesInput): string {
  const { family: ip } = input;
  const all = frontends(input);
  const dispatch = all.map(({ key, chain }) => `${key} : goto ${chain}`);
  const addresses = [...new Set(all.flatMap(({ backends }) => backends.map((b) => b.address)))];
  const hairpins = addresses.map((address) => `${address} . ${address}`);
  const vmap =
    dispatch.length === 0
      ? ''
      : `    ${ip} daddr . meta l4proto . th dport vmap { ${dispatch.join(', ')} }\n`;
  const hairpin =
    hairpins.length === 0
      ? ''
      : `    ${ip} saddr . ${ip} daddr { ${hairpins.join(', ')} } ct status dnat masquerade\n`;
  const dns = input.clusterDns === undefined ? '' : ` ${ip} daddr != ${input.clusterDns}`;
  const refuse = `    ${ip} daddr ${input.serviceCidr}${dns} reject\n`;
  return `table ${ip} ${SERVICES_TABLE} {}
delete table ${ip} ${SERVICES_TABLE}
table ${ip} ${SERVICES_TABLE} {
${all.map((each) => chainOf(each, ip)).join('\n')}
  chain services {
${vmap}  }
  chain prerouting {
    type nat hook prerouting priority -100;
    jump services
  }
  chain output {
    type nat hook output priority -100;
    jump services
  }
  chain postrouting {
    type nat hook postrouting priority 100;
${hairpin}    ${ip} saddr ${input.bridgeAddress} ct status dnat masquerade
  }
  chain refuse-forward {
    type filter hook forward priority 0;
${refuse}  }
  chain refuse-output {
    type filter hook output priority 0;
${refuse}  }
}
`;
}
