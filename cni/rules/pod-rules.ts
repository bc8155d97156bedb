// In-pod redirection as nftables text (Istio's tables, marks and semantics). Pure: options in, ruleset out; each
// table is flushed and filled again in the one transaction of `nft -f -`.
// One addition to Istio's rules: only bare SYNs are redirected. A connection older than the rules has no
// conntrack entry, so its next packet would count as new and be torn off its peer.
import {
  DNS_PORT,
  HOST_PROBE_IPV4,
  HOST_PROBE_IPV6,
  INBOUND_HBONE_PORT,
  INBOUND_PLAINTEXT_PORT,
  MANGLE_TABLE,
  MARK_MASK,
  NAT_TABLE,
  OUTBOUND_PORT,
  PROXY_CONNMARK,
  PROXY_MARK,
  RAW_TABLE,
  ROUTE_TABLE,
  RULE_PRIORITY,
} from './marks.ts';

export interface PodRulesOptions {
  readonly ipv6: boolean;
  readonly dnsCapture: boolean;
  /** Inbound traffic is not captured (annotation ambient.istio.io/bypass-inbound-capture). */
  readonly bypassInbound: boolean;
  /** Interfaces whose traffic is the outbound traffic of virtual machines in the pod. */
  readonly virtualInterfaces: readonly string[];
  readonly probeIpv4: string;
  readonly probeIpv6: string;
}

export const DEFAULT_POD_RULES: PodRulesOptions = {
  ipv6: true,
  dnsCapture: false,
  bypassInbound: false,
  virtualInterfaces: [],
  probeIpv4: HOST_PROBE_IPV4,
  probeIpv6: HOST_PROBE_IPV6,
};

const DNS_ANNOTATION = 'ambient.istio.io/dns-capture';

/** Whether a pod's DNS is redirected: as it says itself (`true`, `false`), else as the node agent is told. */
export function capturesDns(
  annotations: Readonly<Record<string, string>>,
  fallback: boolean,
): boolean {
  const own = annotations[DNS_ANNOTATION]?.toLowerCase();
  return own === 'true' || own === 'false' ? own === 'true' : fallback;
}

interface Family {
  readonly keyword: 'ip' | 'ip6';
  readonly loopback: string;
  readonly probe: string;
}

const IS_PROXY = `meta mark & ${MARK_MASK} == ${PROXY_MARK}`;
const NOT_PROXY = `meta mark & ${MARK_MASK} != ${PROXY_MARK}`;
const BARE_SYN = 'tcp flags & (fin | syn | rst | ack) == syn';

function families(options: PodRulesOptions): Family[] {
  const v4: Family = { keyword: 'ip', loopback: '127.0.0.1', probe: options.probeIpv4 };
  const v6: Family = { keyword: 'ip6', loopback: '::1', probe: options.probeIpv6 };
  return options.ipv6 ? [v4, v6] : [v4];
}

function table(name: string, chains: readonly string[]): string {
  const body = chains.join('\n');
  return `add table inet ${name}\nflush table inet ${name}\ntable inet ${name} {\n${body}\n}\n`;
}

function chain(name: string, lines: readonly string[]): string {
  return [`  chain ${name} {`, ...lines.map((line) => `    ${line}`), '  }'].join('\n');
}

function base(name: string, type: string, priority: number, target: string): string {
  return chain(name, [
    `type ${type} hook ${name} priority ${priority}; policy accept;`,
    `jump ${target}`,
  ]);
}

function natPrerouting(options: PodRulesOptions): string[] {
  const lines: string[] = [];
  for (const name of options.virtualInterfaces) {
    const from = `iifname "${name}" meta l4proto tcp`;
    lines.push(`${from} counter redirect to :${OUTBOUND_PORT}`, `${from} counter return`);
  }
  if (options.bypassInbound) return lines;
  for (const { keyword, probe } of families(options)) {
    lines.push(`${keyword} saddr ${probe} meta l4proto tcp counter accept`);
  }
  for (const { keyword, loopback } of families(options)) {
    lines.push(
      `${keyword} daddr != ${loopback} tcp dport != ${INBOUND_HBONE_PORT} ${NOT_PROXY} ${BARE_SYN} counter redirect to :${INBOUND_PLAINTEXT_PORT}`,
    );
  }
  return lines;
}

