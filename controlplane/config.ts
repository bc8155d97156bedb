// Settings of the control plane, from environment variables with Istio's names where Istio has one. Inside a pod
// none is needed. Outside (tests, a real API server): KUBECONFIG, and LISTEN_HOST if not every address.
import type { Env } from '../common/env.ts';
import { EnvReader } from '../common/env.ts';
import type { MeshSettings } from '../common/compile/types.ts';

export interface Config {
  readonly mesh: MeshSettings;
  readonly kubeconfig: string | undefined;
  readonly serviceHost: string | undefined;
  readonly servicePort: string | undefined;
  /** Address the TLS and HTTP ports listen on. */
  readonly listenHost: string;
  /** xDS and CA over TLS. */
  readonly tlsPort: number;
  /** xDS and CA in plaintext, on loopback only; undefined (the default): not opened. */
  readonly plainPort: number | undefined;
  /** Readiness, metrics, debug pages, dashboard. */
  readonly httpPort: number;
  /** `namespace/serviceAccount` of node proxies, which may ask on behalf of pods on their node. */
  readonly nodeAccounts: readonly string[];
  readonly waypointImage: string;
  readonly imagePullPolicy: string;
  /** Quiet time before a burst of changes is compiled, and the longest a change may wait. */
  readonly debounceMs: number;
  readonly debounceMaxMs: number;
  readonly logLevel: string;
}

/** Reads the settings; throws one error that names every bad variable. */
export function readConfig(env: Env): Config {
  const reader = new EnvReader(env);
  const rootNamespace = reader.string('POD_NAMESPACE', 'istio-system');
  const plainPort = reader.integer('XDS_PLAIN_PORT', 0, 0, 65_535);
  const config: Config = {
    mesh: {
      trustDomain: reader.string('TRUST_DOMAIN', 'cluster.local'),
      domain: reader.string('DOMAIN_SUFFIX', 'cluster.local'),
      clusterId: reader.string('CLUSTER_ID', 'Kubernetes'),
      network: reader.string('NETWORK', ''),
      rootNamespace,
    },
    kubeconfig: reader.optional('KUBECONFIG'),
    serviceHost: reader.optional('KUBERNETES_SERVICE_HOST'),
    servicePort: reader.optional('KUBERNETES_SERVICE_PORT'),
    listenHost: reader.string('LISTEN_HOST', '::'),
    tlsPort: reader.integer('XDS_TLS_PORT', 15_012, 0, 65_535),
    plainPort: plainPort === 0 ? undefined : plainPort,
    httpPort: reader.integer('HTTP_PORT', 15_014, 0, 65_535),
    nodeAccounts: reader
      .string('CA_TRUSTED_NODE_ACCOUNTS', `${rootNamespace}/ztunnel`)
      .split(',')
      .map((account) => account.trim())
      .filter((account) => account !== ''),
    waypointImage: reader.string('WAYPOINT_IMAGE', 'ambient-mesh/waypoint:latest'),
    imagePullPolicy: reader.string('WAYPOINT_IMAGE_PULL_POLICY', 'IfNotPresent'),
    // Istio waits 100 ms, at most 10 s; a change that waits longer than a second looks broken.
    debounceMs: reader.durationMs('DEBOUNCE_AFTER', 100),
    debounceMaxMs: reader.durationMs('DEBOUNCE_MAX', 1000),
    logLevel: reader.string('LOG_LEVEL', 'info'),
  };
  reader.finish();
  return Object.freeze(config);
}
