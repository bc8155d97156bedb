// The node proxy's configuration, from the environment variables of ztunnel/settings.ts. Variables that are not in
// that table are ignored, as Istio's ztunnel does.
//
// Tests and benchmarks: LOCAL_XDS_PATH loads workloads from a file (with XDS_ADDRESS empty: only from it), and
// FAKE_CA=true with FAKE_CA_ROOT (a PEM file with certificate and key) signs certificates in the process.
import { existsSync } from 'node:fs';
import { availableParallelism } from 'node:os';
import type { JsonObject, JsonValue } from '@bufbuild/protobuf';
import { EnvReader } from '../common/env.ts';
import type { Env } from '../common/env.ts';
import { errorMessage } from '../common/errors.ts';
import { parseAddress, type ControlPlaneAddress } from '../common/grpc/channel.ts';
import { formatSpiffeId } from '../common/identity/spiffe.ts';
import { readSettings, type SettingValues } from '../common/settings.ts';
import { parseLevels } from '../common/telemetry/log-levels.ts';
import type { LogFormat } from '../common/telemetry/logger.ts';
import type { PodInfo } from '../common/zds/codec.ts';
import { normalizeIp, splitHostPort } from '../common/workload/ip.ts';
import { withMeshConfig } from './mesh-config.ts';
import { SETTINGS } from './settings.ts';
import { dataThreadCount } from './thread-count.ts';

/** Everything that is fixed at start. */
export interface Config {
  readonly nodeName: string;
  readonly network: string;
  readonly clusterId: string;
  readonly podName: string;
  readonly podNamespace: string;
  readonly serviceAccount: string;
  /** Of this pod, one of each family; the first is the main one. */
  readonly instanceIps: readonly string[];
  /** Of the cluster's services. */
  readonly clusterDomain: string;
  /** The pod this process runs in, for which it takes tunnels; undefined: it does not. */
  readonly ownPod: OwnPod | undefined;
  /** Undefined: xDS is off. */
  readonly xds: ControlPlaneAddress | undefined;
  /** Undefined with `fakeCaRoot` set. */
  readonly ca: ControlPlaneAddress | undefined;
  readonly fakeCaRoot: string | undefined;
  /** Addresses are asked for when they are needed. */
  readonly isOnDemand: boolean;
  readonly localXdsPath: string | undefined;
  /** File with revocation lists; undefined: not checked. */
  readonly crlPath: string | undefined;
  /** YAML text, where there is no file. */
  readonly localXds: string | undefined;
  readonly secretTtlSec: number;
  /** The only pod, in whose network namespace this process runs; undefined: pods come by ZDS. */
  readonly dedicatedPod: PodInfo | undefined;
  readonly zdsPath: string;
  /** Descriptor of the holder's socket; set by the holder for the proxies it starts. */
  readonly holderFd: number | undefined;
  /** Where proxies of one holder leave their counters to one another. */
  readonly holderDir: string | undefined;
  /** Undefined: packets carry none. */
  readonly packetMark: number | undefined;
  readonly isPortReuse: boolean;
  readonly isSourcePreserved: boolean;
  /** The source must be preserved: without the right to do so nothing starts. */
  readonly isSourceRequired: boolean;
  readonly isIpv6: boolean;
  /** The same-node path may be taken. */
  readonly isNodeLocal: boolean;
  /** HTTP observed on its way. */
  readonly l7Sight: {
    readonly reporter: 'both' | 'source' | 'destination' | 'off';
    readonly percent: number;
    readonly maxConnections: number;
  };
  /** Application tunnels with PROXY protocol are dialled on loopback. */
  readonly isTunnelOnLoopback: boolean;
  readonly isSocks5: boolean;
  readonly adminPort: number;
  readonly statsPort: number;
  readonly readinessPort: number;
  readonly poolMaxStreams: number;
  readonly poolIdleMs: number;
  readonly streamWindowBytes: number;
  readonly connectionWindowBytes: number;
  readonly frameBytes: number;
  readonly terminationDeadlineMs: number;
  readonly sendsResponseBaggage: boolean;
  readonly keepaliveSec:
    { readonly idle: number; readonly interval: number; readonly probes: number } | undefined;
  readonly dataThreads: number;
  /** Of one pod, over all data threads. */
  readonly podLimits: {
    readonly connections: number;
    readonly connecting: number;
    readonly handshakes: number;
    /** New connections a second that it always has; 0: as many as come. */
    readonly fairPerSec: number;
  };
  /** Unacknowledged data end a connection after this; undefined: the system's patience. */
  readonly userTimeoutMs: number | undefined;
  /** Key exchanges of TLS in OpenSSL's names; undefined: the usual ones. */
  readonly tlsGroups: string | undefined;
  readonly logLevel: string;
  readonly logFormat: LogFormat;
  readonly version: string;
  /** `ISTIO_META_*` and `ISTIO_METAJSON_*` without the prefix, for the xDS node. */
  readonly metadata: JsonObject;
  /** Undefined: no DNS proxy. */
  readonly dns: DnsConfig | undefined;
  /** The file with the name servers. */
  readonly resolvConf: string;
  /** Variables that were set and have no effect, for the log. */
  readonly warnings: readonly string[];
}

