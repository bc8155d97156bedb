// Ports, marks and addresses of in-pod redirection; the same numbers as Istio's, so that either side can be
// replaced by Istio's own.

export const OUTBOUND_PORT = 15001;
export const INBOUND_PLAINTEXT_PORT = 15006;
export const INBOUND_HBONE_PORT = 15008;
export const DNS_PORT = 15053;

/** Set on packets the node proxy sends from the pod's netns. */
export const PROXY_MARK = '0x539';
/** Set on connections that carry {@link PROXY_MARK} packets, and restored on their replies. */
export const PROXY_CONNMARK = '0x111';
export const MARK_MASK = '0xfff';
export const ROUTE_TABLE = 100;
export const RULE_PRIORITY = 32764;

export const HOST_PROBE_IPV4 = '169.254.7.127';
export const HOST_PROBE_IPV6 = 'fd16:9254:7127:1337:ffff:ffff:ffff:ffff';

export const NAT_TABLE = 'istio-ambient-nat';
export const MANGLE_TABLE = 'istio-ambient-mangle';
export const RAW_TABLE = 'istio-ambient-raw';
