// What the control plane compiled for this waypoint, decoded, checked and indexed. A bad resource throws before
// anything is changed, so the last good one stays. Requests hold on to the objects they began with.
import { fromBinary } from '@bufbuild/protobuf';
import { MeshError } from '../../common/errors.ts';
import {
  AuthorizationPolicySchema,
  ClusterSchema,
  PortProtocol,
  ServiceRoutesSchema,
  SubsetMembersSchema,
} from '../../common/l7/gen/l7_pb.ts';
import type {
  Cluster,
  ServiceRoutes,
  SubsetMembers,
  WeightedCluster,
} from '../../common/l7/gen/l7_pb.ts';
import { compilePolicy } from '../../common/l7/authorization.ts';
import type { CompiledPolicy } from '../../common/l7/authorization.ts';
import { compileRouteTable, inField } from '../../common/l7/route-table.ts';
import type { RouteTable } from '../../common/l7/route-table.ts';

const TYPE_PREFIX = 'type.googleapis.com/ambientmesh.l7.v1.';

/** The four resource types, in the order they are subscribed to. */
export const L7_KINDS = [
  'Cluster',
  'SubsetMembers',
  'ServiceRoutes',
  'AuthorizationPolicy',
] as const;
export type L7Kind = (typeof L7_KINDS)[number];

/** Type URL of a kind. */
export function l7TypeUrl(kind: L7Kind): string {
  return TYPE_PREFIX + kind;
}

export type ChainProtocol = 'auto' | 'http' | 'tcp' | 'grpc' | 'http2';

/** One port of a service. */
export interface ServicePortConfig {
  readonly port: number;
  readonly protocol: ChainProtocol;
  readonly routes: RouteTable;
  readonly tcpClusters: readonly WeightedCluster[];
}

/** A service bound to this waypoint. */
export interface ServiceConfig {
  /** `namespace/hostname`. */
  readonly key: string;
  readonly namespace: string;
  readonly hostname: string;
  readonly name: string;
  readonly ports: ReadonlyMap<number, ServicePortConfig>;
}

/** A decoded resource of any kind. */
export type L7Resource =
  | { readonly kind: 'ServiceRoutes'; readonly value: ServiceConfig }
  | { readonly kind: 'Cluster'; readonly value: Cluster }
  | { readonly kind: 'SubsetMembers'; readonly value: SubsetMembers }
  | { readonly kind: 'AuthorizationPolicy'; readonly value: CompiledPolicy };

const PROTOCOLS = new Map<number, ChainProtocol>([
  [PortProtocol.AUTO, 'auto'],
  [PortProtocol.HTTP, 'http'],
  [PortProtocol.TCP, 'tcp'],
  [PortProtocol.GRPC, 'grpc'],
  [PortProtocol.HTTP2, 'http2'],
]);

/** Decodes and compiles. Throws `bad_resource` with kind, name and field. */
export function decodeL7Resource(kind: L7Kind, name: string, bytes: Uint8Array): L7Resource {
  return inField(`${kind} ${name}`, () => {
    switch (kind) {
      case 'ServiceRoutes':
        return { kind, value: compileService(fromBinary(ServiceRoutesSchema, bytes)) };
      case 'Cluster':
        return { kind, value: checkCluster(fromBinary(ClusterSchema, bytes)) };
      case 'SubsetMembers':
        return { kind, value: fromBinary(SubsetMembersSchema, bytes) };
      case 'AuthorizationPolicy':
        return { kind, value: compilePolicy(fromBinary(AuthorizationPolicySchema, bytes)) };
    }
  });
}

function compileService(routes: ServiceRoutes): ServiceConfig {
  if (routes.hostname === '') throw new MeshError('bad_resource', 'hostname: is empty');
  const ports = new Map<number, ServicePortConfig>();
  for (const [at, port] of routes.ports.entries()) {
    const protocol = PROTOCOLS.get(port.protocol);
    if (protocol === undefined) {
      throw new MeshError('bad_resource', `ports[${at}].protocol: unknown value ${port.protocol}`);
    }
    ports.set(port.servicePort, {
      port: port.servicePort,
      protocol,
      routes: inField(`ports[${at}]`, () => compileRouteTable(port)),
      tcpClusters: port.tcpClusters,
    });
  }
  return {
    key: `${routes.namespace}/${routes.hostname}`,
    namespace: routes.namespace,
    hostname: routes.hostname,
    name: routes.name === '' ? (routes.hostname.split('.')[0] ?? '') : routes.name,
    ports,
  };
}

