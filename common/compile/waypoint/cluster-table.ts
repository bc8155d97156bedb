// The clusters one waypoint needs, made as routes refer to them: one for a service port, one more for each subset of
// it that is used, with the subset's members.
import { create } from '@bufbuild/protobuf';
import {
  ClusterSchema,
  SubsetMembersSchema,
  type Cluster,
  type SubsetMembers,
} from '../../l7/gen/l7_pb.ts';
import { compareText } from '../../resources/resource.ts';
import type { Endpoints } from '../endpoints.ts';
import type { ServiceEntity, ServicePortEntity } from '../entities.ts';
import type { GatewayEntity } from '../gateways.ts';
import { selects, type MeshModel } from '../mesh-model.ts';
import type { DestinationRules, MergedRule, SubsetRule } from './destination-rules.ts';
import { applyPolicy, overlayPolicy, policyForPort } from './traffic-policy.ts';

/** What the clusters of all waypoints are made from. */
export interface ClusterSources {
  readonly model: MeshModel;
  readonly endpoints: Endpoints;
  readonly rules: DestinationRules;
}

export class ClusterTable {
  readonly clusters = new Map<string, Cluster>();
  readonly members = new Map<string, SubsetMembers>();
  readonly #sources: ClusterSources;
  readonly #waypoint: GatewayEntity;
  readonly #merged = new Map<string, MergedRule | undefined>();

  constructor(sources: ClusterSources, waypoint: GatewayEntity) {
    this.#sources = sources;
    this.#waypoint = waypoint;
  }

  /** The name of the cluster for a port, or for a subset; undefined when there is no such subset. */
  refer(service: ServiceEntity, port: ServicePortEntity, subset = ''): string | undefined {
    const merged = this.#ruleFor(service);
    const rule = subset === '' ? undefined : merged?.subsets.get(subset);
    if (subset !== '' && rule === undefined) return undefined;
    const name = `outbound|${port.port}|${subset}|${service.hostname}`;
    if (!this.clusters.has(name)) {
      const cluster = this.#build(name, service, port, merged);
      if (rule !== undefined) this.#narrow(cluster, service, port, rule);
      this.clusters.set(name, cluster);
    }
    return name;
  }

  /** The subset names known for a service. */
  subsetNames(service: ServiceEntity): string[] {
    return [...(this.#ruleFor(service)?.subsets.keys() ?? [])];
  }

  #ruleFor(service: ServiceEntity): MergedRule | undefined {
    if (!this.#merged.has(service.key)) {
      this.#merged.set(service.key, this.#sources.rules.find(service, this.#waypoint));
    }
    return this.#merged.get(service.key);
  }

  #build(
    name: string,
    service: ServiceEntity,
    port: ServicePortEntity,
    merged: MergedRule | undefined,
  ): Cluster {
    const cluster = create(ClusterSchema, {
      name,
      namespace: service.namespace,
      hostname: service.hostname,
      servicePort: port.port,
      http2: port.protocol === 'grpc' || port.protocol === 'http2',
    });
    applyPolicy(cluster, policyForPort(merged?.trafficPolicy, port.port));
    return cluster;
  }

  #narrow(
    cluster: Cluster,
    service: ServiceEntity,
    port: ServicePortEntity,
    { subset, rule }: SubsetRule,
  ): void {
    cluster.subset = subset.name;
    cluster.hasMembers = true;
    const base = policyForPort(this.#ruleFor(service)?.trafficPolicy, port.port);
    applyPolicy(cluster, overlayPolicy(base, policyForPort(subset.trafficPolicy, port.port)));
    const pods = this.#sources.endpoints.podsOf.get(service.key) ?? [];
    const workloadUids = pods
      .filter((pod) => selects(subset.labels, pod.labels))
      .map((pod) => pod.uid)
      .sort(compareText);
    const members = create(SubsetMembersSchema, { cluster: cluster.name, workloadUids });
    this.members.set(cluster.name, members);
    if (workloadUids.length > 0) return;
    const index = rule.spec.subsets.indexOf(subset);
    const path = `spec.subsets[${index}]`;
    const message = `${path}: no endpoint of ${service.hostname} has the labels of subset ${subset.name}; its share is answered with 503`;
    this.#sources.model.log.nowhere(rule, path, 'NoWorkloads', message);
  }
}
