// How Node is started for the two programs. The holder passes the proxy's on; tests and benchmarks start proxies with them.

/**
 * The young generation of a proxy's control thread that is idle would keep what its start needed. And the old one may be up to
 * four times what is alive before V8 collects it: connects that wait for seconds get there, thousands in a scan. Half as much
 * again costs no more CPU for a new connection, measured.
 */
export const PROXY_NODE_FLAGS: readonly string[] = [
  '--max-semi-space-size=2',
  '--heap-growing-percent=50',
];
