// Workloads, services and policies from a YAML file (Istio ztunnel's LOCAL_XDS_PATH), for tests,
// benchmarks and running without a control plane. Unknown keys are refused so that a typo does not pass silently.
import { readFileSync } from 'node:fs';
import { parse } from 'yaml';
import type { CollectionTag, ScalarTag } from 'yaml';
import { MeshError, errorMessage } from '../errors.ts';
import type { Cidr, Policy, PolicyMatch, StringMatch } from '../policy/model.ts';
import { normalizeIp, parseIp } from './ip.ts';
import type { GatewayAddress, PortMapping, RoutingScope, Service, Workload } from './model.ts';
import { Fields } from './yaml-fields.ts';

const MAX_PORT = 65_535;

/** What a file holds. */
export interface LocalState {
  readonly workloads: readonly Workload[];
  readonly services: readonly Service[];
  readonly policies: readonly Policy[];
}

/** Reads a file. Throws `bad_local_state` with the object and the key named. */
export function readLocalState(path: string): LocalState {
  try {
    return parseLocalState(readFileSync(path, 'utf8'));
  } catch (err) {
    throw new MeshError('bad_local_state', `${path}: ${errorMessage(err)}`, { cause: err });
  }
}

/** Parses the YAML text. */
export function parseLocalState(text: string): LocalState {
  const top = new Fields('file', (parse(text, { customTags: STRING_MATCH_TAGS }) as unknown) ?? {});
  const state = {
    workloads: top
      .list('workloads')
      .map((entry, at) => toWorkload(new Fields(`workload ${at}`, entry))),
    services: top
      .list('services')
      .map((entry, at) => toService(new Fields(`service ${at}`, entry))),
    policies: top.list('policies').map((entry, at) => toPolicy(new Fields(`policy ${at}`, entry))),
  };
  top.finish();
  return state;
}

// `!Exact text` and so on, serde's form of a tagged enum.
const STRING_MATCH_TAGS: (ScalarTag | CollectionTag)[] = [
  ...(['Exact', 'Prefix', 'Suffix'] as const).map((name): ScalarTag => ({
    tag: `!${name}`,
    resolve: (value) => ({ [name]: value }),
  })),
  { tag: '!Presence', collection: 'seq', resolve: () => ({ Presence: [] }) },
];

function toWorkload(fields: Fields): Workload {
  const name = fields.text('name');
  const locality = fields.child('locality');
  const tunnel = fields.child('applicationTunnel');
  const workload: Workload = {
    uid: fields.text('uid'),
    name,
    namespace: fields.text('namespace'),
    serviceAccount: fields.text('serviceAccount', 'default'),
    trustDomain: fields.text('trustDomain', 'cluster.local'),
    ips: fields.texts('workloadIps').map(toIp),
    hostname: fields.text('hostname'),
    network: fields.text('network'),
    protocol: fields.oneOf('protocol', ['TCP', 'HBONE'], 'TCP'),
    isNativeTunnel: fields.flag('nativeTunnel'),
    isHostNetwork:
      fields.oneOf('networkMode', ['Standard', 'HostNetwork'], 'Standard') === 'HostNetwork',
    isNodeLocalAllowed: fields.flag('nodeLocal'),
    l7Percent: fields.flag('l7Sight') ? 100 : 0,
    waypoint: toGateway(fields.child('waypoint')),
    networkGateway: toGateway(fields.child('networkGateway')),
    node: fields.text('node'),
    workloadName: fields.text('workloadName', name),
    workloadType: fields.oneOf(
      'workloadType',
      ['deployment', 'cronjob', 'pod', 'job'],
      'deployment',
    ),
    canonicalName: fields.text('canonicalName'),
    canonicalRevision: fields.text('canonicalRevision'),
    clusterId: fields.text('clusterId', 'Kubernetes'),
    locality: {
      region: locality?.text('region') ?? '',
      zone: locality?.text('zone') ?? '',
      subzone: locality?.text('subzone') ?? '',
    },
    authorizationPolicies: fields.texts('authorizationPolicies'),
    isHealthy: fields.oneOf('status', ['Healthy', 'Unhealthy'], 'Healthy') === 'Healthy',
    capacity: fields.number('capacity', 1),
    services: Object.fromEntries(
      fields.entries('services').map(([key, ports]) => [key, toPorts(ports)]),
    ),
    applicationTunnel: tunnel && {
      protocol: tunnel.oneOf('protocol', ['NONE', 'PROXY'], 'NONE'),
      port: tunnel.number('port', 0),
    },
  };
  locality?.finish();
  tunnel?.finish();
  fields.finish();
  return workload;
}

