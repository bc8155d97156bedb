// Builds workloads, services and policies for tests: every field has a plain default.
import type { Policy, PolicyMatch } from '../../common/policy/model.ts';
import type { Service, Workload } from '../../common/workload/model.ts';

/** A pod `name` at `ip`, meshed by default. */
export function makeWorkload(name: string, ip: string, more: Partial<Workload> = {}): Workload {
  return {
    uid: `Kubernetes//Pod/default/${name}`,
    name,
    namespace: 'default',
    serviceAccount: name,
    trustDomain: 'cluster.local',
    ips: ip === '' ? [] : [ip],
    hostname: '',
    network: '',
    protocol: 'HBONE',
    isNativeTunnel: false,
    isHostNetwork: false,
    isNodeLocalAllowed: false,
    l7Percent: 0,
    waypoint: undefined,
    networkGateway: undefined,
    node: 'node-a',
    workloadName: name,
    workloadType: 'deployment',
    canonicalName: name,
    canonicalRevision: 'v1',
    clusterId: 'Kubernetes',
    locality: { region: '', zone: '', subzone: '' },
    authorizationPolicies: [],
    isHealthy: true,
    capacity: 1,
    services: {},
    applicationTunnel: undefined,
    ...more,
  };
}

/** A service `name.default` with port 80 to 8080. */
export function makeService(name: string, vip: string, more: Partial<Service> = {}): Service {
  return {
    name,
    namespace: 'default',
    hostname: `${name}.default.svc.cluster.local`,
    vips: vip === '' ? [] : [{ network: '', ip: vip }],
    cidrVips: [],
    ports: [{ servicePort: 80, targetPort: 8080 }],
    subjectAltNames: [],
    waypoint: undefined,
    weightedWaypoints: [],
    loadBalancer: { mode: 'STANDARD', routingPreferences: [], healthPolicy: 'ONLY_HEALTHY' },
    ipFamilies: 'AUTOMATIC',
    isCanonical: false,
    visibility: 'PUBLIC',
    ...more,
  };
}

/** Membership of {@link makeService}'s service, for `Workload.services`. */
export function memberOf(...names: string[]): Workload['services'] {
  return Object.fromEntries(
    names.map((name) => [
      `default/${name}.default.svc.cluster.local`,
      [{ servicePort: 80, targetPort: 8080 }],
    ]),
  );
}

/** A match with nothing set but what is given. */
export function makeMatch(more: Partial<PolicyMatch> = {}): PolicyMatch {
  return {
    namespaces: [],
    notNamespaces: [],
    serviceAccounts: [],
    notServiceAccounts: [],
    principals: [],
    notPrincipals: [],
    sourceIps: [],
    notSourceIps: [],
    destinationIps: [],
    notDestinationIps: [],
    destinationPorts: [],
    notDestinationPorts: [],
    ...more,
  };
}

/** A namespace-wide policy of namespace default. */
export function makePolicy(name: string, more: Partial<Policy> = {}): Policy {
  return {
    key: `default/${name}`,
    name,
    namespace: 'default',
    scope: 'NAMESPACE',
    action: 'ALLOW',
    isDryRun: false,
    rules: [],
    ...more,
  };
}
