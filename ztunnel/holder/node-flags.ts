// How Node is started for the two programs. The holder passes the proxy's on; tests and benchmarks start proxies with them.

/** The young generation of a proxy's control thread that is idle would keep what its start needed. */
export const PROXY_NODE_FLAGS: readonly string[] = ['--max-semi-space-size=2'];