function toService(fields: Fields): Service {
  const balancer = fields.child('loadBalancer');
  fields.entries('endpoints'); // they come from the workloads
  const service: Service = {
    name: fields.text('name'),
    namespace: fields.text('namespace'),
    hostname: fields.text('hostname'),
    vips: fields.texts('vips').map(toNetworkAddress),
    cidrVips: fields
      .list('cidrVips')
      .map((entry, at) => toCidrVip(new Fields(`cidrVips ${at}`, entry))),
    ports: toPorts(Object.fromEntries(fields.entries('ports'))),
    subjectAltNames: fields.texts('subjectAltNames'),
    waypoint: toGateway(fields.child('waypoint')),
    weightedWaypoints: fields.list('weightedWaypoints').map((entry, at) => {
      const weighted = new Fields(`weightedWaypoints ${at}`, entry);
      const destination = toGateway(weighted.child('destination'));
      if (destination === undefined)
        throw new MeshError('bad_local_state', 'weighted waypoint without destination');
      return { destination, weight: weighted.number('weight', 0) };
    }),
    loadBalancer: {
      mode: MODES[balancer?.oneOf('mode', MODE_WORDS, 'Standard') ?? 'Standard'],
      routingPreferences: (balancer?.texts('routingPreferences') ?? []).map(toScope),
      healthPolicy:
        balancer?.oneOf('healthPolicy', ['OnlyHealthy', 'AllowAll'], 'OnlyHealthy') === 'AllowAll'
          ? 'ALLOW_ALL'
          : 'ONLY_HEALTHY',
    },
    ipFamilies:
      FAMILIES[fields.oneOf('ipFamilies', ['Automatic', 'Dual', 'IPv4', 'IPv6'], 'Automatic')],
    isCanonical: fields.flag('canonical'),
    visibility:
      fields.oneOf('visibility', ['Public', 'Namespace'], 'Public') === 'Public'
        ? 'PUBLIC'
        : 'NAMESPACE',
  };
  balancer?.finish();
  fields.finish();
  return service;
}

const FAMILIES = {
  Automatic: 'AUTOMATIC',
  Dual: 'DUAL',
  IPv4: 'IPV4_ONLY',
  IPv6: 'IPV6_ONLY',
} as const;
const SCOPES: readonly RoutingScope[] = ['REGION', 'ZONE', 'SUBZONE', 'NODE', 'CLUSTER', 'NETWORK'];

const MODE_WORDS = ['Standard', 'Strict', 'Failover', 'Passthrough'] as const;
const MODES = {
  Standard: 'STANDARD',
  Strict: 'STRICT',
  Failover: 'FAILOVER',
  Passthrough: 'PASSTHROUGH',
} as const;

function toScope(text: string): RoutingScope {
  const scope = SCOPES.find((known) => known === text.toUpperCase());
  if (scope === undefined) throw new MeshError('bad_local_state', `unknown scope "${text}"`);
  return scope;
}

function toPolicy(fields: Fields): Policy {
  const name = fields.text('name');
  const namespace = fields.text('namespace');
  const scopes = {
    Global: 'GLOBAL',
    Namespace: 'NAMESPACE',
    WorkloadSelector: 'WORKLOAD_SELECTOR',
  } as const;
  const policy: Policy = {
    key: `${namespace}/${name}`,
    name,
    namespace,
    scope: scopes[fields.oneOf('scope', ['Global', 'Namespace', 'WorkloadSelector'], 'Namespace')],
    action: fields.oneOf('action', ['Allow', 'Deny'], 'Allow') === 'Deny' ? 'DENY' : 'ALLOW',
    isDryRun: fields.flag('dryRun'),
    rules: fields
      .list('rules')
      .map((rule) =>
        asList(rule).map((clause) =>
          asList(clause).map((match) => toMatch(new Fields(`policy ${name}`, match))),
        ),
      ),
  };
  fields.finish();
  return policy;
}

