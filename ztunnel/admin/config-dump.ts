// The admin port's config_dump in the shape of Istio's ztunnel, which istioctl reads.
import { errorMessage } from '../../common/errors.ts';
import { dumpSecret } from '../../common/identity/certificate-dump.ts';
import type { SecretState } from '../../common/identity/secret-manager.ts';
import type { Cidr, Policy, PolicyMatch, StringMatch } from '../../common/policy/model.ts';
import { formatIp } from '../../common/workload/ip.ts';
import { serviceKey } from '../../common/workload/model.ts';
import type {
  GatewayAddress,
  PortMapping,
  Service,
  Workload,
} from '../../common/workload/model.ts';
import type { LocalState } from '../../common/workload/local-file.ts';
import { WorkloadStore } from '../../common/workload/store.ts';
import type { Config } from '../config.ts';
import type { PodState } from '../inpod/zds-session.ts';
import { localState } from '../state/local-state.ts';
import type { PodDump } from '../messages.ts';

/** Everything the dump shows. */
export interface DumpSources {
  readonly config: Config;
  readonly store: WorkloadStore;
  readonly policies: ReadonlyMap<string, Policy>;
  readonly secrets: readonly SecretState[];
  readonly pods: readonly PodState[];
  readonly connections: readonly PodDump[];
}

/** The dump, for `streamJson`: what may be long comes an item at a time. */
export function buildConfigDump(sources: DumpSources): Record<string, unknown> {
  const { config, store, policies } = sources;
  const byText = (a: string, b: string): number => (a < b ? -1 : a > b ? 1 : 0);
  return {
    workloads: mapped(
      [...store.workloads()].sort((a, b) => byText(a.uid, b.uid)),
      dumpWorkload,
    ),
    services: mapped(
      [...store.services()].sort((a, b) => byText(a.hostname, b.hostname)),
      (service) => dumpService(store, service),
    ),
    policies: mapped(
      [...policies.values()].sort((a, b) => byText(a.key, b.key)),
      dumpPolicy,
    ),
    stagedServices: Object.fromEntries(
      [...store.awaitedServices()].map((key) => [key, dumpEndpoints(store, key)]),
    ),
    staticConfig: dumpStatic(config),
    version: {
      version: config.version,
      gitRevision: 'unknown',
      rustVersion: '',
      buildProfile: 'release',
      buildStatus: 'unknown',
      istioVersion: config.version,
      cryptoProvider: 'openssl',
      node: process.version,
    },
    config: dumpConfig(config),
    certificates: sources.secrets.map(dumpSecret),
    workloadState: Object.fromEntries(
      sources.pods.map(({ uid, pod, state }) => {
        const found = sources.connections.find((dump) => dump.uid === uid);
        const connections = { inbound: found?.inbound ?? [], outbound: found?.outbound ?? [] };
        return [uid, { state, connections, info: pod }];
      }),
    ),
  };
}

/** The local file as it is now, in its own form. One that cannot be read must not cost the dump. */
function dumpStatic(config: Config): object {
  let local: LocalState;
  try {
    local = localState(config) ?? { workloads: [], policies: [], services: [] };
  } catch (err) {
    return { workloads: [], policies: [], services: [], error: errorMessage(err) };
  }
  const store = new WorkloadStore();
  for (const workload of local.workloads) store.upsert({ kind: 'workload', workload });
  return {
    workloads: local.workloads.map((workload) => ({
      ...dumpWorkload(workload),
      services: Object.fromEntries(
        Object.entries(workload.services).map(([key, ports]) => [key, dumpPorts(ports)]),
      ),
    })),
    policies: local.policies.map(dumpPolicy),
    services: local.services.map((service) => dumpService(store, service)),
  };
}

function* mapped<T>(items: readonly T[], dump: (item: T) => object): Generator<object> {
  for (const item of items) yield dump(item);
}

function dumpConfig(config: Config): object {
  const { xds, ca, ...rest } = config;
  // No credentials, and no local state: that is in `staticConfig`.
  const hidden = { fakeCaRoot: undefined, localXds: undefined };
  return { ...rest, ...hidden, xdsAddress: xds?.address, caAddress: ca?.address };
}

function dumpWorkload(workload: Workload): object {
  const { locality, applicationTunnel } = workload;
  return {
    workloadIps: workload.ips,
    ...(workload.waypoint === undefined ? {} : { waypoint: dumpGateway(workload.waypoint) }),
    ...(workload.networkGateway === undefined
      ? {}
      : { networkGateway: dumpGateway(workload.networkGateway) }),
    protocol: workload.protocol,
    networkMode: workload.isHostNetwork ? 'HostNetwork' : 'Standard',
    uid: workload.uid,
    name: workload.name,
    namespace: workload.namespace,
    trustDomain: workload.trustDomain,
    serviceAccount: workload.serviceAccount,
    network: workload.network,
    workloadName: workload.workloadName,
    workloadType: workload.workloadType,
    canonicalName: workload.canonicalName,
    canonicalRevision: workload.canonicalRevision,
    hostname: workload.hostname,
    node: workload.node,
    nativeTunnel: workload.isNativeTunnel,
    ...(applicationTunnel === undefined ? {} : { applicationTunnel }),
    authorizationPolicies: workload.authorizationPolicies,
    status: workload.isHealthy ? 'Healthy' : 'Unhealthy',
    clusterId: workload.clusterId,
    ...(`${locality.region}${locality.zone}${locality.subzone}` === '' ? {} : { locality }),
    capacity: workload.capacity,
    services: Object.keys(workload.services),
  };
}