/** The pod this process runs in, and whose certificate it shows there. */
export interface OwnPod {
  readonly pod: PodInfo;
  readonly identity: string;
}

/** Where the DNS proxy listens in each pod, and what it takes for the cluster's names. */
export interface DnsConfig {
  readonly addresses: readonly string[];
  readonly port: number;
  readonly domain: string;
  readonly preferredNamespace: string | undefined;
}

const ISTIOD = 'https://istiod.istio-system.svc:15012';
const LOCAL_ISTIOD = 'https://localhost:15012';
const DEFAULT_TOKEN = '/var/run/secrets/tokens/istio-token';

type Values = SettingValues<typeof SETTINGS>;

/** Reads and checks everything; throws one error that lists all problems. */
export function readConfig(env: Env): Config {
  const reader = readerOf(env);
  const values = readSettings(SETTINGS, reader);
  const isFakeCa = values.FAKE_CA;
  const xds = controlPlane(values, values.XDS_ADDRESS, {
    root: values.XDS_ROOT_CA,
    altHostname: values.ALT_XDS_HOSTNAME,
    headers: values['XDS_HEADER_*'],
  });
  const ca = controlPlane(values, values.CA_ADDRESS, {
    root: values.CA_ROOT_CA,
    altHostname: values.ALT_CA_HOSTNAME,
    headers: values['CA_HEADER_*'],
  });
  checkValues(values, { xds, ca }, reader);
  const dns = dnsSettings(values, reader);
  const metadata = xdsMetadata(values, reader);
  const process = processSettings(values, reader);
  reader.finish();
  const config: Config = {
    ...identitySettings(values),
    metadata,
    ...tunnelSettings(values),
    xds,
    ca: isFakeCa ? undefined : ca,
    fakeCaRoot: isFakeCa ? values.FAKE_CA_ROOT : undefined,
    ...stateSettings(values),
    crlPath: values.CRL_PATH === '' ? undefined : values.CRL_PATH,
    secretTtlSec: values.SECRET_TTL / 1000,
    ...process,
    zdsPath: values.INPOD_UDS,
    ...holderSettings(values),
    packetMark: packetMark(values),
    isPortReuse: values.INPOD_PORT_REUSE,
    isSourcePreserved: values.ENABLE_ORIG_SRC ?? true,
    isSourceRequired: values.ENABLE_ORIG_SRC === true,
    isIpv6: values.IPV6_ENABLED,
    isNodeLocal: values.LOCAL_FAST_PATH,
    l7Sight: sightSettings(values),
    isTunnelOnLoopback: values.LOCALHOST_APP_TUNNEL,
    isSocks5: values.UNSTABLE_ENABLE_SOCKS5,
    adminPort: values.ADMIN_PORT,
    statsPort: values.STATS_PORT,
    readinessPort: values.READINESS_PORT,
    terminationDeadlineMs: terminationDeadline(values),
    sendsResponseBaggage: values.ENABLE_RESPONSE_BAGGAGE,
    podLimits: {
      connections: values.POD_MAX_CONNECTIONS,
      connecting: values.POD_MAX_CONNECTING,
      handshakes: values.POD_MAX_HANDSHAKES,
      fairPerSec: values.POD_FAIR_CONNECTIONS,
    },
    logLevel: values.RUST_LOG,
    logFormat: values.LOG_FORMAT,
    dns,
    resolvConf: values.RESOLV_CONF,
    warnings: reader.warnings,
  };
  return Object.freeze(config);
}

