// The node proxy's configuration from the environment, with Istio's names and defaults (ztunnel-spec 1.2).
// Only what this program acts on is here; unknown variables are ignored as Istio's ztunnel does.
//
// Tests and benchmarks: LOCAL_XDS_PATH loads workloads from a file (with XDS_ADDRESS empty: only from it), and
// FAKE_CA=true with FAKE_CA_ROOT (a PEM file with certificate and key) signs certificates in the process.
import { existsSync } from 'node:fs';
import { EnvReader } from '../common/env.ts';
import type { Env } from '../common/env.ts';
import type { ControlPlaneAddress } from '../common/grpc/channel.ts';
import { parseLevels } from '../common/telemetry/logger.ts';

/** Everything that is fixed at start. */
export interface Config {
  readonly nodeName: string;
  readonly network: string;
  readonly clusterId: string;
  readonly podName: string;
  readonly podNamespace: string;
  readonly serviceAccount: string;
  readonly instanceIp: string;
  /** Undefined: xDS is off. */
  readonly xds: ControlPlaneAddress | undefined;
  /** Undefined with `fakeCaRoot` set. */
  readonly ca: ControlPlaneAddress | undefined;
  readonly fakeCaRoot: string | undefined;
  readonly localXdsPath: string | undefined;
  readonly secretTtlSec: number;
  readonly zdsPath: string;
  readonly packetMark: number;
  readonly isPortReuse: boolean;
  readonly isSourcePreserved: boolean;
  readonly isIpv6: boolean;
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
  readonly logLevel: string;
  readonly version: string;
  /** `ISTIO_META_*` without the prefix, for the xDS node. */
  readonly metadata: Readonly<Record<string, string>>;
}

const ISTIOD = 'https://istiod.istio-system.svc:15012';
const DEFAULT_ROOT = '/var/run/secrets/istio/root-cert.pem';
const DEFAULT_TOKEN = '/var/run/secrets/tokens/istio-token';

/** Reads and checks everything; throws one error that lists all problems. */
export function readConfig(env: Env): Config {
  const reader = new EnvReader(env);
  const clusterId = env['ISTIO_META_CLUSTER_ID'] ?? reader.string('CLUSTER_ID', 'Kubernetes');
  const istiod =
    reader.optional('KUBERNETES_SERVICE_HOST') === undefined ? 'https://localhost:15012' : ISTIOD;
  const isFakeCa = reader.boolean('FAKE_CA', false);
  const ca = controlPlane(reader, env, 'CA', istiod, clusterId);
  if (ca === undefined && !isFakeCa)
    reader.problem('CA_ADDRESS', 'is empty and FAKE_CA is not set');
  const level = reader.string('RUST_LOG', 'info');
  if (parseLevels(level) === undefined)
    reader.problem('RUST_LOG', `is not a level list: "${level}"`);
  reader.oneOf('PROXY_MODE', ['shared'], 'shared');
  const config: Config = {
    ...tunnelSettings(reader),
    nodeName: reader.string('NODE_NAME'),
    network: reader.string('NETWORK'),
    clusterId,
    podName: reader.string('POD_NAME'),
    podNamespace: reader.string('POD_NAMESPACE'),
    serviceAccount: reader.string('SERVICE_ACCOUNT'),
    instanceIp: reader.string('INSTANCE_IP', '1.1.1.1'),
    xds: controlPlane(reader, env, 'XDS', istiod, clusterId),
    ca: isFakeCa ? undefined : ca,
    fakeCaRoot: isFakeCa ? reader.required('FAKE_CA_ROOT') : undefined,
    localXdsPath: reader.optional('LOCAL_XDS_PATH'),
    secretTtlSec: reader.durationMs('SECRET_TTL', 86_400_000) / 1000,
    zdsPath: reader.string('INPOD_UDS', '/var/run/ztunnel/ztunnel.sock'),
    packetMark: reader.integer('PACKET_MARK', 0x539, 1, 0xffffffff),
    isPortReuse: reader.boolean('INPOD_PORT_REUSE', true),
    isSourcePreserved: reader.boolean('ENABLE_ORIG_SRC', true),
    isIpv6: reader.boolean('IPV6_ENABLED', true),
    adminPort: reader.integer('ADMIN_PORT', 15000, 0, 65535),
    statsPort: reader.integer('STATS_PORT', 15020, 0, 65535),
    readinessPort: reader.integer('READINESS_PORT', 15021, 0, 65535),
    terminationDeadlineMs: terminationDeadline(reader),
    sendsResponseBaggage: reader.boolean('ENABLE_RESPONSE_BAGGAGE', true),
    logLevel: level,
    version: reader.string('ISTIO_META_ISTIO_VERSION', 'unknown'),
    metadata: Object.fromEntries(
      Object.entries(env).flatMap(([name, value]) =>
        name.startsWith('ISTIO_META_') && value !== undefined
          ? [[name.slice('ISTIO_META_'.length), value]]
          : [],
      ),
    ),
  };
  reader.finish();
  return Object.freeze(config);
}