function dumpGateway(gateway: GatewayAddress): object {
  const destination =
    gateway.kind === 'hostname'
      ? `${gateway.namespace}/${gateway.hostname}`
      : `${gateway.network}/${gateway.ip}`;
  return { destination, hboneMtlsPort: gateway.port };
}

function dumpPorts(ports: readonly PortMapping[]): Record<string, number> {
  return Object.fromEntries(ports.map(({ servicePort, targetPort }) => [servicePort, targetPort]));
}

/** Endpoints of a service by workload, whether it is known or not. */
function dumpEndpoints(store: WorkloadStore, key: string): Record<string, object> {
  return Object.fromEntries(
    [...store.endpoints(key).values()].map((workload) => [
      workload.uid,
      {
        workloadUid: workload.uid,
        port: dumpPorts(workload.services[key] ?? []),
        status: workload.isHealthy ? 'Healthy' : 'Unhealthy',
      },
    ]),
  );
}

function dumpService(store: WorkloadStore, service: Service): object {
  return {
    name: service.name,
    namespace: service.namespace,
    hostname: service.hostname,
    vips: service.vips.map(({ network, ip }) => `${network}/${ip}`),
    cidrVips: service.cidrVips.map(({ network, ip, length }) => ({
      network,
      cidr: `${ip}/${length}`,
    })),
    ports: dumpPorts(service.ports),
    endpoints: dumpEndpoints(store, serviceKey(service)),
    subjectAltNames: service.subjectAltNames,
    ...(service.waypoint === undefined ? {} : { waypoint: dumpGateway(service.waypoint) }),
    ...(service.weightedWaypoints.length === 0
      ? {}
      : {
          weightedWaypoints: service.weightedWaypoints.map(({ destination, weight }) => ({
            destination: dumpGateway(destination),
            weight,
          })),
        }),
    ...dumpLoadBalancer(service.loadBalancer),
    ...(service.ipFamilies === 'AUTOMATIC' ? {} : { ipFamilies: FAMILIES[service.ipFamilies] }),
    canonical: service.isCanonical,
    visibility: service.visibility === 'PUBLIC' ? 'Public' : 'Namespace',
  };
}

const FAMILIES = { DUAL: 'Dual', IPV4_ONLY: 'IPv4', IPV6_ONLY: 'IPv6' } as const;

/** Nothing for what is the default. */
function dumpLoadBalancer(balancer: Service['loadBalancer']): object {
  const { mode, routingPreferences, healthPolicy } = balancer;
  if (mode === 'STANDARD' && routingPreferences.length === 0 && healthPolicy === 'ONLY_HEALTHY') {
    return {};
  }
  return {
    loadBalancer: {
      routingPreferences: routingPreferences.map(capitalized),
      mode: capitalized(mode),
      healthPolicy: healthPolicy === 'ALLOW_ALL' ? 'AllowAll' : 'OnlyHealthy',
    },
  };
}

function capitalized(word: string): string {
  return word.charAt(0) + word.slice(1).toLowerCase();
}

function dumpPolicy(policy: Policy): object {
  const scopes = {
    GLOBAL: 'Global',
    NAMESPACE: 'Namespace',
    WORKLOAD_SELECTOR: 'WorkloadSelector',
  };
  return {
    name: policy.name,
    namespace: policy.namespace,
    scope: scopes[policy.scope],
    action: policy.action === 'ALLOW' ? 'Allow' : 'Deny',
    dryRun: policy.isDryRun,
    rules: policy.rules.map((clauses) => clauses.map((matches) => matches.map(dumpMatch))),
  };
}

function dumpMatch(match: PolicyMatch): object {
  const entries = Object.entries(match).flatMap(([key, list]: [string, readonly unknown[]]) =>
    list.length === 0 ? [] : [[key, list.map(dumpCondition)]],
  );
  return Object.fromEntries(entries) as object;
}

function dumpCondition(value: unknown): unknown {
  if (typeof value !== 'object' || value === null) return value;
  if ('bytes' in value) {
    const { bytes, length } = value as Cidr;
    return `${formatIp(bytes) ?? ''}/${length}`;
  }
  if (!('kind' in value)) return value;
  const match = value as StringMatch;
  if (match.kind === 'presence') return { Presence: [] };
  const name = match.kind[0]?.toUpperCase() ?? '';
  return { [`${name}${match.kind.slice(1)}`]: match.value };
}