/** Of the environment and the mesh config; problems of the latter are told with all others. */
function readerOf(env: Env): EnvReader {
  const problems: [string, string][] = [];
  const reader = new EnvReader(withMeshConfig(env, (name, text) => problems.push([name, text])));
  for (const [name, text] of problems) reader.problem(name, text);
  return reader;
}

const SHARED_MARK = 0x539;

/** The redirection of pods that a node agent writes knows our packets by their mark; a dedicated proxy's need not. */
function packetMark(values: Values): number | undefined {
  return values.PACKET_MARK ?? (values.PROXY_MODE === 'shared' ? SHARED_MARK : undefined);
}

/** The pod of the dedicated mode. */
function dedicatedPodOf(values: Values, reader: EnvReader): PodInfo | undefined {
  if (values.PROXY_MODE === 'shared') return undefined;
  const given = values.PROXY_WORKLOAD_INFO;
  const [namespace = '', name = '', serviceAccount = '', ...rest] = given?.split('/') ?? [];
  const isComplete = namespace !== '' && name !== '' && serviceAccount !== '';
  if (!isComplete || rest.length > 0) {
    const problem = 'must be namespace/name/service-account in dedicated mode';
    reader.problem(
      'PROXY_WORKLOAD_INFO',
      given === undefined ? problem : `${problem}, not "${given}"`,
    );
  }
  return { namespace, name, serviceAccount };
}

/** What a holder says to its proxies. */
function holderSettings(values: Values): Pick<Config, 'holderFd' | 'holderDir'> {
  const { HOLDER_FD, HOLDER_DIR } = values;
  return { holderFd: HOLDER_FD === 0 ? undefined : HOLDER_FD, holderDir: HOLDER_DIR };
}

/** What this process serves, and with how many threads. */
function processSettings(
  values: Values,
  reader: EnvReader,
): Pick<Config, 'dedicatedPod' | 'dataThreads'> {
  return {
    dedicatedPod: dedicatedPodOf(values, reader),
    dataThreads: threadCountOf(values, reader),
  };
}

function threadCountOf(values: Values, reader: EnvReader): number {
  const count = dataThreadCount({
    wanted: values.ZTUNNEL_WORKER_THREADS,
    limit: values.ZTUNNEL_RESOURCE_CPU_LIMIT ?? values.ZTUNNEL_CPU_LIMIT,
    request: values.ZTUNNEL_RESOURCE_CPU_REQUEST,
    cores: availableParallelism(),
  });
  if (count === undefined) {
    reader.problem(
      'ZTUNNEL_WORKER_THREADS',
      'must be a number or 1% to 100%, and ZTUNNEL_RESOURCE_CPU_LIMIT, ZTUNNEL_RESOURCE_CPU_REQUEST and ' +
        'ZTUNNEL_CPU_LIMIT numbers of cores',
    );
  }
  return count ?? 1;
}

interface ControlPlanes {
  readonly xds: ControlPlaneAddress | undefined;
  readonly ca: ControlPlaneAddress | undefined;
}

