// The waypoint's configuration, from the environment variables of waypoint/settings.ts.
//
// Tests and benchmarks: LOCAL_XDS_PATH loads workloads and services, LOCAL_L7_PATH routes, clusters and policies
// (common/l7/local-file.ts); with XDS_ADDRESS empty they are all there is. FAKE_CA=true with FAKE_CA_ROOT signs the
// certificate in the process.
import { existsSync } from 'node:fs';
import { EnvReader } from '../common/env.ts';
import type { Env } from '../common/env.ts';
import type { ControlPlaneAddress } from '../common/grpc/channel.ts';
import { readSettings, type SettingValues } from '../common/settings.ts';
import { parseLevels } from '../common/telemetry/log-levels.ts';
import { SETTINGS } from './settings.ts';
import type { AccessLogFormat } from './telemetry/access-log.ts';

/** Everything that is fixed at start. */
export interface Config {
  readonly gatewayName: string;
  readonly podName: string;
  readonly podNamespace: string;
  readonly serviceAccount: string;
  readonly trustDomain: string;
  /** Other names of it, whose peers are taken too. */
  readonly trustDomainAliases: readonly string[];
  readonly instanceIp: string;
  readonly nodeName: string;
  readonly clusterId: string;
  readonly network: string;
  /** Undefined: xDS is off. */
  readonly xds: ControlPlaneAddress | undefined;
  readonly ca: ControlPlaneAddress | undefined;
  readonly fakeCaRoot: string | undefined;
  readonly localXdsPath: string | undefined;
  readonly localL7Path: string | undefined;
  readonly secretTtlSec: number;
  /** File with revocation lists; undefined: not checked. */
  readonly crlPath: string | undefined;
  readonly listenAddress: string;
  readonly hbonePort: number;
  readonly adminPort: number;
  readonly statsPort: number;
  readonly readinessPort: number;
  /** How long a port without a declared protocol waits for the client's first bytes. */
  readonly detectTimeoutMs: number;
  readonly headTimeoutMs: number;
  readonly idleTimeoutMs: number;
  readonly maxHeadBytes: number;
  readonly maxHeaders: number;
  readonly drainDelayMs: number;
  readonly drainDeadlineMs: number;
  readonly accessLog: AccessLogFormat;
  readonly logLevel: string;
}

const ISTIOD = 'https://istiod.istio-system.svc:15012';
const DEFAULT_TOKEN = '/var/run/secrets/tokens/istio-token';

type Values = SettingValues<typeof SETTINGS>;

/** Reads and checks everything; throws one error that lists all problems. */
export function readConfig(env: Env): Config {
  const reader = new EnvReader(env);
  const values = readSettings(SETTINGS, reader);
  const isFakeCa = values.FAKE_CA;
  const ca = controlPlane(values, values.CA_ADDRESS, values.CA_ROOT_CA, values.ALT_CA_HOSTNAME);
  if (ca === undefined && !isFakeCa)
    reader.problem('CA_ADDRESS', 'is empty and FAKE_CA is not set');
  if (isFakeCa && values.FAKE_CA_ROOT === undefined) reader.problem('FAKE_CA_ROOT', 'is required');
  if (parseLevels(values.LOG_LEVEL) === undefined)
    reader.problem('LOG_LEVEL', `is not a level list: "${values.LOG_LEVEL}"`);
  reader.finish();
  const config: Config = {
    ...limits(values),
    gatewayName: values.GATEWAY_NAME,
    podName: values.POD_NAME,
    podNamespace: values.POD_NAMESPACE,
    serviceAccount: values.SERVICE_ACCOUNT,
    trustDomain: values.TRUST_DOMAIN,
    trustDomainAliases: values.TRUST_DOMAIN_ALIASES,
    instanceIp: values.INSTANCE_IP,
    nodeName: values.NODE_NAME,
    clusterId: values.ISTIO_META_CLUSTER_ID,
    network: values.NETWORK,
    xds: controlPlane(values, values.XDS_ADDRESS, values.XDS_ROOT_CA, values.ALT_XDS_HOSTNAME),
    ca: isFakeCa ? undefined : ca,
    fakeCaRoot: isFakeCa ? values.FAKE_CA_ROOT : undefined,
    localXdsPath: values.LOCAL_XDS_PATH,
    localL7Path: values.LOCAL_L7_PATH,
    secretTtlSec: values.SECRET_TTL / 1000,
    crlPath: values.CRL_PATH === '' ? undefined : values.CRL_PATH,
    listenAddress: values.LISTEN_ADDRESS,
    hbonePort: values.HBONE_PORT,
    adminPort: values.ADMIN_PORT,
    statsPort: values.STATS_PORT,
    readinessPort: values.READINESS_PORT,
    accessLog: values.ACCESS_LOG,
    logLevel: values.LOG_LEVEL,
  };
  return Object.freeze(config);
}

type Limits = Pick<
  Config,
  | 'detectTimeoutMs'
  | 'headTimeoutMs'
  | 'idleTimeoutMs'
  | 'maxHeadBytes'
  | 'maxHeaders'
  | 'drainDelayMs'
  | 'drainDeadlineMs'
>;

function limits(values: Values): Limits {
  return {
    detectTimeoutMs: values.PROTOCOL_DETECT_TIMEOUT,
    headTimeoutMs: values.REQUEST_HEADERS_TIMEOUT,
    idleTimeoutMs: values.IDLE_TIMEOUT,
    maxHeadBytes: values.MAX_REQUEST_HEADERS_KB * 1024,
    maxHeaders: values.MAX_REQUEST_HEADERS,
    drainDelayMs: values.DRAIN_DELAY,
    drainDeadlineMs: values.DRAIN_DURATION,
  };
}

function controlPlane(
  values: Values,
  given: string | undefined,
  root: string,
  altHostname: string | undefined,
): ControlPlaneAddress | undefined {
  const address = given ?? ISTIOD;
  if (address === '') return undefined;
  const token = absolute(values.AUTH_TOKEN ?? DEFAULT_TOKEN);
  return {
    address,
    root: absolute(root),
    clusterId: values.ISTIO_META_CLUSTER_ID,
    ...(altHostname === undefined ? {} : { altHostname }),
    ...(existsSync(token) ? { token } : {}),
  };
}

/** Istio's images run in `/`, so its defaults are written `./var/...`. */
function absolute(path: string): string {
  return path.startsWith('./var/') || path.startsWith('./etc/') ? path.slice(1) : path;
}

/** The waypoint's own SPIFFE id. */
export function ownIdentity(
  config: Pick<Config, 'trustDomain' | 'podNamespace' | 'serviceAccount'>,
): string {
  return `spiffe://${config.trustDomain}/ns/${config.podNamespace}/sa/${config.serviceAccount}`;
}
