// The node proxy's environment variables: first those of Istio's ztunnel with its names and defaults (a
// variable this program lacks says whether it is ignored or refused), then our own. docs/config.md is
// generated from here.
import {
  choice,
  duration,
  flag,
  ignored,
  optionalDuration,
  optionalFlag,
  optionalText,
  optionalWhole,
  port,
  prefixed,
  refused,
  text,
  textOrEmpty,
  whole,
} from '../common/settings.ts';
import { DEFAULT_MESH_CONFIG_FILE } from './mesh-config.ts';

const ISTIOD_DEFAULT =
  'istiod.istio-system.svc:15012; without KUBERNETES_SERVICE_HOST localhost:15012';
const ROOT_DEFAULT = '/var/run/secrets/istio/root-cert.pem';
const WINDOW = { min: 65_535, max: 0x7fffffff, unit: 'bytes' };

/** The variables Istio's ztunnel reads. */
export const ISTIO_SETTINGS = {
  ENABLE_PROXY: refused('the proxy is all this program is', ['true']),
  PROXY_MODE: choice(
    'shared: one proxy for a node, its pods told by the CNI agent; dedicated: a proxy for the one pod it runs in',
    ['shared', 'dedicated'],
    'shared',
  ),
  PROXY_WORKLOAD_INFO: optionalText(
    'namespace/name/service-account of the pod; required in dedicated mode, without effect in the shared one',
  ),
  NODE_NAME: text('name of this node; without it every workload counts as local'),
  NETWORK: text('network of this node'),
  CLUSTER_ID: text('cluster of this node; ISTIO_META_CLUSTER_ID wins over it', 'Kubernetes'),
  CLUSTER_DOMAIN: text('domain of the cluster’s services', 'cluster.local'),
  TRUST_DOMAIN: text('trust domain of this proxy’s own identity', 'cluster.local'),
  POD_NAME: text(
    'name of this pod, for the control plane; with POD_NAMESPACE and SERVICE_ACCOUNT tunnels are taken for it on 15008',
  ),
  POD_NAMESPACE: text('namespace of this pod, for the control plane'),
  SERVICE_ACCOUNT: text('service account of this pod, for the control plane'),
  INSTANCE_IP: text(
    'address of this pod, or one of each family with a comma between, for the control plane',
    '1.1.1.1',
  ),
  KUBERNETES_SERVICE_HOST: optionalText('set in a pod: changes the default control plane'),
  XDS_ADDRESS: textOrEmpty('control plane; empty: none, LOCAL_XDS_PATH only', ISTIOD_DEFAULT),
  XDS_ROOT_CA: text('root certificate (PEM file) of the control plane', ROOT_DEFAULT),
  ALT_XDS_HOSTNAME: optionalText('second name accepted in the control plane’s certificate'),
  XDS_ON_DEMAND: flag(
    'ask the control plane for an address when a connection needs it, instead of having all; not with the DNS proxy',
    false,
  ),
  'XDS_HEADER_*': prefixed('header sent with the xDS stream, named by the rest of the variable'),
  CA_ADDRESS: textOrEmpty('certificate authority; empty only with FAKE_CA', ISTIOD_DEFAULT),
  CA_ROOT_CA: text('root certificate (PEM file) of the certificate authority', ROOT_DEFAULT),
  ALT_CA_HOSTNAME: optionalText('second name accepted in the authority’s certificate'),
  'CA_HEADER_*': prefixed('header sent to the authority, named by the rest of the variable'),
  AUTH_TOKEN: optionalText(
    'file of the token shown to control plane and authority',
    '/var/run/secrets/tokens/istio-token, if it exists',
  ),
  SECRET_TTL: duration('life asked for certificates', '24h'),
  FAKE_CA: flag('tests: sign certificates in this process with FAKE_CA_ROOT', false),
  LOCAL_XDS_PATH: optionalText(
    'YAML file of workloads, services and policies; followed when it changes',
  ),
  LOCAL_XDS: optionalText('the same as YAML text; not both'),
  PREFERED_SERVICE_NAMESPACE: optionalText(
    'of several services with the name a pod asked for, in other namespaces: the one in this namespace',
  ),
  INPOD_UDS: text('socket of the CNI agent', '/var/run/ztunnel/ztunnel.sock'),
  INPOD_PORT_REUSE: flag('SO_REUSEPORT on the pods’ listeners', true),
  PACKET_MARK: optionalWhole('mark of this proxy’s own packets', '1337; in dedicated mode none', {
    min: 1,
    max: 0xffffffff,
  }),
  ENABLE_ORIG_SRC: optionalFlag(
    'connect to applications from the address of their client; true: or do not start',
    'true, if the process may',
  ),
  LOCALHOST_APP_TUNNEL: flag('connect to PROXY application tunnels on loopback', true),
  ENABLE_RESPONSE_BAGGAGE: flag(
    'baggage on 200 says which workload answered; off: none is read either',
    true,
  ),
  IPV6_ENABLED: flag('false: listen on IPv4 only', true),
  UNSTABLE_ENABLE_SOCKS5: flag('SOCKS5 on 127.0.0.1:15080 in every pod', false),
  KEEPALIVE_ENABLED: flag('TCP keepalive on every connection', true),
  KEEPALIVE_TIME: duration('silence before the first keepalive probe', '180s'),
  KEEPALIVE_INTERVAL: duration('between keepalive probes', '180s'),
  KEEPALIVE_RETRIES: whole('lost probes that end a connection', 9, { min: 1, max: 127 }),
  USER_TIMEOUT_ENABLED: flag(
    'give up a peer that leaves data unacknowledged for as long as keepalive takes to notice a silent one',
    false,
  ),
  HTTP2_STREAM_WINDOW_SIZE: whole('unread bytes of one tunnelled connection', 4 << 20, WINDOW),
  HTTP2_CONNECTION_WINDOW_SIZE: whole(
    'unread bytes of one tunnel; four times the stream’s, so that one unread stream cannot starve the others',
    16 << 20,
    WINDOW,
  ),
  HTTP2_FRAME_SIZE: whole('largest HTTP/2 frame accepted', 1 << 20, {
    min: 16_384,
    max: 0xffffff,
    unit: 'bytes',
  }),
  POOL_MAX_STREAMS_PER_CONNECTION: whole('connections in one tunnel', 100, { min: 1, max: 65_535 }),
  POOL_UNUSED_RELEASE_TIMEOUT: duration('how long an idle tunnel is kept', '5m'),
  CONNECTION_TERMINATION_DEADLINE: optionalDuration(
    'how long connections may go on after SIGTERM',
    '5s, or from TERMINATION_GRACE_PERIOD_SECONDS',
  ),
  TERMINATION_GRACE_PERIOD_SECONDS: whole(
    'the pod’s grace period: the deadline is 5 s less (1 s less when 10 or under)',
    0,
    { max: 86_400, unit: 'seconds' },
  ),
  ZTUNNEL_WORKER_THREADS: optionalText(
    'data threads: a number, 0 for one a core, or N% of the cores',
    '1 below four cores, else half of them, at most 8',
  ),
  ZTUNNEL_RESOURCE_CPU_LIMIT: optionalText(
    'cores this proxy may use (2, 1.5, 500m)',
    'ZTUNNEL_CPU_LIMIT',
  ),
  ZTUNNEL_RESOURCE_CPU_REQUEST: optionalText(
    'cores reserved for it: without ZTUNNEL_WORKER_THREADS at least as many data threads',
  ),
  ZTUNNEL_CPU_LIMIT: optionalText('cores of the node', 'what the kernel says'),
  CRL_PATH: text('file with certificate revocation lists (PEM, or one DER); empty: not checked'),
  TLS12_ENABLED: refused('TLS 1.3 only', ['false']),
  COMPLIANCE_POLICY: optionalText(
    'exactly pqc: X25519MLKEM768 is the only key exchange; any other text has no effect',
  ),
  AUTHZ_POLICY_INFO_LOGGING: ignored('refusals are always in the access log', ['false']),
  RUST_LOG: text('log level, or levels by scope: info,xds=debug', 'info'),
  LOG_FORMAT: choice(
    'the log: text as ztunnel writes it, or an object a line',
    ['plain', 'json'],
    'plain',
  ),
  ISTIO_META_DNS_CAPTURE: text('anything but true: no DNS proxy', 'true'),
  ISTIO_META_DNS_PROXY_ADDR: text(
    'where the DNS proxy listens in each pod; localhost: both loopback addresses',
    'localhost:15053',
  ),
  ISTIO_META_ISTIO_VERSION: text('version shown in metrics', 'unknown'),
  ISTIO_META_CLUSTER_ID: optionalText('cluster of this node', 'CLUSTER_ID'),
  'ISTIO_META_*': prefixed('metadata for the control plane, named by the rest of the variable'),
  'ISTIO_METAJSON_*': prefixed('metadata as a JSON value; one that is no JSON is left out'),
  PROXY_CONFIG: optionalText(
    'YAML or JSON; each of its fields, over that of MESH_CONFIG_FILE, stands for a variable that is not set: ' +
      'discoveryAddress for XDS_ADDRESS, proxyAdminPort for ADMIN_PORT, statsPort for STATS_PORT, concurrency for ' +
      'ZTUNNEL_WORKER_THREADS, proxyMetadata for ISTIO_META_*; others are passed over',
  ),
};