/** What values say together. */
function checkValues(values: Values, { xds, ca }: ControlPlanes, reader: EnvReader): void {
  checkAddress('XDS_ADDRESS', xds, reader);
  checkAddress('CA_ADDRESS', ca, reader);
  if (ca === undefined && !values.FAKE_CA)
    reader.problem('CA_ADDRESS', 'is empty and FAKE_CA is not set');
  if (values.FAKE_CA && values.FAKE_CA_ROOT === undefined)
    reader.problem('FAKE_CA_ROOT', 'is required');
  if (parseLevels(values.RUST_LOG) === undefined)
    reader.problem('RUST_LOG', `is not a level list: "${values.RUST_LOG}"`);
  if (values.LOCAL_XDS !== undefined && values.LOCAL_XDS_PATH !== undefined)
    reader.problem('LOCAL_XDS', 'and LOCAL_XDS_PATH are both set');
  if (values.XDS_ON_DEMAND && isDnsOn(values))
    reader.problem('XDS_ON_DEMAND', 'needs ISTIO_META_DNS_CAPTURE=false: names are not asked for');
}

/** A client would try for ever what is no address. */
function checkAddress(
  name: string,
  target: ControlPlaneAddress | undefined,
  reader: EnvReader,
): void {
  try {
    if (target !== undefined) parseAddress(target.address);
  } catch (err) {
    reader.problem(name, `is ${errorMessage(err)}`);
  }
}

/** Of HTTP observed on its way. */
function sightSettings(values: Values): Config['l7Sight'] {
  return {
    reporter: values.L7_SIGHT,
    percent: values.L7_SIGHT_PERCENT,
    maxConnections: values.L7_SIGHT_MAX_CONNECTIONS,
  };
}

type IdentitySettings = Pick<
  Config,
  | 'nodeName'
  | 'network'
  | 'clusterId'
  | 'podName'
  | 'podNamespace'
  | 'serviceAccount'
  | 'instanceIps'
  | 'clusterDomain'
  | 'ownPod'
  | 'version'
>;

/** Who this proxy is, for the control plane. */
function identitySettings(values: Values): IdentitySettings {
  return {
    nodeName: values.NODE_NAME,
    network: values.NETWORK,
    clusterId: clusterOf(values),
    podName: values.POD_NAME,
    podNamespace: values.POD_NAMESPACE,
    serviceAccount: values.SERVICE_ACCOUNT,
    instanceIps: values.INSTANCE_IP.split(',').map((ip) => ip.trim()),
    clusterDomain: values.CLUSTER_DOMAIN.toLowerCase(),
    ownPod: ownPodOf(values),
    version: values.ISTIO_META_ISTIO_VERSION,
  };
}

/** Where all is known that names it, and the port is not the only pod's. */
function ownPodOf(values: Values): OwnPod | undefined {
  const { POD_NAME: name, POD_NAMESPACE: namespace, SERVICE_ACCOUNT: serviceAccount } = values;
  const isNamed = name !== '' && namespace !== '' && serviceAccount !== '';
  if (!isNamed || values.PROXY_MODE === 'dedicated') return undefined;
  const identity = formatSpiffeId({ trustDomain: values.TRUST_DOMAIN, namespace, serviceAccount });
  return { pod: { name, namespace, serviceAccount }, identity };
}

/** Text, and JSON values, which win over it. */
function xdsMetadata(values: Values, reader: EnvReader): JsonObject {
  const metadata: JsonObject = { ...values['ISTIO_META_*'] };
  for (const [name, text] of Object.entries(values['ISTIO_METAJSON_*'])) {
    try {
      metadata[name] = JSON.parse(text) as JsonValue;
    } catch {
      reader.warn(`ISTIO_METAJSON_${name}`, 'is left out: it is not JSON');
    }
  }
  return metadata;
}

function clusterOf(values: Values): string {
  return values.ISTIO_META_CLUSTER_ID ?? values.CLUSTER_ID;
}

type TunnelSettings = Pick<
  Config,
  | 'poolMaxStreams'
  | 'poolIdleMs'
  | 'streamWindowBytes'
  | 'connectionWindowBytes'
  | 'frameBytes'
  | 'keepaliveSec'
  | 'userTimeoutMs'
  | 'tlsGroups'
>;