function natOutput(options: PodRulesOptions): string[] {
  const all = families(options);
  const lines = all.map(
    ({ keyword, probe }) => `${keyword} daddr ${probe} meta l4proto tcp counter accept`,
  );
  if (options.dnsCapture) {
    lines.push(`oifname != "lo" ${NOT_PROXY} udp dport 53 counter redirect to :${DNS_PORT}`);
    for (const { keyword, loopback } of all) {
      lines.push(
        `${keyword} daddr != ${loopback} tcp dport 53 ${NOT_PROXY} counter redirect to :${DNS_PORT}`,
      );
    }
  }
  lines.push(`meta l4proto tcp meta mark & ${MARK_MASK} == ${PROXY_CONNMARK} counter accept`);
  for (const { keyword, loopback } of all) {
    lines.push(`${keyword} daddr != ${loopback} oifname "lo" counter accept`);
  }
  for (const { keyword, loopback } of all) {
    lines.push(
      `${keyword} daddr != ${loopback} ${NOT_PROXY} ${BARE_SYN} counter redirect to :${OUTBOUND_PORT}`,
    );
  }
  return lines;
}

function natTable(prerouting: readonly string[], output: readonly string[]): string {
  return table(NAT_TABLE, [
    chain('istio-prerouting', prerouting),
    chain('istio-output', output),
    base('prerouting', 'nat', -100, 'istio-prerouting'),
    base('output', 'nat', -100, 'istio-output'),
  ]);
}

function mangleTable(): string {
  return table(MANGLE_TABLE, [
    chain('istio-prerouting', [
      `${IS_PROXY} counter ct mark set ct mark & 0xfffff000 | ${PROXY_CONNMARK}`,
    ]),
    chain('istio-output', [
      `ct mark & ${MARK_MASK} == ${PROXY_CONNMARK} counter meta mark set ct mark`,
    ]),
    base('prerouting', 'filter', -150, 'istio-prerouting'),
    base('output', 'route', -150, 'istio-output'),
  ]);
}

/** The ruleset of an enrolled pod. */
export function buildPodRules(options: PodRulesOptions): string {
  const raw = options.dnsCapture
    ? table(RAW_TABLE, [
        chain('istio-prerouting', [`${NOT_PROXY} udp sport 53 counter ct zone set 1`]),
        chain('istio-output', [`${IS_PROXY} udp dport 53 counter ct zone set 1`]),
        base('prerouting', 'filter', -300, 'istio-prerouting'),
        base('output', 'filter', -300, 'istio-output'),
      ])
    : '';
  return natTable(natPrerouting(options), natOutput(options)) + mangleTable() + raw;
}

/**
 * The ruleset of a pod that leaves: nothing new is redirected. The empty nat chains and the marks keep the
 * translation of connections that were redirected; without the chains the kernel would reset them.
 */
export function buildLeavingRules(): string {
  return natTable([], []) + mangleTable();
}

/** Removes all tables; succeeds when there are none. */
export function buildRemovalRules(): string {
  return [NAT_TABLE, MANGLE_TABLE, RAW_TABLE]
    .map((name) => `add table inet ${name}\ndelete table inet ${name}\n`)
    .join('');
}

/** `ip -batch` lines that bring replies to spoofed sources back to the proxy's sockets. */
export function policyRouting(action: 'add' | 'del'): { v4: string[]; v6: string[] } {
  const rule = `rule ${action} fwmark ${PROXY_CONNMARK}/${MARK_MASK} lookup ${ROUTE_TABLE} pref ${RULE_PRIORITY}`;
  const verb = action === 'add' ? 'replace' : 'del';
  const route = (range: string): string =>
    `route ${verb} local ${range} dev lo table ${ROUTE_TABLE}`;
  return { v4: [rule, route('0.0.0.0/0')], v6: [rule, route('::/0')] };
}
