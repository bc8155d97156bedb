// The control plane's environment variables, with Istio's names where Istio has one. Inside a pod none is needed.
// docs/config.md is generated from here.
import { duration, list, optionalList, optionalText, port, text } from '../common/settings.ts';

/** Everything the control plane reads. */
export const SETTINGS = {
  POD_NAMESPACE: text('namespace of the mesh: its policies hold everywhere', 'istio-system'),
  TRUST_DOMAIN: text('trust domain of every identity', 'cluster.local'),
  TRUST_DOMAIN_ALIASES: list(
    'other names of the trust domain: waypoints take peers of these, and principals in policies mean them too',
    '',
  ),
  DOMAIN_SUFFIX: text('domain of the cluster’s DNS', 'cluster.local'),
  CLUSTER_ID: text('name of this cluster', 'Kubernetes'),
  NETWORK: text('network of this cluster’s workloads'),
  KUBECONFIG: optionalText('outside a pod: how to reach the API server'),
  KUBERNETES_SERVICE_HOST: optionalText('in a pod: host of the API server'),
  KUBERNETES_SERVICE_PORT: optionalText('in a pod: port of the API server'),
  LISTEN_HOST: text('address of the TLS and HTTP ports', '::'),
  XDS_TLS_PORT: port('xDS and CA over TLS', 15_012),
  XDS_PLAIN_PORT: port('xDS and CA in plaintext on loopback, for tests; 0: not opened', 0),
  HTTP_PORT: port('readiness, metrics, debug pages, dashboard', 15_014),
  CA_TRUSTED_NODE_ACCOUNTS: optionalList(
    'service accounts of node proxies, which may ask for identities of pods on their node',
    'ztunnel in POD_NAMESPACE',
  ),
  WAYPOINT_IMAGE: text('image of the waypoints it deploys', 'ambient-mesh/waypoint:latest'),
  WAYPOINT_IMAGE_PULL_POLICY: text('pull policy of that image', 'IfNotPresent'),
  WAYPOINT_CRL_CONFIG_MAP: text(
    'ConfigMap beside each waypoint whose key ca-crl.pem holds revocation lists; empty: waypoints check none',
    'istio-ca-crl',
  ),
  DEBOUNCE_AFTER: duration('quiet time before a burst of changes is compiled', '100ms'),
  // Istio waits up to 10 s; a change that waits longer than a second looks broken.
  DEBOUNCE_MAX: duration('longest a change may wait in a burst', '1s'),
  LOG_LEVEL: text('log level, or levels by scope: info,xds=debug', 'info'),
};