type TunnelSettings = Pick<
  Config,
  | 'poolMaxStreams'
  | 'poolIdleMs'
  | 'streamWindowBytes'
  | 'connectionWindowBytes'
  | 'frameBytes'
  | 'keepaliveSec'
>;

function tunnelSettings(reader: EnvReader): TunnelSettings {
  return {
    poolMaxStreams: reader.integer('POOL_MAX_STREAMS_PER_CONNECTION', 100, 1, 65535),
    poolIdleMs: reader.durationMs('POOL_UNUSED_RELEASE_TIMEOUT', 300_000),
    // The connection window is four times the stream's, so that one unread stream cannot starve the others.
    streamWindowBytes: reader.integer('HTTP2_STREAM_WINDOW_SIZE', 4 << 20, 65535, 0x7fffffff),
    connectionWindowBytes: reader.integer(
      'HTTP2_CONNECTION_WINDOW_SIZE',
      16 << 20,
      65535,
      0x7fffffff,
    ),
    frameBytes: reader.integer('HTTP2_FRAME_SIZE', 1 << 20, 16384, 0xffffff),
    keepaliveSec: reader.boolean('KEEPALIVE_ENABLED', true)
      ? {
          idle: reader.durationMs('KEEPALIVE_TIME', 180_000) / 1000,
          interval: reader.durationMs('KEEPALIVE_INTERVAL', 180_000) / 1000,
          probes: reader.integer('KEEPALIVE_RETRIES', 9, 1, 127),
        }
      : undefined,
  };
}

function controlPlane(
  reader: EnvReader,
  env: Env,
  prefix: 'XDS' | 'CA',
  fallback: string,
  clusterId: string,
): ControlPlaneAddress | undefined {
  const address = reader.string(`${prefix}_ADDRESS`, fallback);
  if (address === '') return undefined;
  const altHostname = reader.optional(`ALT_${prefix}_HOSTNAME`);
  const token = tokenOf(reader);
  const headerPrefix = `${prefix}_HEADER_`;
  const headers = Object.entries(env).flatMap(([name, value]) =>
    name.startsWith(headerPrefix)
      ? [[name.slice(headerPrefix.length).toLowerCase(), value ?? '']]
      : [],
  );
  return {
    address,
    root: absolute(reader.string(`${prefix}_ROOT_CA`, DEFAULT_ROOT)),
    clusterId,
    ...(altHostname === undefined ? {} : { altHostname }),
    ...(token === undefined ? {} : { token }),
    headers: Object.fromEntries(headers) as Record<string, string>,
  };
}

function tokenOf(reader: EnvReader): string | undefined {
  const token = reader.optional('AUTH_TOKEN');
  if (token !== undefined) return absolute(token);
  return existsSync(DEFAULT_TOKEN) ? DEFAULT_TOKEN : undefined;
}

/** Istio's images run in `/`, so its defaults are written `./var/...`. */
function absolute(path: string): string {
  return path.startsWith('./var/') || path.startsWith('./etc/') ? path.slice(1) : path;
}

function terminationDeadline(reader: EnvReader): number {
  const grace = reader.integer('TERMINATION_GRACE_PERIOD_SECONDS', 0, 0, 86_400);
  const fromGrace = grace > 10 ? grace - 5 : Math.max(1, grace - 1);
  const fallbackMs = grace === 0 ? 5000 : fromGrace * 1000;
  return reader.durationMs('CONNECTION_TERMINATION_DEADLINE', fallbackMs);
}