/** Variables of ours. */
export const OWN_SETTINGS = {
  MESH_CONFIG_FILE: text(
    'YAML file with the mesh config, of which defaultConfig is read as PROXY_CONFIG is; it may be missing',
    DEFAULT_MESH_CONFIG_FILE,
  ),
  ADMIN_PORT: port('admin endpoints, on loopback', 15_000),
  STATS_PORT: port('metrics', 15_020),
  READINESS_PORT: port('readiness', 15_021),
  HOLDER_FD: whole('set by the holder: descriptor of its socket', 0, { max: 65_535 }),
  HOLDER_DIR: optionalText('set by the holder: directory where proxies leave their counters'),
  LOCAL_FAST_PATH: flag(
    'join pods of this node without a tunnel, where the control plane allows it for both',
    true,
  ),
  L7_SIGHT: choice(
    'which ends report HTTP seen on connections of namespaces that ask for it: as Istio’s reporters',
    ['both', 'source', 'destination', 'off'],
    'both',
  ),
  L7_SIGHT_PERCENT: whole(
    'of these connections, how many are looked at at most, each from its first byte; a namespace may ask for fewer',
    100,
    {
      max: 100,
      unit: 'percent',
    },
  ),
  L7_SIGHT_MAX_CONNECTIONS: whole(
    'connections looked at at once by a data thread; more pass unseen',
    1000,
    { min: 1 },
  ),
  POD_MAX_CONNECTIONS: whole(
    'connections of one pod at once, both directions; more are refused',
    20_000,
    { min: 1 },
  ),
  POD_MAX_CONNECTING: whole(
    'connections of one pod that are being set up at once; more are refused',
    4096,
    { min: 1 },
  ),
  POD_FAIR_CONNECTIONS: whole(
    'new connections a second that a pod may always open; what is more waits while processors are full and other pods have connections; 0: nobody waits',
    500,
    { min: 0 },
  ),
  POD_MAX_HANDSHAKES: whole('TLS handshakes with one pod at once; more are refused', 1000, {
    min: 1,
  }),
  RESOLV_CONF: text(
    'file with the name servers for the DNS proxy and for endpoints known by name',
    '/etc/resolv.conf',
  ),
  FAKE_CA_ROOT: optionalText('tests: PEM file with the certificate and key of FAKE_CA'),
};

/** Everything the node proxy reads. */
export const SETTINGS = { ...ISTIO_SETTINGS, ...OWN_SETTINGS };
