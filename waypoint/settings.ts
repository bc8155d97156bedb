// The waypoint's environment variables, with Istio's names where Istio has one. docs/config.md is generated from here.
import {
  choice,
  duration,
  flag,
  list,
  optionalText,
  port,
  text,
  textOrEmpty,
  whole,
} from '../common/settings.ts';

const ROOT_DEFAULT = '/var/run/secrets/istio/root-cert.pem';
const ISTIOD = 'https://istiod.istio-system.svc:15012';

/** Everything the waypoint reads. */
export const SETTINGS = {
  GATEWAY_NAME: text('name of the Gateway this is the proxy of'),
  POD_NAME: text('name of this pod', 'waypoint'),
  POD_NAMESPACE: text('namespace of this pod, part of its identity', 'default'),
  SERVICE_ACCOUNT: text('service account of this pod, part of its identity', 'waypoint'),
  TRUST_DOMAIN: text('trust domain of this mesh; callers of another are refused', 'cluster.local'),
  TRUST_DOMAIN_ALIASES: list('other names of that trust domain, callers and endpoints', ''),
  INSTANCE_IP: text('address of this pod, for the control plane', '1.1.1.1'),
  NODE_NAME: text('node of this pod, for the balance by locality'),
  ISTIO_META_CLUSTER_ID: text('cluster of this pod', 'Kubernetes'),
  NETWORK: text('network of this pod'),
  XDS_ADDRESS: textOrEmpty('control plane; empty: none, the two local files only', ISTIOD),
  XDS_ROOT_CA: text('root certificate (PEM file) of the control plane', ROOT_DEFAULT),
  ALT_XDS_HOSTNAME: optionalText('second name accepted in the control plane’s certificate'),
  CA_ADDRESS: textOrEmpty('certificate authority; empty only with FAKE_CA', ISTIOD),
  CA_ROOT_CA: text('root certificate (PEM file) of the certificate authority', ROOT_DEFAULT),
  ALT_CA_HOSTNAME: optionalText('second name accepted in the authority’s certificate'),
  AUTH_TOKEN: optionalText(
    'file of the token shown to control plane and authority',
    '/var/run/secrets/tokens/istio-token, if it exists',
  ),
  CRL_PATH: text('file with certificate revocation lists (PEM, or one DER); empty: not checked'),
  SECRET_TTL: duration('life asked for certificates', '24h'),
  FAKE_CA: flag('tests: sign the certificate in this process with FAKE_CA_ROOT', false),
  FAKE_CA_ROOT: optionalText('tests: PEM file with the certificate and key of FAKE_CA'),
  LOCAL_XDS_PATH: optionalText('tests: YAML file of workloads and services'),
  LOCAL_L7_PATH: optionalText('tests: YAML file of routes, clusters and policies'),
  LISTEN_ADDRESS: text('address of all listeners but the admin port’s', '::'),
  HBONE_PORT: port('tunnels from the mesh', 15_008),
  ADMIN_PORT: port('admin endpoints, on loopback', 15_000),
  STATS_PORT: port('metrics', 15_020),
  READINESS_PORT: port('readiness', 15_021),
  PROTOCOL_DETECT_TIMEOUT: duration(
    'how long a port without a declared protocol waits for the client’s first bytes',
    '500ms',
  ),
  REQUEST_HEADERS_TIMEOUT: duration('how long a request’s headers may take', '10s'),
  // Longer than what servers and clients use, so that it is not us who close first.
  IDLE_TIMEOUT: duration('how long a connection may be silent', '1h'),
  MAX_REQUEST_HEADERS_KB: whole('largest headers of a request', 60, {
    min: 1,
    max: 96,
    unit: 'KiB',
  }),
  MAX_REQUEST_HEADERS: whole('most headers of a request', 100, { min: 1, max: 1000 }),
  // Readiness fails, and the control plane tells the node proxies: until then they choose this waypoint.
  DRAIN_DELAY: duration('after SIGTERM, how long new tunnels are still taken', '5s'),
  DRAIN_DURATION: duration('after that, how long requests and connections may go on', '20s'),
  ACCESS_LOG: choice('a line for each request', ['off', 'text', 'json'], 'json'),
  LOG_LEVEL: text('log level, or levels by scope: info,xds=debug', 'info'),
};