function checkCluster(cluster: Cluster): Cluster {
  if (cluster.name === '') throw new MeshError('bad_resource', 'name: is empty');
  if (cluster.hostname === '') throw new MeshError('bad_resource', 'hostname: is empty');
  return cluster;
}

/** The indexes. */
export class L7Config {
  readonly #services = new Map<string, ServiceConfig>();
  readonly #clusters = new Map<string, Cluster>();
  readonly #members = new Map<string, ReadonlySet<string>>();
  readonly #policies = new Map<string, CompiledPolicy>();
  /** Policies by service key, built on demand. */
  readonly #bound = new Map<string, readonly CompiledPolicy[]>();
  #version = 0;

  /** Changes whenever clusters or members do. */
  get version(): number {
    return this.#version;
  }

  upsert(name: string, resource: L7Resource): void {
    switch (resource.kind) {
      case 'ServiceRoutes':
        this.#services.set(resource.value.key, resource.value);
        break;
      case 'Cluster':
        this.#clusters.set(name, resource.value);
        this.#version++;
        break;
      case 'SubsetMembers':
        this.#members.set(name, new Set(resource.value.workloadUids));
        this.#version++;
        break;
      case 'AuthorizationPolicy':
        this.#policies.set(name, resource.value);
        this.#bound.clear();
        break;
    }
  }

  remove(kind: L7Kind, name: string): void {
    switch (kind) {
      case 'ServiceRoutes':
        this.#services.delete(name);
        break;
      case 'Cluster':
        this.#clusters.delete(name);
        this.#version++;
        break;
      case 'SubsetMembers':
        this.#members.delete(name);
        this.#version++;
        break;
      case 'AuthorizationPolicy':
        this.#policies.delete(name);
        this.#bound.clear();
        break;
    }
  }

  service(key: string): ServiceConfig | undefined {
    return this.#services.get(key);
  }

  cluster(name: string): Cluster | undefined {
    return this.#clusters.get(name);
  }

  /** Members of a subset; undefined until the control plane has sent them. */
  members(cluster: string): ReadonlySet<string> | undefined {
    return this.#members.get(cluster);
  }

  /** Policies for a service, or those of the whole gateway when `key` is ''. */
  policiesFor(key: string): readonly CompiledPolicy[] {
    let bound = this.#bound.get(key);
    if (bound === undefined) {
      bound = [...this.#policies.values()].filter(
        ({ isWholeGateway, services }) => isWholeGateway || services.includes(key),
      );
      this.#bound.set(key, bound);
    }
    return bound;
  }

  /** Resource names by kind, for the admin dump. */
  describe(): Record<string, unknown> {
    return {
      services: [...this.#services.values()].map((service) => ({
        key: service.key,
        ports: [...service.ports.values()].map(({ port, protocol, routes, tcpClusters }) => ({
          port,
          protocol,
          routes: routes.routes.map(({ route }) => ({ name: route.name, source: route.source })),
          tcpClusters: tcpClusters.map(({ cluster, weight }) => ({ cluster, weight })),
        })),
      })),
      clusters: [...this.#clusters.values()].map(
        ({ name, hostname, servicePort, subset, lbPolicy, http2 }) => ({
          name,
          hostname,
          servicePort,
          subset,
          lbPolicy,
          http2,
          members: [...(this.#members.get(name) ?? [])],
        }),
      ),
      authorizationPolicies: [...this.#policies.values()].map(
        ({ name, action, isDryRun, isWholeGateway, services, rules }) => ({
          name,
          action,
          isDryRun,
          isWholeGateway,
          services,
          rules: rules.length,
        }),
      ),
    };
  }
}
