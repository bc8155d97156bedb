// Which VirtualServices apply to a service at its waypoint, in which order, and what to say of the others
//: those of the waypoint's or the service's namespace, attached to the mesh.
import type { VirtualService } from '../../resources/gen/virtual_service_pb.ts';
import { hostMatches, resolveHost } from '../../resources/host-name.ts';
import { byAge, type Resource } from '../../resources/resource.ts';
import type { ServiceEntity } from '../entities.ts';
import { findServices, groupBy, type MeshModel } from '../mesh-model.ts';
import type { VerdictReason } from '../types.ts';
import type { Attachment } from '../waypoint-binding.ts';
import { isVisible, reachOf } from './visibility.ts';

export type VirtualServiceResource = Resource<VirtualService>;

const REACH_ORDER = { private: 0, exported: 1, public: 2 } as const;

/** The rank of what is exported everywhere, as HTTPRoutes are. */
export const PUBLIC_RANK = REACH_ORDER.public;

/** VirtualServices by namespace, with their hosts resolved. */
export class VirtualServices {
  readonly #model: MeshModel;
  readonly #all: readonly VirtualServiceResource[];
  readonly #byNamespace: ReadonlyMap<string, readonly VirtualServiceResource[]>;
  readonly #hosts: ReadonlyMap<VirtualServiceResource, readonly string[]>;

  constructor(model: MeshModel, resources: readonly VirtualServiceResource[]) {
    this.#model = model;
    this.#all = resources;
    this.#byNamespace = groupBy(resources, ({ namespace }) => namespace);
    this.#hosts = new Map(
      resources.map((resource) => [
        resource,
        resource.spec.hosts.map((host) => resolveHost(host, resource.namespace, model.mesh.domain)),
      ]),
    );
  }

  /** Those for a service at a waypoint, in the order their routes are tried. */
  forService(service: ServiceEntity, waypointNamespace: string): VirtualServiceResource[] {
    const namespaces = [...new Set([waypointNamespace, service.namespace])];
    return namespaces
      .flatMap((namespace) => this.#byNamespace.get(namespace) ?? [])
      .filter((resource) => isMesh(resource))
      .filter((resource) =>
        isVisible(resource.spec.exportTo, resource.namespace, waypointNamespace),
      )
      .filter((resource) =>
        (this.#hosts.get(resource) ?? []).some((host) => hostMatches(host, service.hostname)),
      )
      .sort(byReach);
  }

  /** Says for every VirtualService where it is executed. */
  report(attachments: ReadonlyMap<string, Attachment>): void {
    for (const resource of this.#all) this.#reportOne(resource, attachments);
  }

  #reportOne(resource: VirtualServiceResource, attachments: ReadonlyMap<string, Attachment>): void {
    const { log } = this.#model;
    const { gateways, hosts } = resource.spec;
    gateways.forEach((gateway, index) => {
      if (gateway === 'mesh') return;
      const path = `spec.gateways[${index}]`;
      const message = `${path}: gateway ${gateway} is not served; only mesh is`;
      log.nowhere(resource, path, 'GatewayNotServed', message);
    });
    if (!isMesh(resource)) return;
    if (hosts.length === 0) {
      const message = 'spec.hosts: without hosts it is only delegated to, which is not served';
      log.nowhere(resource, 'spec.hosts', 'UnsupportedValue', message);
    }
    hosts.forEach((_, index) => this.#reportHost(resource, index, attachments));
  }

  #reportHost(
    resource: VirtualServiceResource,
    index: number,
    attachments: ReadonlyMap<string, Attachment>,
  ): void {
    const { log } = this.#model;
    const host = this.#hosts.get(resource)?.[index] ?? '';
    const path = `spec.hosts[${index}]`;
    const services = findServices(this.#model, host);
    const failures: [VerdictReason, string][] = [];
    let isExecuted = false;
    for (const service of services) {
      const failure = this.#obstacle(resource, service, attachments.get(service.key));
      if (failure !== undefined) {
        failures.push(failure);
        continue;
      }
      const waypoint = attachments.get(service.key)?.attached?.key ?? '';
      const message = `executed by waypoint ${waypoint} for ${service.hostname}`;
      const verdict = { field: path, enforcedAt: 'waypoint', reason: 'Accepted' } as const;
      log.add(resource, { ...verdict, message, waypoint });
      isExecuted = true;
    }
    if (services.length === 0) {
      log.nowhere(resource, path, 'HostNotFound', `${path}: there is no service ${host}`);
    }
    const [failure] = failures;
    if (isExecuted || failure === undefined) return;
    log.nowhere(resource, path, failure[0], `${path}: ${failure[1]}`);
  }

  #obstacle(
    resource: VirtualServiceResource,
    service: ServiceEntity,
    attachment: Attachment | undefined,
  ): [VerdictReason, string] | undefined {
    const gateway = attachment?.attached;
    if (gateway === undefined) {
      const why = attachment?.binding?.message;
      const hint = why === undefined ? 'label it with istio.io/use-waypoint' : why;
      return ['NoWaypoint', `service ${service.hostname} has no waypoint: ${hint}`];
    }
    if (!gateway.isServed) {
      const why = `waypoint ${gateway.key} of ${service.hostname} has class ${gateway.className}, which another controller serves`;
      return ['GatewayNotServed', why];
    }
    const { namespace } = resource;
    if (namespace !== gateway.namespace && namespace !== service.namespace) {
      const why = `only VirtualServices of namespace ${service.namespace} or ${gateway.namespace} apply to ${service.hostname}`;
      return ['ForeignNamespace', why];
    }
    if (!isVisible(resource.spec.exportTo, namespace, gateway.namespace)) {
      const why = `spec.exportTo hides it from waypoint ${gateway.key}`;
      return ['ForeignNamespace', why];
    }
    return undefined;
  }
}

function isMesh(resource: VirtualServiceResource): boolean {
  const { gateways } = resource.spec;
  return gateways.length === 0 || gateways.includes('mesh');
}

/** What is exported less far is tried first. */
export function reachRank(resource: VirtualServiceResource): number {
  return REACH_ORDER[reachOf(resource.spec.exportTo, resource.namespace)];
}

function byReach(a: VirtualServiceResource, b: VirtualServiceResource): number {
  return reachRank(a) - reachRank(b) || byAge(a, b);
}