function tunnelSettings(values: Values): TunnelSettings {
  return {
    poolMaxStreams: values.POOL_MAX_STREAMS_PER_CONNECTION,
    poolIdleMs: values.POOL_UNUSED_RELEASE_TIMEOUT,
    streamWindowBytes: values.HTTP2_STREAM_WINDOW_SIZE,
    connectionWindowBytes: values.HTTP2_CONNECTION_WINDOW_SIZE,
    frameBytes: values.HTTP2_FRAME_SIZE,
    userTimeoutMs: values.USER_TIMEOUT_ENABLED
      ? values.KEEPALIVE_TIME + values.KEEPALIVE_RETRIES * values.KEEPALIVE_INTERVAL
      : undefined,
    tlsGroups: values.COMPLIANCE_POLICY === 'pqc' ? 'X25519MLKEM768' : undefined,
    keepaliveSec: values.KEEPALIVE_ENABLED
      ? {
          idle: values.KEEPALIVE_TIME / 1000,
          interval: values.KEEPALIVE_INTERVAL / 1000,
          probes: values.KEEPALIVE_RETRIES,
        }
      : undefined,
  };
}

/** From where workloads and services come. */
function stateSettings(values: Values): Pick<Config, 'isOnDemand' | 'localXdsPath' | 'localXds'> {
  return {
    isOnDemand: values.XDS_ON_DEMAND,
    localXdsPath: values.LOCAL_XDS_PATH,
    localXds: values.LOCAL_XDS,
  };
}

function isDnsOn(values: Values): boolean {
  return values.ISTIO_META_DNS_CAPTURE.toLowerCase() === 'true';
}

function dnsSettings(values: Values, reader: EnvReader): DnsConfig | undefined {
  if (!isDnsOn(values)) return undefined;
  const text = values.ISTIO_META_DNS_PROXY_ADDR;
  const given = splitHostPort(text);
  const isLocalhost = given?.host === 'localhost';
  const loopback = values.IPV6_ENABLED ? ['127.0.0.1', '::1'] : ['127.0.0.1'];
  const address = isLocalhost ? undefined : normalizeIp(given?.host ?? '');
  if (given === undefined || (!isLocalhost && address === undefined)) {
    reader.problem('ISTIO_META_DNS_PROXY_ADDR', `must be an address with a port, not "${text}"`);
    return undefined;
  }
  return {
    addresses: address === undefined ? loopback : [address],
    port: given.port,
    domain: values.CLUSTER_DOMAIN.toLowerCase(),
    preferredNamespace: values.PREFERED_SERVICE_NAMESPACE,
  };
}

interface PeerSettings {
  readonly root: string;
  readonly altHostname: string | undefined;
  readonly headers: Readonly<Record<string, string>>;
}

function controlPlane(
  values: Values,
  given: string | undefined,
  { root, altHostname, headers }: PeerSettings,
): ControlPlaneAddress | undefined {
  const fallback = values.KUBERNETES_SERVICE_HOST === undefined ? LOCAL_ISTIOD : ISTIOD;
  const address = given ?? fallback;
  if (address === '') return undefined;
  const token = tokenOf(values.AUTH_TOKEN);
  return {
    address,
    root: absolute(root),
    clusterId: clusterOf(values),
    ...(altHostname === undefined ? {} : { altHostname }),
    ...(token === undefined ? {} : { token }),
    headers: Object.fromEntries(
      Object.entries(headers).map(([name, value]) => [name.toLowerCase(), value]),
    ),
  };
}

function tokenOf(given: string | undefined): string | undefined {
  if (given !== undefined) return absolute(given);
  return existsSync(DEFAULT_TOKEN) ? DEFAULT_TOKEN : undefined;
}

/** Istio's images run in `/`, so its defaults are written `./var/...`. */
function absolute(path: string): string {
  return path.startsWith('./var/') || path.startsWith('./etc/') ? path.slice(1) : path;
}

function terminationDeadline(values: Values): number {
  const grace = values.TERMINATION_GRACE_PERIOD_SECONDS;
  const fromGrace = grace > 10 ? grace - 5 : Math.max(1, grace - 1);
  return values.CONNECTION_TERMINATION_DEADLINE ?? (grace === 0 ? 5000 : fromGrace * 1000);
}
