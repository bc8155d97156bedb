// The waypoint's configuration from the environment, with Istio's names where Istio has one.
//
// Tests and benchmarks: LOCAL_XDS_PATH loads workloads and services, LOCAL_L7_PATH routes, clusters and policies
// (common/l7/local-file.ts); with XDS_ADDRESS empty they are all there is. FAKE_CA=true with FAKE_CA_ROOT signs the
// certificate in the process.
import { existsSync } from 'node:fs';
import { EnvReader } from '../common/env.ts';
import type { Env } from '../common/env.ts';
import type { ControlPlaneAddress } from '../common/grpc/channel.ts';
import { parseLevels } from '../common/telemetry/logger.ts';
import type { AccessLogFormat } from './telemetry/access-log.ts';

/** Everything that is fixed at start. */
export interface Config {
  readonly gatewayName: string;
  readonly podName: string;
  readonly podNamespace: string;
  readonly serviceAccount: string;
  readonly trustDomain: string;
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
  readonly drainDeadlineMs: number;
  readonly accessLog: AccessLogFormat;
  readonly logLevel: string;
}

const ISTIOD = 'https://istiod.istio-system.svc:15012';
const DEFAULT_ROOT = '/var/run/secrets/istio/root-cert.pem';
const DEFAULT_TOKEN = '/var/run/secrets/tokens/istio-token';

/** Reads and checks everything; throws one error that lists all problems. */
export function readConfig(env: Env): Config {
  const reader = new EnvReader(env);
  const clusterId = reader.string('ISTIO_META_CLUSTER_ID', 'Kubernetes');
  const isFakeCa = reader.boolean('FAKE_CA', false);
  const ca = controlPlane(reader, 'CA', clusterId);
  if (ca === undefined && !isFakeCa)
    reader.problem('CA_ADDRESS', 'is empty and FAKE_CA is not set');
  const logLevel = reader.string('LOG_LEVEL', 'info');
  if (parseLevels(logLevel) === undefined) {
    reader.problem('LOG_LEVEL', `is not a level list: "${logLevel}"`);
  }
  const port = (name: string, fallback: number): number => reader.integer(name, fallback, 0, 65535);
  const config: Config = {
    gatewayName: reader.string('GATEWAY_NAME'),
    podName: reader.string('POD_NAME', 'waypoint'),
    podNamespace: reader.string('POD_NAMESPACE', 'default'),
    serviceAccount: reader.string('SERVICE_ACCOUNT', 'waypoint'),
    trustDomain: reader.string('TRUST_DOMAIN', 'cluster.local'),
    instanceIp: reader.string('INSTANCE_IP', '1.1.1.1'),
    nodeName: reader.string('NODE_NAME'),
    clusterId,
    network: reader.string('NETWORK'),
    xds: controlPlane(reader, 'XDS', clusterId),
    ca: isFakeCa ? undefined : ca,
    fakeCaRoot: isFakeCa ? reader.required('FAKE_CA_ROOT') : undefined,
    localXdsPath: reader.optional('LOCAL_XDS_PATH'),
    localL7Path: reader.optional('LOCAL_L7_PATH'),
    secretTtlSec: reader.durationMs('SECRET_TTL', 86_400_000) / 1000,
    listenAddress: reader.string('LISTEN_ADDRESS', '::'),
    hbonePort: port('HBONE_PORT', 15008),
    adminPort: port('ADMIN_PORT', 15000),
    statsPort: port('STATS_PORT', 15020),
    readinessPort: port('READINESS_PORT', 15021),
    detectTimeoutMs: reader.durationMs('PROTOCOL_DETECT_TIMEOUT', 500),
    headTimeoutMs: reader.durationMs('REQUEST_HEADERS_TIMEOUT', 10_000),
    // Longer than what servers and clients use, so that it is not us who close first.
    idleTimeoutMs: reader.durationMs('IDLE_TIMEOUT', 3_600_000),
    maxHeadBytes: reader.integer('MAX_REQUEST_HEADERS_KB', 60, 1, 96) * 1024,
    maxHeaders: reader.integer('MAX_REQUEST_HEADERS', 100, 1, 1000),
    drainDeadlineMs: reader.durationMs('DRAIN_DURATION', 25_000),
    accessLog: reader.oneOf('ACCESS_LOG', ['off', 'text', 'json'], 'json'),
    logLevel,
  };
  reader.finish();
  return Object.freeze(config);
}

function controlPlane(
  reader: EnvReader,
  prefix: 'XDS' | 'CA',
  clusterId: string,
): ControlPlaneAddress | undefined {
  const address = reader.string(`${prefix}_ADDRESS`, ISTIOD);
  if (address === '') return undefined;
  const altHostname = reader.optional(`ALT_${prefix}_HOSTNAME`);
  const token = reader.optional('AUTH_TOKEN') ?? DEFAULT_TOKEN;
  return {
    address,
    root: absolute(reader.string(`${prefix}_ROOT_CA`, DEFAULT_ROOT)),
    clusterId,
    ...(altHostname === undefined ? {} : { altHostname }),
    ...(existsSync(absolute(token)) ? { token: absolute(token) } : {}),
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