function toMatch(fields: Fields): PolicyMatch {
  const strings = (key: string): StringMatch[] => fields.list(key).map(toStringMatch);
  const accounts = (key: string): PolicyMatch['serviceAccounts'] =>
    fields.list(key).map((entry) => {
      const account = new Fields(key, entry);
      return {
        namespace: account.text('namespace'),
        serviceAccount: account.text('serviceAccount'),
      };
    });
  const ranges = (key: string): Cidr[] => fields.texts(key).map(toCidr);
  const match: PolicyMatch = {
    namespaces: strings('namespaces'),
    notNamespaces: strings('notNamespaces'),
    serviceAccounts: accounts('serviceAccounts'),
    notServiceAccounts: accounts('notServiceAccounts'),
    principals: strings('principals'),
    notPrincipals: strings('notPrincipals'),
    sourceIps: ranges('sourceIps'),
    notSourceIps: ranges('notSourceIps'),
    destinationIps: ranges('destinationIps'),
    notDestinationIps: ranges('notDestinationIps'),
    destinationPorts: fields.list('destinationPorts').map(toPort),
    notDestinationPorts: fields.list('notDestinationPorts').map(toPort),
  };
  fields.finish();
  return match;
}

function toStringMatch(value: unknown): StringMatch {
  const fields = new Fields('string match', value);
  for (const [key, kind] of [
    ['Exact', 'exact'],
    ['Prefix', 'prefix'],
    ['Suffix', 'suffix'],
  ] as const) {
    if (fields.has(key)) return { kind, value: fields.text(key) };
  }
  if (fields.has('Presence')) return { kind: 'presence' };
  throw new MeshError(
    'bad_local_state',
    'string match must be !Exact, !Prefix, !Suffix or !Presence',
  );
}

function asList(value: unknown): readonly unknown[] {
  if (!Array.isArray(value))
    throw new MeshError('bad_local_state', 'rules are lists of lists of matches');
  return value as unknown[];
}

function toPorts(value: unknown): PortMapping[] {
  return Object.entries(new Fields('ports', value ?? {}).value).map(
    ([servicePort, targetPort]) => ({
      servicePort: toPort(servicePort),
      targetPort: toPort(targetPort),
    }),
  );
}

function toPort(value: unknown): number {
  const port = typeof value === 'string' && value.trim() === '' ? NaN : Number(value);
  if (!Number.isInteger(port) || port < 0 || port > MAX_PORT)
    throw new MeshError('bad_local_state', `not a port: "${String(value)}"`);
  return port;
}

function toIp(text: string): string {
  const ip = normalizeIp(text);
  if (ip === undefined) throw new MeshError('bad_local_state', `not an ip address: "${text}"`);
  return ip;
}

function toCidr(text: string): Cidr {
  const [address = '', length] = text.split('/');
  const bytes = parseIp(address);
  const bits = (bytes?.length ?? 0) * 8;
  // A length that is none would make a policy wider.
  const isLength = length === undefined || (/^\d{1,3}$/.test(length) && Number(length) <= bits);
  if (bytes === undefined || !isLength)
    throw new MeshError('bad_local_state', `not a cidr: "${text}"`);
  return { bytes, length: length === undefined ? bits : Number(length) };
}

function toNetworkAddress(text: string): { network: string; ip: string } {
  const at = text.indexOf('/');
  if (at < 0) throw new MeshError('bad_local_state', `"${text}" is not network/ip`);
  return { network: text.slice(0, at), ip: toIp(text.slice(at + 1)) };
}

function toCidrVip(fields: Fields): Service['cidrVips'][number] {
  const cidr = fields.text('cidr');
  const { length } = toCidr(cidr);
  const [address = ''] = cidr.split('/');
  return { network: fields.text('network'), ip: toIp(address), length };
}

function toGateway(fields: Fields | undefined): GatewayAddress | undefined {
  if (fields === undefined) return undefined;
  const destination = fields.text('destination');
  const port = fields.number('hboneMtlsPort', 15008);
  fields.finish();
  const at = destination.indexOf('/');
  const ip = normalizeIp(destination.slice(at + 1));
  if (ip !== undefined) return { kind: 'address', network: destination.slice(0, at), ip, port };
  return {
    kind: 'hostname',
    namespace: destination.slice(0, at),
    hostname: destination.slice(at + 1),
    port,
  };
}
