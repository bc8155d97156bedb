// The control plane's configuration, from the environment variables of controlplane/settings.ts.
import type { Env } from '../common/env.ts';
import { EnvReader } from '../common/env.ts';
import { readSettings } from '../common/settings.ts';
import type { MeshSettings } from '../common/compile/types.ts';
import { SETTINGS } from './settings.ts';

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
  /** Name of the ConfigMap with revocation lists for waypoints; empty: none. */
  readonly waypointCrlConfigMap: string;
  /** Quiet time before a burst of changes is compiled, and the longest a change may wait. */
  readonly debounceMs: number;
  readonly debounceMaxMs: number;
  readonly logLevel: string;
}

/** Reads the settings; throws one error that names every bad variable. */
export function readConfig(env: Env): Config {
  const reader = new EnvReader(env);
  const values = readSettings(SETTINGS, reader);
  reader.finish();
  const rootNamespace = values.POD_NAMESPACE;
  const config: Config = {
    mesh: {
      trustDomain: values.TRUST_DOMAIN,
      trustDomainAliases: values.TRUST_DOMAIN_ALIASES,
      domain: values.DOMAIN_SUFFIX,
      clusterId: values.CLUSTER_ID,
      network: values.NETWORK,
      rootNamespace,
    },
    kubeconfig: values.KUBECONFIG,
    serviceHost: values.KUBERNETES_SERVICE_HOST,
    servicePort: values.KUBERNETES_SERVICE_PORT,
    listenHost: values.LISTEN_HOST,
    tlsPort: values.XDS_TLS_PORT,
    plainPort: values.XDS_PLAIN_PORT === 0 ? undefined : values.XDS_PLAIN_PORT,
    httpPort: values.HTTP_PORT,
    nodeAccounts: values.CA_TRUSTED_NODE_ACCOUNTS ?? [`${rootNamespace}/ztunnel`],
    waypointImage: values.WAYPOINT_IMAGE,
    imagePullPolicy: values.WAYPOINT_IMAGE_PULL_POLICY,
    waypointCrlConfigMap: values.WAYPOINT_CRL_CONFIG_MAP,
    debounceMs: values.DEBOUNCE_AFTER,
    debounceMaxMs: values.DEBOUNCE_MAX,
    logLevel: values.LOG_LEVEL,
  };
  return Object.freeze(config);
}
