// Finds the DestinationRule of a service as a waypoint sees it: the waypoint's
// namespace, then the service's, then the root namespace; rules for one host in one namespace are merged.
import {
  ClientTLSSettings_TLSmode,
  type DestinationRule,
  type Subset,
  type TrafficPolicy,
} from '../../resources/gen/destination_rule_pb.ts';
import { hostMatches, resolveHost } from '../../resources/host-name.ts';
import type { Resource } from '../../resources/resource.ts';
import type { ServiceEntity } from '../entities.ts';
import { findServices, groupBy, type MeshModel } from '../mesh-model.ts';
import type { Attachment } from '../waypoint-binding.ts';
import { isVisible } from './visibility.ts';

export type RuleResource = Resource<DestinationRule>;

/** A subset and the rule that defines it. */
export interface SubsetRule {
  readonly subset: Subset;
  readonly rule: RuleResource;
}

/** All rules for one host, merged. */
export interface MergedRule {
  readonly trafficPolicy: TrafficPolicy | undefined;
  readonly subsets: ReadonlyMap<string, SubsetRule>;
  readonly rules: readonly RuleResource[];
}

interface HostRule {
  readonly host: string;
  readonly rule: RuleResource;
}

/** Every DestinationRule, with which of them were used and where. */
export class DestinationRules {
  readonly #model: MeshModel;
  readonly #byNamespace: ReadonlyMap<string, readonly HostRule[]>;
  readonly #rules: readonly RuleResource[];
  /** Rule to the waypoints ("namespace/name") that execute it. */
  readonly #users = new Map<RuleResource, Set<string>>();

  constructor(model: MeshModel, rules: readonly RuleResource[]) {
    this.#model = model;
    this.#rules = rules;
    const hosts = rules.map((rule) => ({
      rule,
      host: resolveHost(rule.spec.host, rule.namespace, model.mesh.domain),
    }));
    this.#byNamespace = groupBy(hosts, ({ rule }) => rule.namespace);
  }

  /** The merged rule for a service, as a waypoint in a namespace sees it. */
  find(
    service: ServiceEntity,
    waypoint: { key: string; namespace: string },
  ): MergedRule | undefined {
    const { rootNamespace } = this.#model.mesh;
    const order = [waypoint.namespace, service.namespace, rootNamespace].filter(
      (namespace, index) => index > 0 || namespace !== rootNamespace,
    );
    for (const namespace of order) {
      const found = this.#findIn(namespace, service.hostname, waypoint.namespace);
      if (found.length === 0) continue;
      for (const rule of found) {
        const users = this.#users.get(rule) ?? new Set<string>();
        this.#users.set(rule, users.add(waypoint.key));
      }
      return mergeRules(found);
    }
    return undefined;
  }

  #findIn(namespace: string, hostname: string, consumer: string): readonly RuleResource[] {
    const matching = (this.#byNamespace.get(namespace) ?? []).filter(
      ({ host, rule }) =>
        hostMatches(host, hostname) && isVisible(rule.spec.exportTo, namespace, consumer),
    );
    // Exact before wildcard, and the longest wildcard first.
    const best = matching.reduce(
      (longest, { host }) => (specificity(host) > specificity(longest) ? host : longest),
      '',
    );
    return matching.filter(({ host }) => host === best).map(({ rule }) => rule);
  }

  /** Says for every rule whether it has an effect; to be called when everything else is compiled. */
  report(attachments: ReadonlyMap<string, Attachment>): void {
    for (const rule of this.#rules) {
      const users = [...(this.#users.get(rule) ?? [])].sort();
      for (const waypoint of users) {
        const message = `executed by waypoint ${waypoint}`;
        const verdict = { field: 'spec', enforcedAt: 'waypoint', reason: 'Accepted' } as const;
        this.#model.log.add(rule, { ...verdict, message, waypoint });
      }
      if (users.length === 0) this.#reportUnused(rule, attachments);
      else this.#reportValues(rule);
    }
  }

  #reportUnused(rule: RuleResource, attachments: ReadonlyMap<string, Attachment>): void {
    const { log, mesh } = this.#model;
    const host = resolveHost(rule.spec.host, rule.namespace, mesh.domain);
    const services = findServices(this.#model, host);
    if (services.length === 0) {
      log.nowhere(rule, 'spec.host', 'HostNotFound', `spec.host: there is no service ${host}`);
      return;
    }
    const bound = services.some(({ key }) => attachments.get(key)?.attached !== undefined);
    if (!bound) {
      const message = `spec.host: service ${host} has no waypoint, so nobody executes this rule`;
      log.nowhere(rule, 'spec.host', 'NoWaypoint', message);
      return;
    }
    const message = `spec.host: another rule applies to ${host}, or this one is not visible to its waypoint`;
    log.nowhere(rule, 'spec.host', 'Shadowed', message);
  }

  #reportValues(rule: RuleResource): void {
    const policies: [string, TrafficPolicy | undefined][] = [
      ['spec.trafficPolicy', rule.spec.trafficPolicy],
      ...rule.spec.subsets.map((subset, index): [string, TrafficPolicy | undefined] => [
        `spec.subsets[${index}].trafficPolicy`,
        subset.trafficPolicy,
      ]),
    ];
    for (const [path, policy] of policies) {
      this.#reportTls(rule, `${path}.tls.mode`, policy?.tls?.mode);
      policy?.portLevelSettings.forEach((settings, index) => {
        this.#reportTls(rule, `${path}.portLevelSettings[${index}].tls.mode`, settings.tls?.mode);
      });
    }
  }

  #reportTls(rule: RuleResource, path: string, mode: ClientTLSSettings_TLSmode | undefined): void {
    const isOriginated =
      mode === ClientTLSSettings_TLSmode.SIMPLE || mode === ClientTLSSettings_TLSmode.MUTUAL;
    if (!isOriginated) return;
    const message = `${path}: TLS origination is not served; mesh traffic is mutual TLS by itself`;
    this.#model.log.nowhere(rule, path, 'UnsupportedValue', message);
  }
}

function specificity(host: string): number {
  if (host === '') return -1;
  return host.startsWith('*') ? host.length : 1000 + host.length;
}

// Oldest first: unique subset names are appended, the first traffic policy is kept.
function mergeRules(rules: readonly RuleResource[]): MergedRule {
  const subsets = new Map<string, SubsetRule>();
  for (const rule of rules) {
    for (const subset of rule.spec.subsets) {
      if (!subsets.has(subset.name)) subsets.set(subset.name, { subset, rule });
    }
  }
  const first = rules.find((rule) => rule.spec.trafficPolicy !== undefined);
  return { trafficPolicy: first?.spec.trafficPolicy, subsets, rules };
}
